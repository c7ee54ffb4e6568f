import Foundation

/// How a prompt and its response become one text: a text of which the part before `{response}` is given and the rest is
/// learnt.
///
///     Question: {prompt}\nAnswer: {response}
public struct PromptFormat: Equatable, Sendable {
  /// The format as it was given.
  public let text: String
  private let beforePrompt: String
  private let afterPrompt: String
  private let afterResponse: String

  /// The prompt and, right behind it, the response.
  public static let plain = PromptFormat(text: "{prompt}{response}", "", "", "")

  private init(text: String, _ beforePrompt: String, _ afterPrompt: String, _ afterResponse: String) {
    self.text = text
    self.beforePrompt = beforePrompt
    self.afterPrompt = afterPrompt
    self.afterResponse = afterResponse
  }

  /// Reads a format.
  /// - Throws: `ModelError.badOption` unless `{prompt}` and, behind it, `{response}` occur once each.
  public init(_ text: String) throws {
    func parts(_ text: String, at mark: String) throws -> (String, String) {
      let parts = text.components(separatedBy: mark)
      guard parts.count == 2 else {
        throw ModelError.badOption(
          name: "prompt format",
          found: "'\(text)'",
          expected: "{prompt} once and {response} once, in this order"
        )
      }
      return (parts[0], parts[1])
    }
    let (given, after) = try parts(text, at: "{response}")
    let (before, between) = try parts(given, at: "{prompt}")
    self.init(text: text, before, between, after)
  }

  /// What the model is given: everything before the response.
  public func given(_ prompt: String) -> String { beforePrompt + prompt + afterPrompt }

  /// The whole text.
  public func whole(_ prompt: String, _ response: String) -> String { given(prompt) + response + afterResponse }
}
