/// Token texts and their numbers, both ways. Texts are compared by their UTF-8: two spellings of "é" are two tokens.
struct Vocabulary: Sendable {
  private var ids: [[UInt8]: Int32] = [:]
  /// By number; a table would be as long as the greatest number that a file names.
  private var texts: [Int32: String] = [:]
  /// One more than the greatest number.
  private(set) var limit = 0

  /// Adds a token, or gives an existing one this number.
  /// - Parameter shown: what the number is turned back into; an added token may differ there from its own text.
  mutating func insert(_ token: String, id: Int32, shown: String? = nil) {
    texts[id] = shown ?? token
    limit = max(limit, Int(id) + 1)
    ids[Array(token.utf8)] = id
  }

  func id(of token: String) -> Int32? { ids[Array(token.utf8)] }

  func token(of id: Int32) -> String? { texts[id] }

  /// Tokens in the order of their numbers.
  var tokens: [(id: Int32, text: String)] {
    texts.map { (id: $0.key, text: $0.value) }.sorted { $0.id < $1.id }
  }

  /// The tokens `<0x00>` to `<0xFF>`, which stand for bytes; nil where there is no such token.
  var byteTokens: [Int32?] {
    (0..<256).map { byte in
      let digits = String(byte, radix: 16, uppercase: true)
      return id(of: "<0x\(byte < 16 ? "0" : "")\(digits)>")
    }
  }

  /// Number of different tokens.
  var count: Int { ids.count }
}
