import Foundation

/// One message of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// Who speaks: `system`, `user` or `assistant`.
  public let role: String
  /// What is said.
  public let content: String

  /// Takes both.
  public init(role: String, content: String) { (self.role, self.content) = (role, content) }

  var node: JSONNode {
    .object([.init(key: "role", value: .string(role)), .init(key: "content", value: .string(content))])
  }
}

/// How a model wants a conversation written: the Jinja template of its tokenizer, run as transformers runs it.
///
/// A subset of Jinja is built, and everything else refused by its name. A template reaches nothing but the values that it is
/// given, and its steps, memory and depth are bounded.
///
///     let template = try ChatTemplate(folder: modelFolder)
///     let text = try template.text(of: [ChatMessage(role: "user", content: "Hello")])
///     let tokens = try tokenizer.encodeIds(text, addSpecialTokens: false)
public struct ChatTemplate: Sendable {
  let body: [TemplateStatement]
  /// `bos_token` and the like.
  private let specialTokens: [String: JSONNode]

  /// Takes a template's text and special tokens by their names (`bos_token`).
  /// - Throws: `TemplateError` with line and column.
  public init(text: String, specialTokens: [String: String] = [:]) throws(TemplateError) {
    try self.init(text: text, tokens: specialTokens.mapValues { .string($0) })
  }

  private init(text: String, tokens: [String: JSONNode]) throws(TemplateError) {
    guard text.utf8.count <= 1 << 20 else {
      throw TemplateError(.limit, "the template has \(text.utf8.count) bytes, more than a mebibyte", at: nil)
    }
    body = try TemplateParser.parse(text)
    specialTokens = tokens
  }

  /// Reads the template of a model folder: `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json`, where a
  /// list has it under the name `default`.
  /// - Throws: `TemplateError`, of kind `file` where there is none.
  public init(folder: URL) throws(TemplateError) {
    let file = folder.appendingPathComponent("tokenizer_config.json")
    let config = try Self.object(file)
    let map = try Self.object(folder.appendingPathComponent("special_tokens_map.json"))
    var tokens: [String: JSONNode] = [:]
    for name in ["bos", "eos", "unk", "sep", "pad", "cls", "mask"].map({ "\($0)_token" }) {
      let found = Self.token(config?[name]) ?? Self.token(map?[name])
      if let found { tokens[name] = .string(found) }
    }
    if case .array(let list) = config?["additional_special_tokens"] ?? map?["additional_special_tokens"] {
      tokens["additional_special_tokens"] = .array(list.compactMap { Self.token($0).map { .string($0) } })
    }
    let own = folder.appendingPathComponent("chat_template.jinja")
    if FileManager.default.fileExists(atPath: own.path) {
      guard let data = try? Data(contentsOf: own), let text = String(validating: data, as: UTF8.self) else {
        throw TemplateError(.file, "\(own.path): cannot be read as UTF-8", at: nil)
      }
      try self.init(text: text, tokens: tokens)
      return
    }
    switch config?["chat_template"] {
    case .string(let text): try self.init(text: text, tokens: tokens)
    case .array(let list):
      guard case .string(let text) = list.first(where: { Self.token($0["name"]) == "default" })?["template"] else {
        throw TemplateError(.file, "\(file.path): 'chat_template' is a list without the name 'default'", at: nil)
      }
      try self.init(text: text, tokens: tokens)
    default:
      throw TemplateError(
        .file,
        "\(folder.path) has no chat template: neither chat_template.jinja nor 'chat_template' in tokenizer_config.json; is it a "
          + "base model, which takes plain prompts?",
        at: nil
      )
    }
  }

  /// A special token, as a text or as an object with its `content`.
  private static func token(_ node: JSONNode?) -> String? {
    switch node {
    case .string(let text): text
    case .object: if case .string(let text) = node?["content"] { text } else { nil }
    default: nil
    }
  }

  private static func object(_ file: URL) throws(TemplateError) -> JSONNode? {
    guard FileManager.default.fileExists(atPath: file.path) else { return nil }
    guard let data = try? Data(contentsOf: file) else {
      throw TemplateError(.file, "\(file.path): cannot be read", at: nil)
    }
    do {
      let node = try JSONNode(parsing: Array(data))
      guard case .object = node else { throw TemplateError(.file, "\(file.path): is no JSON object", at: nil) }
      return node
    } catch let error as TemplateError {
      throw error
    } catch {
      throw TemplateError(.file, "\(file.path): \(error)", at: nil)
    }
  }

  /// A conversation as the model reads it. The text holds the special tokens that belong to it: encode it without adding any.
  /// - Parameters:
  ///   - messages: what was said, in order.
  ///   - addsGenerationPrompt: whether the text ends where the assistant is to speak.
  ///   - date: what `strftime_now` takes for now, in local time; with nil it is not defined, so that templates with a
  ///     date of their own for this case take that, and others are refused.
  ///   - limits: what the template may cost.
  /// - Throws: `TemplateError`; of kind `raised` where the template itself refuses the conversation.
  public func text(
    of messages: [ChatMessage],
    addsGenerationPrompt: Bool = true,
    date: Date? = nil,
    limits: TemplateLimits = TemplateLimits()
  ) throws(TemplateError) -> String {
    try text(
      of: .array(messages.map(\.node)),
      values: [("add_generation_prompt", .bool(addsGenerationPrompt))],
      limits: limits,
      clock: date.map { date in { TemplateClock.text(of: date, format: $0) } }
    )
  }

  /// As above for messages with more than texts in them, and for other values that a template may ask for.
  package func text(
    of messages: JSONNode,
    values: [(name: String, value: JSONNode)],
    limits: TemplateLimits = TemplateLimits(),
    clock: ((String) -> String?)? = nil
  ) throws(TemplateError) -> String {
    try written(messages, values: values, limits: limits, clock: clock).text
  }

  /// A conversation's text, and what the template marked in it.
  func written(
    _ messages: JSONNode,
    values: [(name: String, value: JSONNode)],
    limits: TemplateLimits = TemplateLimits(),
    clock: ((String) -> String?)? = nil
  ) throws(TemplateError) -> (text: String, marks: [Range<Int>], hidesMarks: Bool) {
    // transformers gives these two always.
    var all: [String: JSONNode] = ["messages": messages, "tools": .null, "documents": .null]
    all.merge(specialTokens) { _, new in new }
    for (name, value) in values { all[name] = value }
    let run = TemplateRun(all.mapValues { TemplateValue($0) }, limits: limits, clock: clock)
    let text = try run.run(body)
    return (text, run.marks, run.hidesMarks)
  }
}

/// `strftime` for templates, in the C locale.
enum TemplateClock {
  /// The date in a format such as `%d %b %Y`; nil where the result has more than 500 bytes.
  static func text(of date: Date, format: String) -> String? {
    var seconds = time_t(date.timeIntervalSince1970.rounded(.down))
    var parts = tm()
    guard localtime_r(&seconds, &parts) != nil else { return nil }
    if format.isEmpty { return "" }
    var buffer = [CChar](repeating: 0, count: 501)
    // A format that ends in a lone % is not defined.
    let count = strftime(&buffer, buffer.count, format.hasSuffix("%") ? format + "%" : format, &parts)
    guard count > 0 else { return nil }
    return String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
