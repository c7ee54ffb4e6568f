import FedLoRAEngine

/// Makes an input of another one: a few changes, each of a kind that parsers are known to stumble over.
///
/// It knows nothing of what the parser does with the bytes. What it knows of the format comes from the target: tokens, and a
/// repair of lengths and hashes.
public struct Mutator: Sendable {
  private let dictionary: [[UInt8]]
  private let longest: Int
  private let repair: (@Sendable ([UInt8]) -> [UInt8])?

  /// A mutator for inputs of `target`.
  public init(_ target: FuzzTarget) {
    dictionary = target.dictionary
    longest = target.limits.length
    repair = target.repair
  }

  /// The input of this number: it follows from seed, target, corpus and number alone, whatever ran before.
  public static func input(
    _ index: UInt64,
    of target: FuzzTarget,
    corpus: [[UInt8]],
    seed: UInt64
  ) -> [UInt8] {
    var generator = SeededGenerator(seed: seed, .name(target.name), .number(index))
    let mutator = Mutator(target)
    let base = corpus.isEmpty ? [] : corpus[generator.number(below: corpus.count)]
    return mutator.mutated(base, others: corpus, using: &generator)
  }

  /// One to sixteen changes, few more often than many; in one of two cases the repair after them.
  public func mutated(_ bytes: [UInt8], others: [[UInt8]], using generator: inout SeededGenerator) -> [UInt8] {
    var result = bytes
    let count = 1 << generator.number(below: 5)
    for _ in 0..<(1 + generator.number(below: count)) { change(&result, others, &generator) }
    if result.count > longest { result.removeLast(result.count - longest) }
    if let repair, generator.next() & 1 == 0 { result = repair(result) }
    return result
  }

  private enum Change: CaseIterable {
    case flipBit, setByte, addToInteger, setInteger, setLength, setVarint, setDecimal
    case insertBytes, insertToken, setToken, erase, truncate, duplicate, repeatPart, nest, move, splice, insertOther
  }

  private func change(_ bytes: inout [UInt8], _ others: [[UInt8]], _ generator: inout SeededGenerator) {
    guard !bytes.isEmpty else {
      bytes = token(&generator) ?? (0..<(1 + generator.number(below: 16))).map { _ in generator.byte() }
      return
    }
    let place = generator.number(below: bytes.count)
    switch Change.allCases[generator.number(below: Change.allCases.count)] {
    case .flipBit: bytes[place] ^= 1 << generator.number(below: 8)
    case .setByte: bytes[place] = generator.byte()
    case .addToInteger:
      let field = IntegerField.any(at: place, &generator)
      let step = UInt64(1 + generator.number(below: 32))
      field.write(generator.next() & 1 == 0 ? field.read(bytes) &+ step : field.read(bytes) &- step, to: &bytes)
    case .setInteger: IntegerField.any(at: place, &generator).write(interesting(&generator), to: &bytes)
    case .setLength: setLength(&bytes, from: place, &generator)
    case .setVarint: replace(&bytes, place..<min(bytes.count, place + 1), by: varint(interesting(&generator)))
    case .setDecimal: setDecimal(&bytes, from: place, &generator)
    case .insertBytes:
      replace(&bytes, place..<place, by: (0..<(1 + generator.number(below: 16))).map { _ in generator.byte() })
    case .insertToken: replace(&bytes, place..<place, by: token(&generator) ?? [generator.byte()])
    case .setToken:
      let token = token(&generator) ?? [generator.byte()]
      replace(&bytes, place..<min(bytes.count, place + token.count), by: token)
    case .erase: bytes.removeSubrange(part(bytes, at: place, &generator))
    case .truncate: bytes.removeLast(bytes.count - place)
    case .duplicate:
      let copy = Array(bytes[part(bytes, at: place, &generator)])
      let target = generator.number(below: bytes.count + 1)
      replace(&bytes, target..<target, by: copy)
    case .repeatPart:
      let copy = Array(bytes[part(bytes, at: place, &generator)])
      let times = min(1 << generator.number(below: 12), max(1, longest / max(1, copy.count)))
      replace(&bytes, place..<place, by: Array(repeatElement(copy, count: times).joined()))
    case .nest:
      let openers: [[UInt8]] = ["[", "{\"a\":", "{a: ", "- ", "(", "0\u{80}"].map {
        Array($0.unicodeScalars.map { UInt8($0.value) })
      }
      let opener = openers[generator.number(below: openers.count)]
      let times = min(1 << generator.number(below: 17), longest / opener.count)
      replace(&bytes, place..<place, by: Array(repeatElement(opener, count: times).joined()))
    case .move:
      let range = part(bytes, at: place, &generator)
      let copy = Array(bytes[range])
      bytes.removeSubrange(range)
      let target = generator.number(below: bytes.count + 1)
      replace(&bytes, target..<target, by: copy)
    case .splice:
      guard let other = others.randomElement(&generator), !other.isEmpty else { return }
      bytes.replaceSubrange(place..., with: other[generator.number(below: other.count)...])
    case .insertOther:
      guard let other = others.randomElement(&generator), !other.isEmpty else { return }
      replace(
        &bytes,
        place..<place,
        by: Array(other[part(other, at: generator.number(below: other.count), &generator)])
      )
    }
  }

  // MARK: Parts

  /// A range from `place` on: short ones as often as long ones.
  private func part(_ bytes: [UInt8], at place: Int, _ generator: inout SeededGenerator) -> Range<Int> {
    let most = min(bytes.count - place, 1 << generator.number(below: 13))
    return place..<(place + 1 + generator.number(below: most))
  }

  private func replace(_ bytes: inout [UInt8], _ range: Range<Int>, by new: [UInt8]) {
    guard bytes.count - range.count + new.count <= 2 * longest else { return }
    bytes.replaceSubrange(range, with: new)
  }

  private func token(_ generator: inout SeededGenerator) -> [UInt8]? {
    dictionary.isEmpty ? nil : dictionary[generator.number(below: dictionary.count)]
  }

  /// Numbers at the borders of types and of common limits, and their neighbours.
  private func interesting(_ generator: inout SeededGenerator) -> UInt64 {
    let power = UInt64(1) << UInt64(generator.number(below: 64))
    switch generator.number(below: 5) {
    case 0: return 0
    case 1: return power
    case 2: return power &- 1
    case 3: return 0 &- power
    default: return power &+ UInt64(generator.number(below: 4))
    }
  }

  private func varint(_ value: UInt64) -> [UInt8] {
    var (rest, result) = (value, [UInt8]())
    while rest >= 0x80 {
      result.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    return result + [UInt8(rest)]
  }

  /// Finds a number that says how many bytes follow it, and makes it lie.
  private func setLength(_ bytes: inout [UInt8], from place: Int, _ generator: inout SeededGenerator) {
    for offset in place..<min(bytes.count, place + 256) {
      for width in [1, 2, 4, 8] where offset + width < bytes.count {
        for isBig in [false, true] {
          let field = IntegerField(offset: offset, width: width, isBigEndian: isBig)
          let (value, rest) = (field.read(bytes), UInt64(bytes.count - offset - width))
          guard value > 1, value <= rest, value + 16 >= rest || width > 2 else { continue }
          let lies = [value &+ 1, value &- 1, rest, rest &+ 1, 0, UInt64.max, UInt64.max >> 1, 1 << 31, 1 << 20]
          return field.write(lies[generator.number(below: lies.count)], to: &bytes)
        }
      }
    }
    IntegerField.any(at: place, &generator).write(interesting(&generator), to: &bytes)
  }

  private static let decimals: [String] = [
    "0", "-0", "-1", "1", "255", "65536", "2147483647", "2147483648", "4294967295", "4294967296",
    "9007199254740993", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551615",
    "1e9", "1e308", "1e309", "-1e308", "1e-320", "0.5", "1e18", "1000000", "100000000", "NaN", ".inf", "-.inf", ".nan",
  ]

  /// Replaces the next number in text by one that does not fit.
  private func setDecimal(_ bytes: inout [UInt8], from place: Int, _ generator: inout SeededGenerator) {
    func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }
    let text = Array(Self.decimals[generator.number(below: Self.decimals.count)].utf8)
    guard let start = bytes[place...].firstIndex(where: isDigit) else {
      return replace(&bytes, place..<place, by: text)
    }
    let end = bytes[start...].firstIndex { !isDigit($0) } ?? bytes.count
    replace(&bytes, start..<end, by: text)
  }
}

/// An integer somewhere in the bytes; what lies beyond their end is not there.
private struct IntegerField {
  let offset: Int
  let width: Int
  let isBigEndian: Bool

  static func any(at offset: Int, _ generator: inout SeededGenerator) -> IntegerField {
    IntegerField(offset: offset, width: 1 << generator.number(below: 4), isBigEndian: generator.next() & 1 == 0)
  }

  private func shift(_ index: Int) -> UInt64 { UInt64(8 * (isBigEndian ? width - 1 - index : index)) }

  func read(_ bytes: [UInt8]) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<width where offset + index < bytes.count { value |= UInt64(bytes[offset + index]) << shift(index) }
    return value
  }

  func write(_ value: UInt64, to bytes: inout [UInt8]) {
    for index in 0..<width where offset + index < bytes.count {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> shift(index))
    }
  }
}

extension SeededGenerator {
  /// From 0 to `limit` - 1, evenly enough for mutations. `limit` is at least 1.
  mutating func number(below limit: Int) -> Int { Int(next() >> 1) % limit }
  mutating func byte() -> UInt8 { UInt8(truncatingIfNeeded: next() >> 32) }
}

extension Array where Element == [UInt8] {
  fileprivate func randomElement(_ generator: inout SeededGenerator) -> [UInt8]? {
    isEmpty ? nil : self[generator.number(below: count)]
  }
}
