import Foundation

/// Asynchronous buffered aggregation (FedBuff; Nguyen et al., AISTATS 2022): clients train at their own pace, and a round is
/// closed by the next `size` updates, whichever rounds' states they started from.
///
/// **Staleness** is how many rounds were committed between the state that a client started from and the round in which its
/// update counts. An update of staleness s counts (1 + s)^(−`exponent`) of a fresh one; FedBuff's own choice of the exponent
/// is ½.
public struct BufferTerms: Sendable, Equatable {
  /// Updates that close a round (K); at least 1.
  public let size: Int
  /// 0 to 8; 0 counts stale updates like fresh ones.
  public let exponent: Double
  /// The largest staleness of an update that still counts; 0 to 1,000.
  public let mostStale: Int

  /// FedBuff's own exponent.
  public static let usualExponent = 0.5
  /// The largest staleness where nothing else is said.
  public static let usualMostStale = 10

  /// - Throws: `BufferTermError` naming the first term that is out of range.
  public init(size: Int, exponent: Double = usualExponent, mostStale: Int = usualMostStale) throws {
    guard size >= 1, size <= 1_000_000 else {
      throw BufferTermError.outOfRange(field: "buffer_size", value: Double(size), expected: "1 to 1000000")
    }
    guard exponent >= 0, exponent <= 8 else {
      throw BufferTermError.outOfRange(field: "staleness_exponent", value: exponent, expected: "0 to 8")
    }
    guard (0...1000).contains(mostStale) else {
      throw BufferTermError.outOfRange(field: "max_staleness", value: Double(mostStale), expected: "0 to 1000")
    }
    self.size = size
    self.exponent = exponent
    self.mostStale = mostStale
  }

  /// Stale updates count in these parts of a fresh one, so that their sums are integers (`ExactSum`).
  public static let unitsOfFresh = 256

  /// What an update of this staleness counts, in 256ths of a fresh one, to the nearest; at least 1.
  /// - Parameter staleness: 0 or more.
  public func units(staleness: Int) -> Int {
    let share = pow(1 + Double(max(0, staleness)), -exponent)
    return max(1, Int((share * Double(BufferTerms.unitsOfFresh)).rounded()))
  }

  /// Holds the terms against the rest of a run's cohort.
  /// - Throws: `BufferTermError`.
  public func check(quorum: Int, overSelected: Int) throws {
    guard quorum <= size else { throw BufferTermError.quorumAboveBuffer(quorum: quorum, size: size) }
    guard overSelected == 0 else { throw BufferTermError.overSelected }
  }

  /// Holds the terms against the rest of a run's.
  /// - Parameter hasPrivateRelease: whether the coordinator noises a clipped sum (privacy level `client`).
  /// - Throws: `BufferTermError` with the reason for which they do not go together.
  public func check(strategy: StrategyName, aggregation: Aggregation, hasPrivateRelease: Bool) throws {
    guard strategy != .fedsvd else { throw BufferTermError.movingBasis(strategy) }
    guard aggregation == .mean else { throw BufferTermError.robustRule(aggregation.name) }
    guard !hasPrivateRelease else { throw BufferTermError.privateRelease }
  }
}

/// Why the terms of an asynchronous run were refused.
public enum BufferTermError: Error, Equatable, CustomStringConvertible {
  /// A number is out of its range.
  case outOfRange(field: String, value: Double, expected: String)
  /// A number was set although the run is not buffered.
  case notBuffered(field: String)
  /// The coordinator turns the basis of what clients train between rounds.
  case movingBasis(StrategyName)
  /// The rule compares updates that started from one state.
  case robustRule(AggregationName)
  /// Clients are the unit of privacy.
  case privateRelease
  /// More clients are asked than a round needs.
  case overSelected
  /// The buffer would never fill before its least part is asked for.
  case quorumAboveBuffer(quorum: Int, size: Int)

  /// The path of the setting that is at fault.
  public var path: String {
    switch self {
    case .outOfRange(let field, _, _), .notBuffered(let field): "cohort.\(field)"
    case .movingBasis, .robustRule, .privateRelease: "cohort.buffer_size"
    case .overSelected: "cohort.over_selected"
    case .quorumAboveBuffer: "cohort.quorum"
    }
  }

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .outOfRange(_, let value, let expected):
      "is \(value == value.rounded() && abs(value) < 1e15 ? String(Int(value)) : "\(value)"), expected \(expected)"
    case .notBuffered: "is set, but only asynchronous runs use it; set cohort.buffer_size, or leave it out"
    case .movingBasis(let strategy):
      "cannot be used with strategy \(strategy.rawValue): it re-factorises after a round, and a B that was trained on an older A "
        + "is of another basis; use synchronous rounds (buffer_size 0), or ffa-lora, which averages the same B on a fixed A"
    case .robustRule(let rule):
      "cannot be used with aggregation.rule \(rule.rawValue), which compares updates that started from the same state; use mean"
    case .privateRelease:
      "cannot be used with privacy level 'client': its guarantee counts every client as drawn at random once in a round, and "
        + "in an asynchronous run the quick ones are in more often; use synchronous rounds, or privacy level 'record'"
    case .overSelected: "is set, but an asynchronous run waits for nobody; leave it out"
    case .quorumAboveBuffer(let quorum, let size):
      "is \(quorum), but buffer_size \(size) closes a round before; lower the quorum or raise the buffer"
    }
  }
}
