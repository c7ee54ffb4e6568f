/// Token texts and their numbers, both ways. Texts are compared by their UTF-8: two spellings of "é" are two tokens.
struct Vocabulary: Sendable {
  private var ids: [[UInt8]: Int32] = [:]
  private(set) var tokens: [String?] = []

  /// Adds a token, or gives an existing one this number.
  /// - Parameter shown: what the number is turned back into; an added token may differ there from its own text.
  mutating func insert(_ token: String, id: Int32, shown: String? = nil) {
    let index = Int(id)
    if index >= tokens.count { tokens.append(contentsOf: repeatElement(nil, count: index + 1 - tokens.count)) }
    tokens[index] = shown ?? token
    ids[Array(token.utf8)] = id
  }

  func id(of token: String) -> Int32? { ids[Array(token.utf8)] }

  func token(of id: Int32) -> String? { tokens.indices.contains(Int(id)) ? tokens[Int(id)] : nil }

  /// Number of different tokens.
  var count: Int { ids.count }
}
