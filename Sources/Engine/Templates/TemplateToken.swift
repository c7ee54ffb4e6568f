/// What the lexer makes of a template.
struct TemplateToken: Sendable {
  enum Kind: Sendable, Equatable {
    /// Text between the tags.
    case text(String)
    /// `{{` and `}}`.
    case variableBegin, variableEnd
    /// `{%` and `%}`.
    case blockBegin, blockEnd
    case name(String)
    case string(String)
    case integer(Int)
    case double(Double)
    case symbol(String)
    case end
  }

  let kind: Kind
  let place: TemplatePlace

  /// What stands there, for messages.
  var words: String {
    switch kind {
    case .text: "text"
    case .variableBegin: "'{{'"
    case .variableEnd: "'}}'"
    case .blockBegin: "'{%'"
    case .blockEnd: "'%}'"
    case .name(let name): "'\(name)'"
    case .string: "a string"
    case .integer(let value): "\(value)"
    case .double(let value): "\(value)"
    case .symbol(let symbol): "'\(symbol)'"
    case .end: "the end of the template"
    }
  }
}
