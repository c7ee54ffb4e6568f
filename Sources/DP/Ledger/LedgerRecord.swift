import Crypto
import Foundation

/// What one line of a ledger says.
public struct LedgerRecord: Sendable, Equatable {
  /// 0 for the first line, and one more for each that follows.
  public let sequence: Int
  /// When it was written, by this machine's clock, to the second, in UTC.
  public let time: String
  /// What it says.
  public let content: Content

  /// The kinds of lines.
  public enum Content: Sendable, Equatable {
    /// The first line: which data, and which neighbours.
    case header(dataset: String, relation: NeighbouringRelation)
    /// Private steps that were paid for.
    case charge(LedgerCharge)
    /// The data set changed to one with this fingerprint; what was spent stays spent.
    case successor(dataset: String, note: String?)
  }
}

extension LedgerRecord: Codable {
  static let format = "fedlora-privacy-ledger"
  static let version = 1

  private enum Key: String, CodingKey {
    case format, version, sequence, time, dataset, relation, charge, successor, note
  }

  /// Reads one entry; its `format` and `version` were checked before.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: Key.self)
    sequence = try values.decode(Int.self, forKey: .sequence)
    time = try values.decode(String.self, forKey: .time)
    if let charge = try values.decodeIfPresent(LedgerCharge.self, forKey: .charge) {
      content = .charge(charge)
    } else if let dataset = try values.decodeIfPresent(String.self, forKey: .successor) {
      content = .successor(dataset: dataset, note: try values.decodeIfPresent(String.self, forKey: .note))
    } else {
      let format = try values.decode(String.self, forKey: .format)
      let version = try values.decode(Int.self, forKey: .version)
      guard format == Self.format, version == Self.version else {
        throw DecodingError.dataCorruptedError(
          forKey: .version,
          in: values,
          debugDescription: "format \(format) version \(version), expected \(Self.format) version \(Self.version)"
        )
      }
      content = .header(
        dataset: try values.decode(String.self, forKey: .dataset),
        relation: try values.decode(NeighbouringRelation.self, forKey: .relation)
      )
    }
  }

  /// Writes one entry.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: Key.self)
    try values.encode(sequence, forKey: .sequence)
    try values.encode(time, forKey: .time)
    switch content {
    case .header(let dataset, let relation):
      try values.encode(Self.format, forKey: .format)
      try values.encode(Self.version, forKey: .version)
      try values.encode(dataset, forKey: .dataset)
      try values.encode(relation, forKey: .relation)
    case .charge(let charge):
      try values.encode(charge, forKey: .charge)
    case .successor(let dataset, let note):
      try values.encode(dataset, forKey: .successor)
      try values.encodeIfPresent(note, forKey: .note)
    }
  }
}

/// The last line of a ledger, as something to keep elsewhere: a later ledger that does not contain it lost lines at its end.
public struct LedgerHead: Codable, Sendable, Hashable {
  /// The line's number, from 0.
  public let sequence: Int
  /// The SHA-256 that binds it to all lines before, in hexadecimal.
  public let chain: String
}

/// The bytes of lines: `{"chain":"…64 digits…","entry":{…}}`, the chain being SHA-256 of the chain before it (32 zero bytes
/// at first) and the entry's bytes.
enum LedgerLine {
  private static let opening = Array(#"{"chain":""#.utf8)
  private static let middle = Array(#"","entry":"#.utf8)

  static func encode(_ record: LedgerRecord, after previous: [UInt8]) throws -> (bytes: [UInt8], chain: [UInt8]) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let entry = try encoder.encode(record)
    let chain = link(previous, entry)
    return (opening + Array(hexadecimal(chain).utf8) + middle + entry + [UInt8(ascii: "}"), UInt8(ascii: "\n")], chain)
  }

  /// A line without its newline. The reason is for people.
  static func decode(
    _ line: some RandomAccessCollection<UInt8>,
    after previous: [UInt8]
  ) throws(LedgerLineError) -> (record: LedgerRecord, chain: [UInt8]) {
    let line = Array(line)
    let start = opening.count + 64 + middle.count
    guard line.count > start + 2, line.starts(with: opening), line.last == UInt8(ascii: "}"),
      line[(opening.count + 64)..<start].elementsEqual(middle)
    else { throw LedgerLineError(reason: "it does not have the form of a ledger's line") }
    let entry = line[start..<(line.count - 1)]
    let chain = link(previous, entry)
    guard line[opening.count..<(opening.count + 64)].elementsEqual(hexadecimal(chain).utf8) else {
      throw LedgerLineError(
        reason: "its hash does not match: this line or the one before was changed, moved or removed"
      )
    }
    do {
      return (try JSONDecoder().decode(LedgerRecord.self, from: Data(entry)), chain)
    } catch {
      throw LedgerLineError(reason: "its entry cannot be read: \(error)")
    }
  }

  static let origin = [UInt8](repeating: 0, count: 32)

  static func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }

  private static func link(_ previous: [UInt8], _ entry: some DataProtocol) -> [UInt8] {
    var hash = SHA256()
    hash.update(data: previous)
    hash.update(data: entry)
    return Array(hash.finalize())
  }
}

struct LedgerLineError: Error {
  let reason: String
}
