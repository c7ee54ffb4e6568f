import Foundation

/// Reads a `tokenizer.json`; the stages are read in extensions. Whatever is not built is refused by name, never passed
/// over.
struct TokenizerFile {
  let path: String
  let root: JSONNode

  init(path: String) throws(TokenizerError) {
    self.path = path
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw .unreadable(path: path, reason: error.localizedDescription)
    }
    do {
      root = try JSONNode(parsing: [UInt8](data))
    } catch {
      throw .notJSON(path: path, reason: error.description)
    }
    guard case .object = root else {
      throw .invalid(path: path, key: "the file", found: root.kind, expected: "an object")
    }
  }

  // MARK: Added tokens

  func addedTokens(_ node: JSONNode?) throws(TokenizerError) -> [AddedTokens.Token] {
    guard let node else { return [] }
    var tokens: [AddedTokens.Token] = []
    for (index, item) in try array(node, "added_tokens").enumerated() {
      let key = "added_tokens[\(index)]"
      let special = try flag(item["special"], "\(key).special", default: false)
      let content = try string(item["content"], "\(key).content")
      guard !content.isEmpty else { throw invalid("\(key).content", item["content"], "a token that is not empty") }
      tokens.append(
        AddedTokens.Token(
          id: try identifier(item["id"], "\(key).id"),
          content: content,
          isSpecial: special,
          isSingleWord: try flag(item["single_word"], "\(key).single_word", default: false),
          stripsLeft: try flag(item["lstrip"], "\(key).lstrip", default: false),
          stripsRight: try flag(item["rstrip"], "\(key).rstrip", default: false),
          isNormalized: try flag(item["normalized"], "\(key).normalized", default: !special)
        )
      )
    }
    return tokens
  }

  // MARK: Values

  /// The type of a stage; nil where the stage is absent or null.
  func type(of node: JSONNode?, _ key: String) throws(TokenizerError) -> String? {
    switch node {
    case nil, .null?: nil
    case .object?: try string(node?["type"], "\(key).type")
    case let other: throw invalid(key, other, "an object or null")
    }
  }

  func string(_ node: JSONNode?, _ key: String, default fallback: String? = nil) throws(TokenizerError)
    -> String
  {
    if case .string(let value)? = node { return value }
    if node == nil, let fallback { return fallback }
    throw invalid(key, node, "a string")
  }

  func flag(_ node: JSONNode?, _ key: String, default fallback: Bool) throws(TokenizerError) -> Bool {
    switch node {
    case .bool(let value)?: value
    case nil, .null?: fallback
    case let other: throw invalid(key, other, "true or false")
    }
  }

  func array(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> [JSONNode] {
    guard case .array(let items)? = node else { throw invalid(key, node, "an array") }
    return items
  }

  /// A whole number that is not negative.
  func count(_ node: JSONNode?, _ key: String, default fallback: Int) throws(TokenizerError) -> Int {
    switch node {
    case .integer(let value)? where value >= 0: value
    case nil: fallback
    case let other: throw invalid(key, other, "a whole number from 0")
    }
  }

  /// A string of one Unicode scalar.
  func scalar(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> Unicode.Scalar {
    let text = try string(node, key).unicodeScalars
    guard let scalar = text.first, text.count == 1 else { throw invalid(key, node, "one character") }
    return scalar
  }

  /// One of the names of an enumeration.
  func choice<T: RawRepresentable & CaseIterable>(_ node: JSONNode?, _ key: String, default fallback: T)
    throws(TokenizerError) -> T where T.RawValue == String
  {
    let name = try string(node, key, default: fallback.rawValue)
    guard let value = T(rawValue: name) else {
      throw unsupported(key, name, T.allCases.map(\.rawValue).joined(separator: ", "))
    }
    return value
  }

  /// The pattern of a stage: `{"String": …}`, taken as it stands, or `{"Regex": …}`.
  func pattern(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> Pattern {
    if let text = node?["String"] {
      let literal = try string(text, "\(key).String")
      guard !literal.isEmpty else { throw invalid("\(key).String", text, "a string that is not empty") }
      let escaped = literal.unicodeScalars.map { "\\x{\(String($0.value, radix: 16))}" }
      return try pattern(escaped.joined(), "\(key).String")
    }
    guard let text = node?["Regex"] else { throw invalid(key, node, "a String or a Regex") }
    return try pattern(try string(text, "\(key).Regex"), "\(key).Regex")
  }

  /// A regular expression.
  func pattern(_ text: String, _ key: String) throws(TokenizerError) -> Pattern {
    do {
      return try Pattern(text)
    } catch {
      let found = "a pattern with \(error.construct) at character \(error.position + 1)"
      if error.isMalformed { throw .invalid(path: path, key: key, found: found, expected: "a regular expression") }
      throw .unsupported(
        path: path,
        key: key,
        found: found,
        supported:
          "characters, classes, alternation, groups, quantifiers, looks at one character, \\s \\d \\w \\h \\p{..}"
      )
    }
  }

  /// Refuses a stage that can make a text much longer: one in a hostile file could fill the memory.
  func checkGrowth(_ growth: Int, _ key: String) throws(TokenizerError) {
    guard growth <= 256 else {
      throw .unsupported(
        path: path,
        key: key,
        found: "a stage that can make a text \(growth == .max ? "endlessly" : "\(growth) times") longer",
        supported: "at most 256 times"
      )
    }
  }

  /// Ids are bounded by what an embedding table can have.
  func identifier(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> Int32 {
    guard case .integer(let value)? = node, (0..<10_000_000).contains(value) else {
      throw invalid(key, node, "an id from 0 to 9999999")
    }
    return Int32(value)
  }

  func invalid(_ key: String, _ node: JSONNode?, _ expected: String) -> TokenizerError {
    .invalid(path: path, key: key, found: node?.kind ?? "missing", expected: expected)
  }

  func unsupported(_ key: String, _ found: String, _ supported: String) -> TokenizerError {
    .unsupported(path: path, key: key, found: "\"\(found)\"", supported: supported)
  }
}
