import FedLoRACheckpoint
import FedLoRACoordinator
import Foundation

/// SplitMix64: a generator whose sequence is fixed by its seed, so that a failing seed can be replayed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  mutating func tensor(_ shape: [Int]) throws -> Tensor {
    try Tensor(
      shape: shape,
      values: (0..<shape.reduce(1, *)).map { _ in Float(Int64(bitPattern: next()) >> 40) / Float(1 << 23) }
    )
  }
}

func at(_ seconds: Double) -> RunInstant { RunInstant(sinceOrigin: .seconds(seconds)) }

/// A folder that is removed when its owner is.
final class TemporaryFolder {
  let url: URL

  init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }
}

extension [RunEffect] {
  /// Who is sent the round, over all effects.
  var asked: [String] {
    flatMap { effect in if case .sendRound(let names, _, _, _) = effect { names } else { [String]() } }
  }
  var acks: [AckOutcome] {
    compactMap { effect in if case .ack(_, _, let status, _) = effect { status } else { nil } }
  }
  var codes: [String] {
    compactMap { effect in if case .record(_, _, let code, _) = effect { code } else { nil } }
  }
  var committed: [Contribution]? {
    for case .commit(_, let contributions, _) in self { return contributions }
    return nil
  }
  var outcome: RunOutcome? {
    for case .finish(let outcome) in self { return outcome }
    return nil
  }
}
