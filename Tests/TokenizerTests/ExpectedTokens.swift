import FedLoRAEngine
import Foundation
import Testing

/// What the `tokenizers` library made of one text or pair, as the fixture scripts record it.
struct ExpectedTokens: Decodable, Sendable {
  let text: String?
  let pair: String?
  let a: String?
  let b: String?
  let ids: [Int32]
  let ids_plain: [Int32]?
  let type_ids: [Int32]?
  let tokens: [String]?
  let offsets: [[Int]]?
  let decoded: String?
  let decoded_all: String?
  let mask: [Int]?

  var first: String { text ?? a ?? "" }
  var second: String? { pair ?? b }

  /// What differs, in words; empty where the tokenizer agrees. Strings are compared scalar for scalar.
  func differences(from tokenizer: Tokenizer) throws -> [String] {
    var found: [String] = []
    func compare<T: Equatable>(_ name: String, _ own: T, _ wanted: T?) {
      if let wanted, own != wanted { found.append("\(name) of \(first.debugDescription): \(own) instead of \(wanted)") }
    }
    func compare(_ name: String, _ own: [String], _ wanted: [String]?) {
      compare(name, own.map { Array($0.unicodeScalars) }, wanted?.map { Array($0.unicodeScalars) })
    }
    let encoding = try tokenizer.encode(first, pair: second)
    compare("ids", encoding.ids, ids)
    compare("type ids", encoding.typeIds, type_ids)
    compare("tokens", encoding.tokens, tokens)
    compare("offsets", encoding.offsets.map { [$0.lowerBound, $0.upperBound] }, offsets)
    compare("plain ids", try tokenizer.encode(first, pair: second, addSpecialTokens: false).ids, ids_plain)
    compare("decoded text", [tokenizer.decode(ids)], decoded.map { [$0] })
    compare(
      "decoded text with special tokens",
      [tokenizer.decode(ids, skippingSpecialTokens: false)],
      decoded_all.map { [$0] }
    )
    let lean = try tokenizer.encodeIds(first, pair: second)
    compare("lean ids", lean.ids, ids)
    compare("lean type ids", lean.typeIds, type_ids)
    return found
  }
}

/// A text cut to a length, or the refusal to.
struct ExpectedTruncation: Decodable, Sendable {
  let text: String
  let pair: String?
  let length: Int
  let strategy: TruncationStrategy
  let ids: [Int32]?
  let type_ids: [Int32]?
  let refused: Bool?
}

/// Where test files lie.
enum Places {
  static let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  /// Oracles beside a developer's checkout; absent elsewhere.
  static let oracle = package.deletingLastPathComponent().appendingPathComponent("shared/oracle/tokenizers")
  static let hasOracle = FileManager.default.fileExists(atPath: oracle.path)

  static func fixture(_ path: String) throws -> URL {
    let resources = try #require(Bundle.module.resourceURL)
    return resources.appendingPathComponent("Fixtures").appendingPathComponent(path)
  }
}
