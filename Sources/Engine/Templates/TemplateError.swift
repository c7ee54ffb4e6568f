/// A place in a template's text, both counted from 1; columns in Unicode scalars.
public struct TemplatePlace: Sendable, Equatable, CustomStringConvertible {
  /// The line.
  public let line: Int
  /// The column.
  public let column: Int

  /// What people read.
  public var description: String { "line \(line), column \(column)" }
}

/// A chat template that cannot be read or run.
public struct TemplateError: Error, Equatable, CustomStringConvertible {
  /// What kind of thing went wrong.
  public enum Kind: String, Sendable, Equatable {
    /// The text is no template.
    case syntax
    /// It uses something of Jinja that is not built, which is named.
    case unsupported
    /// A name, key or attribute that is not there was used.
    case undefined
    /// A value of one kind stands where another is needed.
    case type
    /// It takes more steps, memory or depth than it may.
    case limit
    /// The template itself refused the conversation, by `raise_exception`.
    case raised
    /// The file that holds it cannot be used.
    case file
    /// What it writes does not tell which words are the assistant's.
    case answers
  }

  /// What kind of thing went wrong.
  public let kind: Kind
  /// What was found and expected; of `raised` the template's own words.
  public let reason: String
  /// Where in the template; nil where it is about a file.
  public let place: TemplatePlace?

  init(_ kind: Kind, _ reason: String, at place: TemplatePlace?) {
    (self.kind, self.reason, self.place) = (kind, reason, place)
  }

  /// One sentence for people.
  public var description: String {
    let words =
      switch kind {
      case .raised: "the chat template refuses this conversation: \(reason)"
      case .file: reason
      default: "chat template: \(reason)"
      }
    return place.map { "\(words) (\($0))" } ?? words
  }
}
