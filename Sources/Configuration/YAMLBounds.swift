/// What a YAML text may not hold, found before a parser sees it: some hundred bytes can take all memory, or all of a stack.
enum YAMLBounds {
  /// Most uses of an anchor in one document. A handful of lines that name each other would else grow without end: each use
  /// stands for all that the anchor holds.
  private static let mostAliases = 32
  /// Most brackets within each other, and most columns before a line's first word: the parser takes some kilobytes of
  /// stack for each level.
  private static let mostBrackets = 64
  private static let widestIndentation = 128

  /// Why `text` is not parsed; nil where it can be.
  static func fault(in text: String) -> String? {
    if aliasCount(text) > mostAliases {
      return "uses anchors (*name) more than \(mostAliases) times; write the values out"
    }
    let (brackets, indentation) = depth(text)
    if brackets > mostBrackets { return "has \(brackets) brackets within each other, at most \(mostBrackets) are read" }
    if indentation > widestIndentation {
      return "has a line that begins in column \(indentation + 1), at most \(widestIndentation + 1) is read"
    }
    return nil
  }

  /// Counts what may be an alias: a star with a name right behind it, where a value can begin.
  private static func aliasCount(_ text: String) -> Int {
    var count = 0
    var before: UInt8 = 0x20
    var pending = false
    for byte in text.utf8 {
      if pending, byte > 0x20 { count += 1 }
      pending = byte == UInt8(ascii: "*") && (before <= 0x20 || "[{,:-?".utf8.contains(before))
      before = byte
    }
    return count
  }

  /// Open brackets at the deepest place, wherever they stand, and the longest beginning of a line that can open levels:
  /// spaces, dashes and question marks.
  private static func depth(_ text: String) -> (brackets: Int, indentation: Int) {
    var (open, most, widest) = (0, 0, 0)
    var column: Int? = 0
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\n"), UInt8(ascii: "\r"): column = 0
      case UInt8(ascii: " "), UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"), UInt8(ascii: "\t"):
        if let before = column {
          column = before + 1
          widest = max(widest, before + 1)
        }
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        open += 1
        most = max(most, open)
        column = nil
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        open = max(0, open - 1)
        column = nil
      default: column = nil
      }
    }
    return (most, widest)
  }
}
