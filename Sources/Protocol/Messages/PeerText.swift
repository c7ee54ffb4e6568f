extension String {
  /// Text that may come from a peer, fit for a log and a terminal: one line of at most `limit` UTF-8 bytes, without
  /// what moves a cursor or turns the direction of writing.
  ///
  /// A number of characters would be no bound: a single one can have any number of combining marks.
  package func oneLine(atMost limit: Int) -> String {
    var result = ""
    var length = 0
    for scalar in unicodeScalars {
      let shown = scalar.isInvisible ? "\u{FFFD}" : scalar
      length += UTF8.width(shown)
      if length > limit { return result + "…" }
      result.unicodeScalars.append(shown)
    }
    return result
  }
}

extension Unicode.Scalar {
  fileprivate var isInvisible: Bool {
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }
}
