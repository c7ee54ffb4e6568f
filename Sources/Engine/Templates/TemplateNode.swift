/// An expression of a template.
final class TemplateExpression: Sendable {
  indirect enum Kind: Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case double(Double)
    case string(String)
    case name(String)
    case list([TemplateExpression], isTuple: Bool)
    case map([(key: TemplateExpression, value: TemplateExpression)])
    case attribute(TemplateExpression, String)
    case item(TemplateExpression, TemplateExpression)
    case slice(TemplateExpression, TemplateExpression?, TemplateExpression?, TemplateExpression?)
    case call(TemplateExpression, TemplateArguments)
    case filter(TemplateExpression, String, TemplateArguments)
    case test(TemplateExpression, String, TemplateArguments)
    case not(TemplateExpression)
    case sign(TemplateExpression, isNegative: Bool)
    case binary(String, TemplateExpression, TemplateExpression)
    case concatenation([TemplateExpression])
    case comparison(TemplateExpression, [(operation: String, right: TemplateExpression)])
    case and(TemplateExpression, TemplateExpression)
    case or(TemplateExpression, TemplateExpression)
    case conditional(TemplateExpression, test: TemplateExpression, otherwise: TemplateExpression?)
  }

  let kind: Kind
  let place: TemplatePlace
  /// Expressions on the longest way down from here, this one included.
  let depth: Int

  init(_ kind: Kind, at place: TemplatePlace, depth: Int) { (self.kind, self.place, self.depth) = (kind, place, depth) }
}

/// What a call, filter or test is given.
struct TemplateArguments: Sendable {
  var positional: [TemplateExpression] = []
  var named: [(name: String, value: TemplateExpression)] = []

  var depth: Int { (positional + named.map(\.value)).map(\.depth).max() ?? 0 }
}

/// What a value is put into.
indirect enum TemplateTarget: Sendable {
  case name(String)
  case attribute(of: String, String)
  case tuple([TemplateTarget])
}

/// A part of a template.
struct TemplateStatement: Sendable {
  indirect enum Kind: Sendable {
    case text(String)
    case output(TemplateExpression)
    case condition([(test: TemplateExpression, body: [TemplateStatement])], otherwise: [TemplateStatement])
    case loop(TemplateLoop)
    case set(TemplateTarget, TemplateExpression)
    /// What the body prints.
    case capture(TemplateTarget, filters: [(name: String, arguments: TemplateArguments)], body: [TemplateStatement])
    case macro(TemplateMacro)
    /// `{% generation %}`, which marks the assistant's words for training and prints its body.
    case generation([TemplateStatement])
    case leave, next
  }

  let kind: Kind
  let place: TemplatePlace
}

/// `{% for %}`.
struct TemplateLoop: Sendable {
  let target: TemplateTarget
  let items: TemplateExpression
  let condition: TemplateExpression?
  let body: [TemplateStatement]
  let otherwise: [TemplateStatement]
}

/// `{% macro %}`.
final class TemplateMacro: Sendable {
  let name: String
  let parameters: [(name: String, standard: TemplateExpression?)]
  let body: [TemplateStatement]

  init(name: String, parameters: [(name: String, standard: TemplateExpression?)], body: [TemplateStatement]) {
    (self.name, self.parameters, self.body) = (name, parameters, body)
  }
}
