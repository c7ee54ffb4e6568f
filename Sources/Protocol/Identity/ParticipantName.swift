/// The name of a participant: 1 to 64 of A–Z, a–z, 0–9, '.', '_' and '-', not starting with a dot.
///
/// Such a name is safe as a file name, in a URI and in a log line.
public struct ParticipantName: Hashable, Sendable, Codable, Comparable, CustomStringConvertible {
  /// The name.
  public let rawValue: String

  /// Checks `rawValue`.
  /// - Throws: `IdentityError.invalidName`.
  public init(_ rawValue: String) throws(IdentityError) {
    let isAllowed = rawValue.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
        true
      default: false
      }
    }
    guard isAllowed, (1...64).contains(rawValue.utf8.count), rawValue.utf8.first != UInt8(ascii: ".") else {
      throw .invalidName(rawValue)
    }
    self.rawValue = rawValue
  }

  /// Reads a name as one string.
  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  /// Writes the name as one string.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(rawValue)
  }

  /// The name as it is written in messages.
  public var description: String { rawValue }

  /// By bytes.
  public static func < (left: ParticipantName, right: ParticipantName) -> Bool {
    left.rawValue.utf8.lexicographicallyPrecedes(right.rawValue.utf8)
  }
}

/// What a certificate says that its owner is.
public enum PeerIdentity: Hashable, Sendable, CustomStringConvertible {
  /// The one side that serves runs.
  case coordinator
  /// A client, by name.
  case participant(ParticipantName)
  /// The service of the authority that enrols participants.
  case authority
  /// Somebody who showed no certificate; only the service that enrols lets one in.
  case nameless

  /// The client's name.
  public var participant: ParticipantName? { if case .participant(let name) = self { name } else { nil } }

  /// The name as it is written in messages.
  public var description: String {
    switch self {
    case .coordinator: "the coordinator"
    case .participant(let name): "participant '\(name)'"
    case .authority: "the enrolment service"
    case .nameless: "somebody without a certificate"
    }
  }
}
