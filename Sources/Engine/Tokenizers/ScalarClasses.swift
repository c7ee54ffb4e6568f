/// What a Unicode scalar is to the normalizers and pre-tokenizers, as a set of flags looked up in one byte.
struct ScalarClass: OptionSet, Sendable {
  let rawValue: UInt8

  static let removedByCleaning = ScalarClass(rawValue: 1)
  static let whitespace = ScalarClass(rawValue: 2)
  static let punctuation = ScalarClass(rawValue: 4)
  static let nonspacingMark = ScalarClass(rawValue: 8)
  static let combiningMark = ScalarClass(rawValue: 16)
  static let chinese = ScalarClass(rawValue: 32)
  static let word = ScalarClass(rawValue: 64)
  static let numeric = ScalarClass(rawValue: 128)

  /// The classes of a scalar.
  @inline(__always)
  static func of(_ scalar: UInt32) -> ScalarClass { ScalarClass(rawValue: table[Int(scalar)]) }

  /// One byte for each of the 1,114,112 code points.
  static let table: [UInt8] = {
    var table = [UInt8](repeating: 0, count: 0x110000)
    let classes: [(ScalarClass, [UInt32])] = [
      (.removedByCleaning, ScalarRanges.removedByCleaning), (.whitespace, ScalarRanges.whitespace),
      (.punctuation, ScalarRanges.punctuation), (.nonspacingMark, ScalarRanges.nonspacingMark),
      (.combiningMark, ScalarRanges.combiningMark), (.chinese, ScalarRanges.chinese), (.word, ScalarRanges.word),
      (.numeric, ScalarRanges.numeric),
    ]
    for (flag, ranges) in classes {
      for index in stride(from: 0, to: ranges.count, by: 2) {
        for scalar in ranges[index]...ranges[index + 1] { table[Int(scalar)] |= flag.rawValue }
      }
    }
    return table
  }()
}
