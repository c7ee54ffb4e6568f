import CoreMetrics
import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Synchronization
import Testing

@Suite("A coordinator whose disk is slow", .timeLimit(.minutes(1)))
struct BackPressureTests {
  private let project: Project

  init() throws { project = try Project() }

  /// A run whose updates take a mebibyte each.
  private func run(clients: Int) throws -> (manifest: WireRunManifest, state: TensorSet) {
    var toy = try ToyRun(.ffaLoRA, head: .frozen, rounds: 1, clients: clients)
    let state = TensorSet(["m.lora_B.weight": Tensor(zeros: [4096, 64])])
    toy.manifest.state = TensorLayout(state).declarations
    toy.manifest.update = toy.manifest.state
    return (toy.manifest, state)
  }

  @Test("holds no more updates than its bound allows, however many clients send")
  func bound() async throws {
    let (clients, most) = (10, 4)
    var configuration = TransportConfiguration()
    configuration.inboundStreamBudget = most << 20
    let (manifest, state) = try run(clients: clients)
    let arrivals = Arrivals()
    let whileStuck = Mutex<Int?>(nil)
    // The run's own queue waits at the first update that was taken up, as it would for a disk.
    let coordinator = try await project.serve(manifest, state, configuration: configuration, metrics: arrivals) {
      event in
      guard case .updateAccepted = event, whileStuck.withLock({ $0 == nil }) else { return }
      // All that may come have come, and one more is given its time.
      _ = arrivals.wait(for: most, atMost: .seconds(20))
      _ = arrivals.wait(for: most + 1, atMost: .seconds(2))
      whileStuck.withLock { $0 = arrivals.count }
    }
    let identities = try (1...clients).map { try project.identity("c\($0)") }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for identity in identities {
        group.addTask {
          let participant = try await RawParticipant.join(identity, port: coordinator.port)
          _ = try await participant.round()
          let (update, tensors) = participant.update(round: 1, client: identity.participant?.rawValue ?? "")
          try await participant.send(update, tensors)
          #expect(try await participant.ack().status == .accepted)
          _ = try await participant.next { if case .goodbye? = $0.message { true } else { false } }
          await participant.connection.close()
        }
      }
      try await group.waitForAll()
    }
    #expect(whileStuck.withLock { $0 } == most)
    #expect(arrivals.count == clients)
    #expect(try await coordinator.result().outcome == .completed)
  }
}

/// Counts updates that have arrived whole, by the metric of their uploads.
private final class Arrivals: MetricsFactory, TimerHandler, @unchecked Sendable {
  // Unchecked for the condition alone, which guards `seen`.
  private let condition = NSCondition()
  private var seen = 0

  var count: Int { condition.withLock { seen } }

  /// Blocks until so many have arrived.
  /// - Returns: whether they have.
  func wait(for wanted: Int, atMost time: Duration) -> Bool {
    let end = Date(timeIntervalSinceNow: Double(time.components.seconds))
    return condition.withLock {
      while seen < wanted { if !condition.wait(until: end) { return false } }
      return true
    }
  }

  func recordNanoseconds(_ duration: Int64) {
    condition.withLock {
      seen += 1
      condition.broadcast()
    }
  }

  func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    label == "fedlora_client_phase_seconds" && dimensions.contains { $0 == ("phase", "uploading") }
      ? self : NOOPMetricsHandler.instance
  }
  func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler { NOOPMetricsHandler.instance }
  func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
    NOOPMetricsHandler.instance
  }
  func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler { NOOPMetricsHandler.instance }
  func destroyTimer(_ handler: any TimerHandler) {}
  func destroyCounter(_ handler: any CounterHandler) {}
  func destroyRecorder(_ handler: any RecorderHandler) {}
  func destroyMeter(_ handler: any MeterHandler) {}
}
