import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation

/// The terms of a run with one shared tensor of a given size.
struct LoadRun {
  let manifest: WireRunManifest
  let state: TensorSet

  /// - Parameter elements: numbers of the tensor, rounded up to a multiple of 64.
  init(clients: Int, perRound: Int, quorum: Int, rounds: Int, elements: Int) throws {
    let rows = max(1, (elements + 63) / 64)
    // Numbers that do not compress to nothing anywhere on their way.
    var seed: UInt32 = 1
    let values = (0..<rows * 64).map { _ in
      seed = seed &* 1_664_525 &+ 1_013_904_223
      return Float(seed >> 8) / Float(1 << 24) - 0.5
    }
    state = TensorSet(["m.lora_B.weight": try Tensor(shape: [rows, 64], values: values)])
    var manifest = WireRunManifest()
    manifest.runID = "load"
    manifest.seed = 1
    manifest.rounds = UInt32(rounds)
    manifest.strategy.name = "ffa-lora"
    manifest.strategy.head = "frozen"
    manifest.strategy.weighting = "uniform"
    manifest.strategy.refactoriseEvery = 1
    manifest.cohort.minClients = UInt32(clients)
    manifest.cohort.clientsPerRound = UInt32(perRound)
    manifest.cohort.quorum = UInt32(quorum)
    manifest.cohort.deadlineSeconds = 600
    manifest.state = TensorLayout(state).declarations
    manifest.update = TensorLayout(state).declarations
    self.manifest = manifest
  }

  /// The bounds of a transport that lets a whole crowd in from one address.
  static var transport: TransportConfiguration {
    var configuration = TransportConfiguration()
    configuration.maximumConnections = 8192
    configuration.maximumConnectionsPerNetwork = 8192
    configuration.maximumPendingHandshakesPerNetwork = configuration.maximumPendingHandshakes
    return configuration
  }
}
