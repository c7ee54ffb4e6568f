import FedLoRAClient
import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRAEngine
import FedLoRASimulation
import Foundation
import Logging
import Synchronization

/// One simulation that is to be measured.
struct BenchmarkCrowd: Sendable {
  let clients: Int
  let cohort: Int
  let steps: Int
  let batch: Int
  let tokens: Int
  let spread: Double
  let rounds: Int
  let cores: Int
  let threads: Int
  let strategy: String
  let isPrivate: Bool

  private static let labels = ["a", "b", "c", "d", "e", "f"]

  func measure(base: FrozenModel, folder: URL) async throws -> RoundsMeasured {
    let (scenario, _) = try ScenarioConfiguration.load(nil, assignments: assignments)
    guard let method = scenario.method(strategy) else { throw BenchmarkError.unknownStrategy(strategy) }
    let data = data(base)
    let log = ComputeLog()
    let slots = EngineSlots(base: base, count: cores, threadsPerSlot: threads, log: log)
    let meter = RoundMeter(log: log, cores: cores)
    let alone = LocalStepsAlone(
      crowd: self,
      definition: try SimulatedFederation(
        scenario: scenario,
        data: data,
        slots: slots,
        method: method,
        folder: folder,
        logger: .silent,
        report: { _ in }
      ).definition(),
      data: data
    )
    let failure = Mutex<(any Error)?>(nil)
    let federation = SimulatedFederation(
      scenario: scenario,
      data: data,
      slots: slots,
      method: method,
      folder: folder,
      logger: .silent
    ) { event in
      guard case .coordinator(_, let inner) = event else { return }
      switch inner {
      case .roundOpened(let round, _, let cohort):
        // The coordinator waits here, and nobody has been given the round yet.
        do { try meter.begin(alone: try alone.run(cohort, round: round)) } catch { failure.withLock { $0 = error } }
      case .roundCommitted: meter.end()
      default: break
      }
    }
    let loadBefore = SystemUsage.load
    _ = try await federation.run()
    if let failure = failure.withLock({ $0 }) { throw failure }
    return meter.measured(self, loadBefore: loadBefore, meanTokens: alone.meanTokens)
  }

  private var assignments: [String] {
    var result = [
      "name=clients-benchmark", "rounds=\(rounds)", "clients.count=\(clients)", "clients.concurrency=\(cores)",
      "clients.threads=\(threads)", "cohort.min_clients=\(clients)", "cohort.clients_per_round=\(cohort)",
      "cohort.quorum=\(cohort)", "cohort.deadline_seconds=36000", "training.local_steps=\(steps)",
      "training.batch_size=\(batch)", "baselines=[]", "overrides={}", "strategies=[\(strategy)]",
    ]
    if isPrivate {
      result += [
        "privacy.level=record", "privacy.epsilon=8", "privacy.delta=1e-5", "privacy.seeded_noise=true",
        "privacy.sampling_rate=0.25",
      ]
    }
    return result
  }

  /// Random tokens: every client has enough for its steps, and a length of text that is its own.
  private func data(_ base: FrozenModel) -> SimulationData {
    let digits = String(clients).count
    // Evenly from the shortest to the longest writer, with a mean of 1.
    let shortest = 2 / (1 + spread)
    let made = (0..<clients).map { index -> SimulatedClient in
      let number = String(index + 1)
      let name = "client-" + String(repeating: "0", count: digits - number.count) + number
      var generator = SeededGenerator(seed: 1, "clients-benchmark", .name(name))
      // A client's number says nothing about its length.
      let length = shortest * (1 + (spread - 1) * generator.uniform()) * Double(tokens)
      func example(_ label: Int) -> EncodedExample {
        let count = min(max(4, Int(length * (0.5 + generator.uniform()))), base.spec.maximumPositions, 128)
        let ids = (0..<count).map { _ in Int32(1 + generator.next() % UInt64(base.spec.vocabularySize - 1)) }
        return EncodedExample(
          ids: ids,
          typeIds: [Int32](repeating: 0, count: count),
          label: label % BenchmarkCrowd.labels.count
        )
      }
      return SimulatedClient(
        name: name,
        train: (0..<4 * batch).map(example),
        test: [example(0)],
        labels: BenchmarkCrowd.labels.count,
        fingerprint: String(repeating: "0", count: 64 - number.count) + number
      )
    }
    return SimulationData(
      base: base,
      labels: BenchmarkCrowd.labels,
      train: made.flatMap(\.train),
      test: made.prefix(1).flatMap(\.test),
      clients: made
    )
  }
}

/// What cannot be measured.
enum BenchmarkError: Error, CustomStringConvertible {
  case unknownStrategy(String)

  var description: String {
    switch self {
    case .unknownStrategy(let name): "there is no strategy '\(name)'"
    }
  }
}

extension Logger {
  static var silent: Logger { Logger(label: "clients-benchmark") { _ in SwiftLogNoOpLogHandler() } }
}
