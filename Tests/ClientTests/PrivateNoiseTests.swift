import FedLoRACheckpoint
import FedLoRAClient
import FedLoRADP
import FedLoRAEngine
import Foundation
import Testing

/// What a client releases when its data contribute nothing: noise alone, of the stated size, never the same twice.
@Suite("The noise of a client", .timeLimit(.minutes(1)))
struct PrivateNoiseTests {
  /// 46,000 trained numbers: more than one block of the noise's streams. Powers of two, so that scaling is exact.
  private static func run(isSeeded: Bool, localSteps: Int = 2) throws -> PrivateRun {
    try PrivateRun(
      hidden: 64,
      layers: 3,
      rank: 32,
      localSteps: localSteps,
      noise: 2,
      clippingNorm: 0.25,
      divisor: 16,
      isSeeded: isSeeded
    )
  }

  /// σ·C/divisor of these terms.
  private static let deviation = 2 * 0.25 / 16

  // MARK: Seeded: every step by itself

  /// The parameters after so many steps from zero without data, trained elements only.
  private func parameters(
    _ run: PrivateRun,
    _ client: String,
    round: Int,
    steps: Int,
    runner: ModelRunner
  ) throws -> [Float] {
    let terms = try RunTerms(run.manifest)
    let record = try run.terms
    let privacy = ClientPrivacy(ledgerFolder: run.ledgers(client))
    var values = [Float](repeating: 0, count: runner.model.layout.count)
    try PrivateTraining(
      terms: record,
      options: terms.options,
      trained: terms.trained,
      randomness: privacy.randomness(run.assignment(client, round: round), terms: record),
      dropoutSeed: 1
    ).run(runner, parameters: &values, examples: [], steps: steps, firstStep: 0)
    return runner.trainedRanges(terms.trained).flatMap { values[$0] }
  }

  private func runner(_ run: PrivateRun, threads: Int = 1) throws -> ModelRunner {
    let terms = try RunTerms(run.manifest)
    return ModelRunner(
      model: try AdaptedModel(base: run.base, adapter: terms.adapter, head: terms.head),
      pool: ComputePool(threadCount: threads)
    )
  }

  /// In all about 130 checks that each fail by chance for at most one seed in 10⁸: 1.3e-6 together.
  @Test("of clients, rounds, steps and tensors is uncorrelated, and has the moments of N(0, (σC/divisor)²)")
  func seeded() throws {
    let run = try Self.run(isSeeded: true)
    let runner = try runner(run)
    defer { runner.pool.shutDown() }
    let errorRate = 1e-8
    var streams: [(name: String, z: [Double])] = []
    for client in ["c1", "c2"] {
      for round in [1, 2] {
        let first = try parameters(run, client, round: round, steps: 1, runner: runner)
        let both = try parameters(run, client, round: round, steps: 2, runner: runner)
        // A step of rate 1 subtracts the noise; what follows the first is the second.
        streams.append(("\(client), round \(round), step 1", first.map { -Double($0) / Self.deviation }))
        streams.append(
          ("\(client), round \(round), step 2", zip(first, both).map { (Double($0) - Double($1)) / Self.deviation })
        )
      }
    }
    #expect(streams[0].z.count > NoiseGrid.blockSize)
    for (index, one) in streams.enumerated() {
      NoiseStatistics.expectMean(one.z, errorRate: errorRate, one.name)
      NoiseStatistics.expectVariance(one.z, errorRate: errorRate, one.name)
      for other in streams[..<index] {
        let what = "\(one.name) and \(other.name)"
        NoiseStatistics.expectUncorrelated(one.z, other.z, errorRate: errorRate, what)
        NoiseStatistics.expectNoStreamTwice(one.z, other.z, what)
      }
    }
    NoiseStatistics.expectKurtosis(streams.flatMap(\.z), errorRate: errorRate, "all")
    // Tensors of one step against one another, and the stream against itself moved by a little and by a block.
    let trained = try RunTerms(run.manifest).trained
    var place = 0
    var tensors: [(name: String, z: ArraySlice<Double>)] = []
    for entry in runner.model.layout.entries where trained.includes(entry.kind) {
      tensors.append((entry.name, streams[0].z[place..<place + entry.count]))
      place += entry.count
    }
    #expect(place == streams[0].z.count && tensors.count >= 12)
    for (index, one) in tensors.enumerated() where one.z.count >= 1000 {
      NoiseStatistics.expectMean(Array(one.z), errorRate: errorRate, one.name)
      NoiseStatistics.expectVariance(Array(one.z), errorRate: errorRate, one.name)
      for other in tensors[..<index] where other.z.count == one.z.count {
        NoiseStatistics.expectUncorrelated(one.z, other.z, errorRate: errorRate, "\(one.name) and \(other.name)")
      }
    }
    for lag in [1, 2, 1000, NoiseGrid.blockSize] {
      let z = streams[0].z
      // Products of neighbours share numbers; cut into two halves of pairs that share none they are independent.
      for half in [0, 1] {
        let left = z.indices.filter { $0 + lag < z.count && ($0 / lag) % 2 == half }
        NoiseStatistics.expectUncorrelated(
          left.map { z[$0] },
          left.map { z[$0 + lag] },
          errorRate: errorRate,
          "lag \(lag)"
        )
      }
    }
  }

  @Test("does not depend on the number of threads")
  func threads() throws {
    let run = try Self.run(isSeeded: true)
    let results = try [1, 3].map { threads in
      let runner = try runner(run, threads: threads)
      defer { runner.pool.shutDown() }
      return try parameters(run, "c1", round: 1, steps: 2, runner: runner)
    }
    #expect(results[0] == results[1])
  }

  // MARK: From the system: what really leaves

  /// What one round uploads, less what it started from, in units of the noise. One step a round.
  private func released(_ run: PrivateRun, _ client: String, round: Int) async throws -> [Double] {
    let data = LocalData(
      ClientRecords(examples: [], labels: PrivateRun.labels, maxLength: TinyModel.positions, fingerprint: "abcdef01")
    )
    // A process of its own, as after a crash.
    let trainer = EngineTrainer(
      slots: EngineSlots(base: run.base, count: 1, threadsPerSlot: 2),
      data: data,
      privacy: ClientPrivacy(policy: .tests, ledgerFolder: run.ledgers(client))
    )
    try await trainer.check(run.manifest)
    let update = try await trainer.train(run.assignment(client, round: round))
    try await data.ledger(trainer.privacy, relation: .addOrRemoveOne, terms: PrivateRun.recordTerms).close()
    return update.upload.entries.flatMap { entry -> [Double] in
      let start = run.initialState[entry.name]?.values ?? []
      return zip(start, entry.tensor.values).map { (Double($0) - Double($1)) / Self.deviation }
    }
  }

  /// Not seeded, so it may fail by chance: 5 × 2 + 1 + 10 + 10 checks at 1e-11 each, below 1e-9 together. The few numbers of
  /// the head start from values that are not zero and lose digits, which moves no statistic by a thousandth of its bound.
  @Test("from the system is never drawn twice, not even when a round is begun again after a crash")
  func system() async throws {
    let run = try Self.run(isSeeded: false, localSteps: 1)
    let errorRate = 1e-11
    var streams: [(name: String, z: [Double])] = []
    for (name, client, round) in [
      ("round 1", "c1", 1), ("round 1 again", "c1", 1), ("round 1 a third time", "c1", 1), ("round 2", "c1", 2),
      ("another client", "c2", 1),
    ] { streams.append((name, try await released(run, client, round: round))) }
    for (index, one) in streams.enumerated() {
      NoiseStatistics.expectMean(one.z, errorRate: errorRate, one.name)
      NoiseStatistics.expectVariance(one.z, errorRate: errorRate, one.name)
      for other in streams[..<index] {
        let what = "\(one.name) and \(other.name)"
        NoiseStatistics.expectUncorrelated(one.z, other.z, errorRate: errorRate, what)
        NoiseStatistics.expectNoStreamTwice(one.z, other.z, what)
      }
    }
    NoiseStatistics.expectKurtosis(streams.flatMap(\.z), errorRate: errorRate, "all")
    // Each attempt was paid for.
    let privacy = ClientPrivacy(ledgerFolder: run.ledgers("c1"))
    let ledger = try LedgerContents(readingFrom: privacy.ledgerURL(fingerprint: "abcdef01"))
    #expect(ledger.charges.map(\.round) == [1, 1, 1, 2])
    #expect(ledger.charges.allSatisfy { $0.phase.steps == 1 && !$0.seeded })
  }
}
