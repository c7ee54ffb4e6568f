/// The alphabet of byte-level tokenizers: a printable scalar for each byte (Radford et al. 2019, "Language Models are
/// Unsupervised Multitask Learners", its encoder). Bytes that are printable in Latin-1 stand for themselves, the others
/// for 256 and on, in their order.
enum ByteAlphabet {
  /// The scalar of each byte.
  static let scalars: [UInt32] = {
    var next: UInt32 = 256
    return (0..<256).map { (byte: UInt32) in
      if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte) { return byte }
      defer { next += 1 }
      return next
    }
  }()

  /// The byte of each scalar below 324, or -1.
  private static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 324)
    for (byte, scalar) in scalars.enumerated() { bytes[Int(scalar)] = Int16(byte) }
    return bytes
  }()

  /// What a space becomes: Ġ.
  static let space: UInt32 = 0x120

  /// The byte that a scalar stands for; nil for one outside the alphabet.
  static func byte(of scalar: UInt32) -> UInt8? {
    guard scalar < 324, bytes[Int(scalar)] >= 0 else { return nil }
    return UInt8(bytes[Int(scalar)])
  }

  /// Appends the bytes of `range` of a text in this alphabet, each with the span of the scalar it is a part of.
  static func append(_ text: NormalizedText, _ range: Range<Int>, to result: inout NormalizedText) {
    scalars.withUnsafeBufferPointer { alphabet in
      for index in range {
        let (scalar, start, end) = (text.scalars[index], text.starts[index], text.ends[index])
        func append(_ byte: UInt32) { result.append(alphabet[Int(byte)], start: start, end: end) }
        if scalar < 0x80 {
          append(scalar)
        } else if scalar < 0x800 {
          append(0xC0 | scalar >> 6)
          append(0x80 | scalar & 0x3F)
        } else if scalar < 0x1_0000 {
          append(0xE0 | scalar >> 12)
          append(0x80 | scalar >> 6 & 0x3F)
          append(0x80 | scalar & 0x3F)
        } else {
          append(0xF0 | scalar >> 18)
          append(0x80 | scalar >> 12 & 0x3F)
          append(0x80 | scalar >> 6 & 0x3F)
          append(0x80 | scalar & 0x3F)
        }
      }
    }
  }
}

/// `ByteLevel`: cuts as GPT-2 does, and writes the words in the byte alphabet.
struct ByteLevel: Sendable {
  /// Puts a space before every word that does not start with one.
  let addsPrefixSpace: Bool
  /// GPT-2's words, or nil where another stage cuts.
  let pattern: Pattern?

  /// GPT-2's words: English contractions, letters, numbers and everything else, each with at most one space before.
  static let words = #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  func apply(to split: inout SplitText) {
    if addsPrefixSpace, split.words.contains(where: { split.text.scalars[$0.lowerBound] != 0x20 }) {
      split.rewrite { text, word, result in
        let first = word.lowerBound
        if text.scalars[first] != 0x20 { result.append(0x20, start: text.starts[first], end: text.ends[first]) }
        result.append(text, in: word)
      }
    }
    if let pattern {
      var matcher = PatternMatcher(pattern)
      split.split(.isolated) { matcher.forEachMatch(in: $0, $1, $2) }
    }
    split.rewrite(ByteAlphabet.append)
  }
}
