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

  @Test("finds no more than is claimed in any sound configuration, and a good part of it where all is uploaded")
  func sound() async throws {
    let subjects = AuditSubject.sound(AuditSubject.standardStrategies)
    #expect(subjects.count == 6)
    // Little noise: what is claimed is large, and few runs suffice to see a part of it.
    let report = try await audit(subjects, runs: 60, noiseMultiplier: 0.7)
    #expect(report.hasPassed && report.rows.allSatisfy { $0.verdict == .sound && $0.lowerBound < $0.claimed })
    for row in report.rows where !row.name.hasPrefix("fedsa-lora") {
      #expect(row.lowerBound > row.claimed / 5, "\(row.name): \(row.lowerBound) of \(row.claimed)")
    }
    print(report.table, report.seconds)
  }

  @Test("catches every configuration that is broken on purpose")
  func caught() async throws {
    let report = try await audit(PrivacyAuditTests.broken, runs: 60, noiseMultiplier: 1.5)
    #expect(report.hasPassed && report.rows.allSatisfy { $0.verdict == .caught && $0.lowerBound > $0.claimed })
    #expect(report.rows.map(\.name) == ["noise-off", "per-tensor-clipping", "unsound-fedsa"])
    print(report.table, report.seconds)
  }

  @Test("does not pass where a broken configuration is missed")
  func missed() async throws {
    let report = try await audit([.broken(.noiseOff)], runs: 20, noiseMultiplier: 0.3)
    #expect(report.rows.map(\.verdict) == [.missed])
    #expect(!report.hasPassed)
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
