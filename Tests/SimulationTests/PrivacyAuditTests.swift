import FedLoRAClient
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRASimulation
import Foundation
import Testing

/// The audit of private training on the embedded model, with seeded noise.
@Suite("A privacy audit", .timeLimit(.minutes(3)), .serialized)
struct PrivacyAuditTests {
  private static let broken = AuditSubject.BrokenForm.allCases.map { AuditSubject.broken($0) }

  private func audit(_ subjects: [AuditSubject], runs: Int, noiseMultiplier: Double) async throws -> AuditReport {
    var options = PrivacyAudit.Options()
    options.runs = runs
    options.seed = 1
    options.noiseMultiplier = noiseMultiplier
    return try await PrivacyAudit(subjects, options: options).run()
  }

  @Test("finds no more than is claimed in any sound configuration")
  func sound() async throws {
    let subjects = AuditSubject.sound(AuditSubject.standardStrategies)
    #expect(subjects.count == 6)
    // With so little claimed, these few runs would show that noise is missing.
    let report = try await audit(subjects, runs: 30, noiseMultiplier: 4)
    #expect(report.hasPassed && report.rows.allSatisfy { $0.verdict == .sound && $0.lowerBound < $0.claimed })
    #expect(abs(report.significance - 0.05 / 12) < 1e-15)
  }

  @Test("finds a good part of what is claimed where all that a record moves is uploaded")
  func power() async throws {
    let report = try await audit([.sound(.ffaLoRA, .joint)], runs: 100, noiseMultiplier: 0.7)
    let row = try #require(report.rows.first)
    #expect(row.lowerBound > row.claimed / 5 && row.lowerBound < row.claimed, "\(row)")
  }

  @Test("catches every configuration that is broken on purpose")
  func caught() async throws {
    let report = try await audit(PrivacyAuditTests.broken, runs: 40, noiseMultiplier: 1.5)
    #expect(report.hasPassed && report.rows.allSatisfy { $0.verdict == .caught }, "\(report.table)")
    #expect(report.rows.map(\.name) == ["noise-off", "per-tensor-clipping", "unsound-fedsa"])
  }

  @Test("does not pass where few runs cannot show a mistake")
  func missed() async throws {
    let report = try await audit([.broken(.noiseOff)], runs: 20, noiseMultiplier: 0.3)
    #expect(report.rows.map(\.verdict) == [.missed])
    #expect(!report.hasPassed)
  }

  @Test("takes noise from the seed, another for every run and world, and from the system without a seed")
  func noise() async throws {
    let preparation = try await Blocking.run { try AuditPreparation(noiseMultiplier: 1.5, steps: 1) }
    let (terms, privacy) = try preparation.terms(.sound(.fedsvd, .joint))
    let slots = EngineSlots(base: preparation.data.base, count: 1, threadsPerSlot: 1)
    let scores = try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
      let setting = try preparation.setting(.sound(.fedsvd, .joint), terms, privacy, runner)
      let plays: [(hasCanary: Bool, run: Int, seed: UInt64?)] = [
        (false, 0, 1), (false, 0, 1), (false, 1, 1), (true, 0, 1), (false, 0, 2), (false, 0, nil), (false, 0, nil),
      ]
      return try plays.map {
        try setting.play(runner, hasCanary: $0.hasCanary, run: $0.run, seed: $0.seed, stop: StopFlag())
      }
    }
    #expect(scores[0] == scores[1])
    #expect(Set(scores).count == scores.count - 1)
  }

  @Test("a bound above the claim is a leak, or a mistake that was caught")
  func verdicts() {
    func verdict(_ isBroken: Bool, _ bound: Double) -> AuditReport.Verdict {
      AuditReport.Verdict(isBroken: isBroken, claimed: 4, lowerBound: bound)
    }
    #expect(verdict(false, 4) == .sound && verdict(false, 4.1) == .leaks)
    #expect(verdict(true, 4) == .missed && verdict(true, 4.1) == .caught)
    #expect(!AuditReport.Verdict.leaks.isAsExpected && !AuditReport.Verdict.missed.isAsExpected)
  }

  /// By how much, in units of C, one record changes the clipped sums of the second step, all that left the client in the
  /// first being the same. At most 1, or the noise does not cover it.
  private func change(_ subject: AuditSubject) async throws -> Double {
    let preparation = try await Blocking.run { try AuditPreparation(noiseMultiplier: 1.5, steps: 1) }
    let (terms, privacy) = try preparation.terms(subject)
    let slots = EngineSlots(base: preparation.data.base, count: 1, threadsPerSlot: 1)
    return try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
      let setting = try preparation.setting(subject, terms, privacy, runner)
      let worlds = [setting.records, setting.records + [setting.canary]]
      var parameters = try worlds.map { records in
        var values = setting.start
        try setting.mechanism.train(
          runner,
          parameters: &values,
          examples: records,
          randomness: .seeded(7),
          afterStep: { _ in }
        )
        return values
      }
      let released = setting.noiseFree.released
      for range in runner.trainedRanges(released) {
        #expect(parameters[0][range] != setting.start[range])
        parameters[1].replaceSubrange(range, with: parameters[0][range])
      }
      let count = runner.trainedCount(released)
      let grid = try NoiseGrid(
        clippingNorm: privacy.clippingNorm,
        noiseMultiplier: privacy.noiseMultiplier,
        dimension: count
      )
      let clipping = try ExampleClipping(rule: privacy.clipping, bound: grid.clippingLimit, step: grid.step)
      let sums = try zip(worlds, parameters).map { records, values in
        var batch = PackedBatch()
        for record in records { batch.append(tokens: record.ids, tokenTypes: record.typeIds, label: record.label) }
        var sum = [Int64](repeating: 0, count: count)
        _ = try runner.addClipped(
          batch,
          parameters: values,
          trained: released,
          dropoutKey: nil,
          clipping: clipping,
          to: &sum
        )
        return sum
      }
      let squares = zip(sums[0], sums[1]).reduce(0.0) { $0 + pow(Double($1.1 - $1.0), 2) }
      return squares.squareRoot() * grid.step / privacy.clippingNorm
    }
  }

  @Test("FedSA whose B learns without noise leaks: one record moves the second step's gradients of A by more than C")
  func unsoundFedSA() async throws {
    let change = try await change(.broken(.unsoundFedSA))
    // 16 records turn around with B; noise was made for 1.
    #expect(change > 5, "\(change)")
  }

  @Test(
    "FedSA whose B is noised too, held, or trained after the last upload stays within C",
    arguments: PersonalForm.allCases
  )
  func soundFedSA(form: PersonalForm) async throws {
    let change = try await change(.sound(.fedsaLoRA, form))
    #expect(change > 0.5 && change <= 1, "\(change)")
  }

  @Test("refuses options outside their ranges")
  func refusals() throws {
    for change: (inout PrivacyAudit.Options) -> Void in [
      { $0.runs = 19 }, { $0.steps = 0 }, { $0.noiseMultiplier = 0 }, { $0.confidence = 1 },
    ] {
      var options = PrivacyAudit.Options()
      change(&options)
      #expect(throws: PrivacyParameterError.self) { try PrivacyAudit([], options: options) }
    }
  }
}
