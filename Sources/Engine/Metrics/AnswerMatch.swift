/// When a generated answer is the expected one.
public enum AnswerMatch: String, Sendable, CaseIterable {
  /// The same text but for white space around it.
  case plain
  /// The same words: lower case, without ASCII punctuation, without a, an, the, one space between words. As the evaluation
  /// script of SQuAD 1.1 does (Rajpurkar and others, arXiv:1606.05250).
  case squad
  /// The same number behind `####`, as the solutions of GSM8K end (Cobbe and others, arXiv:2110.14168). An answer without
  /// `####` is wrong.
  case gsm8k
  /// As `gsm8k`, but an answer without `####` counts by its last number.
  case lastNumber = "last-number"

  /// Whether `answer` is `expected`.
  public func matches(_ answer: String, _ expected: String) -> Bool {
    switch self {
    case .plain: return Self.trimmed(answer).utf8.elementsEqual(Self.trimmed(expected).utf8)
    case .squad: return Self.words(answer).elementsEqual(Self.words(expected)) { $0.utf8.elementsEqual($1.utf8) }
    case .gsm8k, .lastNumber:
      let wanted = Self.markedNumber(expected) ?? Self.numbers(expected).last
      let found = Self.markedNumber(answer) ?? (self == .lastNumber ? Self.numbers(answer).last : nil)
      return wanted != nil && found == wanted
    }
  }

  /// Share of answers that are the expected ones; 0 over nothing.
  /// - Throws: `MetricError` for two lists of different length.
  public func share(answers: [String], expected: [String]) throws(MetricError) -> Double {
    try MetricError.check(expected.count, answers.count)
    guard !answers.isEmpty else { return 0 }
    return Double(zip(answers, expected).count { matches($0, $1) }) / Double(answers.count)
  }

  // MARK: Words

  /// The words of a text after SQuAD's normalisation.
  public static func words(_ text: String) -> [String] {
    var words: [String] = []
    var word = String.UnicodeScalarView()
    // A word of letters and digits; what is neither, nor ASCII punctuation, stays but ends it as far as articles go.
    var run = String.UnicodeScalarView()
    func endRun() {
      if !["a", "an", "the"].contains(String(run)) {
        word.append(contentsOf: run)
      } else {
        endWord()
      }
      run = String.UnicodeScalarView()
    }
    func endWord() {
      if !word.isEmpty { words.append(String(word)) }
      word = String.UnicodeScalarView()
    }
    for scalar in text.lowercased().unicodeScalars {
      if isPunctuation(scalar) { continue }
      if scalar.properties.isWhitespace {
        endRun()
        endWord()
      } else if isWord(scalar) {
        run.append(scalar)
      } else {
        endRun()
        word.append(scalar)
      }
    }
    endRun()
    endWord()
    return words
  }

  /// The F1 of two answers' words as bags: 2 · common / (words of both), as the evaluation script of SQuAD 1.1 has it.
  public static func wordF1(_ answer: String, _ expected: String) -> Double {
    let (left, right) = (words(answer), words(expected))
    var counts: [String: Int] = [:]
    for word in right { counts[word, default: 0] += 1 }
    var common = 0
    for word in left where counts[word, default: 0] > 0 {
      counts[word, default: 0] -= 1
      common += 1
    }
    return common == 0 ? 0 : 2 * Double(common) / Double(left.count + right.count)
  }

  private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x21...0x2F, 0x3A...0x40, 0x5B...0x60, 0x7B...0x7E: true
    default: false
    }
  }

  private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber,
      .letterNumber, .otherNumber:
      true
    default: false
    }
  }

  private static func trimmed(_ text: String) -> String {
    var scalars = text.unicodeScalars[...]
    while scalars.first?.properties.isWhitespace == true { scalars.removeFirst() }
    while scalars.last?.properties.isWhitespace == true { scalars.removeLast() }
    return String(scalars)
  }

  // MARK: Numbers

  /// The number behind the last `####`, in its plain form; nil where there is none.
  static func markedNumber(_ text: String) -> String? {
    let bytes = Array(text.utf8)
    guard bytes.count >= 4 else { return nil }
    for start in stride(from: bytes.count - 4, through: 0, by: -1)
    where bytes[start..<start + 4].allSatisfy({ $0 == UInt8(ascii: "#") }) {
      return numbers(String(decoding: bytes[(start + 4)...], as: UTF8.self)).first
    }
    return nil
  }

  /// The numbers of a text in their plain form: digits with commas between, a fraction, and a sign where no letter or digit
  /// stands before it; `1,250.50` is `1250.5`, `+3.` is `3`, `-$4` is `-4`.
  static func numbers(_ text: String) -> [String] {
    let bytes = Array(text.utf8)
    var result: [String] = []
    var index = 0
    func isDigit(_ place: Int) -> Bool { bytes.indices.contains(place) && bytes[place] &- 0x30 < 10 }
    while index < bytes.count {
      let hasPoint = bytes[index] == UInt8(ascii: ".") && isDigit(index + 1)
      guard isDigit(index) || hasPoint else {
        index += 1
        continue
      }
      var before = index - 1
      while before >= 0, [UInt8(ascii: "$"), UInt8(ascii: " ")].contains(bytes[before]) {
        // "3 - 4" subtracts, "-$4" does not.
        if bytes[before] == UInt8(ascii: " ") { break }
        before -= 1
      }
      let isSigned = before >= 0 && bytes[before] == UInt8(ascii: "-")
      let touches = before > 0 && (isDigit(before - 1) || bytes[before - 1] | 0x20 &- 0x61 < 26)
      var whole: [UInt8] = []
      var fraction: [UInt8] = []
      while isDigit(index) || (index < bytes.count && bytes[index] == UInt8(ascii: ",") && isDigit(index + 1)) {
        if bytes[index] != UInt8(ascii: ",") { whole.append(bytes[index]) }
        index += 1
      }
      if index < bytes.count, bytes[index] == UInt8(ascii: "."), isDigit(index + 1) {
        index += 1
        while isDigit(index) {
          fraction.append(bytes[index])
          index += 1
        }
      }
      while whole.first == UInt8(ascii: "0") { whole.removeFirst() }
      while fraction.last == UInt8(ascii: "0") { fraction.removeLast() }
      let isZero = whole.isEmpty && fraction.isEmpty
      if whole.isEmpty { whole = [UInt8(ascii: "0")] }
      var number = isSigned && !touches && !isZero ? [UInt8(ascii: "-")] : []
      number += whole
      if !fraction.isEmpty { number += [UInt8(ascii: ".")] + fraction }
      result.append(String(decoding: number, as: UTF8.self))
    }
    return result
  }
}
