/// Which of several endings a language model holds likeliest.
public enum MultipleChoice {
  /// What an ending's log-likelihood is divided by, so that long endings are not at a disadvantage.
  public enum Length: String, Sendable, CaseIterable {
    /// Nothing: `acc` of the LM evaluation harness.
    case none
    /// The ending's tokens.
    case tokens
    /// The ending's Unicode scalars: `acc_norm` of the LM evaluation harness.
    case characters
    /// The ending's bytes in UTF-8; the same as characters in English.
    case bytes

    /// The length of an ending; 1 for `none` and for an empty one.
    public func of(_ ending: String, tokens: Int) -> Double {
      let length =
        switch self {
        case .none: 1
        case .tokens: tokens
        case .characters: ending.unicodeScalars.count
        case .bytes: ending.utf8.count
        }
      return Double(max(1, length))
    }
  }

  /// The number of the ending with the largest log-likelihood over its length; the first of equals, nil without endings.
  public static func choice(_ endings: [(text: String, likelihood: SequenceLikelihood)], by length: Length) -> Int? {
    let scores = endings.map { $0.likelihood.logLikelihood / length.of($0.text, tokens: $0.likelihood.count) }
    return scores.indices.max { scores[$0] < scores[$1] || (scores[$0] == scores[$1] && $0 > $1) }
  }
}

extension LossSummary {
  /// Share of tokens that were the likeliest: `accuracy` by its name for language models.
  public var tokenAccuracy: Double { accuracy }
}
