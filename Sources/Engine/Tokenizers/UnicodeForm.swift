import Foundation

/// The four normalisation forms over scalars with spans. The decompositions come from Foundation, scalar by scalar;
/// order and composition are those of Unicode Standard Annex 15.
enum UnicodeForm: String, Sendable {
  case nfc = "NFC"
  case nfd = "NFD"
  case nfkc = "NFKC"
  case nfkd = "NFKD"

  func applied(to text: NormalizedText) -> NormalizedText {
    if text.scalars.allSatisfy({ $0 < 0xA0 }) { return text }
    switch self {
    case .nfd: return text.rewritten(Self.decomposed(text, .canonical))
    case .nfkd: return text.rewritten(Self.decomposed(text, .compatibility))
    case .nfc: return text.rewritten(Self.composed(Self.decomposed(text, .canonical)))
    case .nfkc: return text.rewritten(Self.composed(Self.decomposed(text, .compatibility)))
    }
  }

  /// The parts of each scalar: the first in its place, the others put in behind.
  private static func decomposed(_ text: NormalizedText, _ mapping: ScalarMapping) -> [NormalizedText.Change] {
    var changes: [NormalizedText.Change] = []
    changes.reserveCapacity(text.count + text.count / 8)
    func append(_ parts: some Sequence<UInt32>) {
      var change = 0
      for part in parts {
        changes.append(NormalizedText.Change(scalar: part, change: change))
        change = 1
      }
    }
    for scalar in text.scalars {
      if scalar < 0xA0 {
        changes.append(NormalizedText.Change(scalar: scalar, change: 0))
      } else if (Hangul.firstSyllable..<Hangul.firstSyllable + Hangul.syllables).contains(scalar) {
        append(Hangul.parts(of: scalar))
      } else if let image = mapping.image(of: scalar) {
        append(image)
      } else {
        changes.append(NormalizedText.Change(scalar: scalar, change: 0))
      }
    }
    // Canonical order: each run of non-starters sorted by class, equals in their order.
    var start: Int?
    for index in 0...changes.count {
      let isStarter = index == changes.count || combiningClass(changes[index].scalar) == 0
      if !isStarter, start == nil { start = index }
      guard isStarter, let first = start else { continue }
      if index - first > 1 {
        let run = changes[first..<index].enumerated().map { (combiningClass($0.element.scalar), $0.offset, $0.element) }
        let sorted = run.sorted { ($0.0, $0.1) < ($1.0, $1.1) }
        changes.replaceSubrange(first..<index, with: sorted.map(\.2))
      }
      start = nil
    }
    return changes
  }

  private static func combiningClass(_ scalar: UInt32) -> UInt8 {
    guard scalar >= 0x300, let value = Unicode.Scalar(scalar) else { return 0 }
    return value.properties.canonicalCombiningClass.rawValue
  }

  /// Composition. A composed scalar stands for one scalar more of the text than its first part for each part that was a
  /// scalar of its own; what stands between the parts keeps its own count, and so moves: this is how the library does
  /// it.
  private static func composed(_ parts: [NormalizedText.Change]) -> [NormalizedText.Change] {
    var result: [NormalizedText.Change] = []
    result.reserveCapacity(parts.count)
    var starter: Int?
    var lastClass: UInt8 = 0
    for part in parts {
      let own = combiningClass(part.scalar)
      // Not blocked: right behind the starter, or after non-starters of a lower class only.
      if let at = starter, result.count == at + 1 || lastClass < own,
        let whole = composition(result[at].scalar, part.scalar)
      {
        result[at].scalar = whole
        result[at].change += part.change - 1
        continue
      }
      result.append(part)
      if own == 0 { starter = result.count - 1 }
      lastClass = own
    }
    return result
  }

  private static func composition(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if let syllable = Hangul.composition(first, second) { return syllable }
    return second < 0x300 ? nil : compositions[UInt64(first) << 32 | UInt64(second)]
  }

  /// Primary composites by their two parts: c is one when it survives decomposition and composition; its parts are the
  /// composition of all but the last scalar of its decomposition, and the last one.
  private static let compositions: [UInt64: UInt32] = {
    var table: [UInt64: UInt32] = [:]
    for range: ClosedRange<UInt32> in [0xC0...0x33FF, 0x1_0000...0x1_1FFF, 0x1_6000...0x1_6FFF] {
      for code in range {
        guard let scalar = Unicode.Scalar(code), let image = ScalarMapping.canonical.image(of: code), image.count > 1,
          let last = image.last,
          String(scalar).precomposedStringWithCanonicalMapping.unicodeScalars.elementsEqual([scalar])
        else { continue }
        var head = String.UnicodeScalarView()
        head.append(contentsOf: image.dropLast().compactMap(Unicode.Scalar.init))
        let first = String(head).precomposedStringWithCanonicalMapping.unicodeScalars
        guard first.count == 1, let value = first.first?.value else { continue }
        table[UInt64(value) << 32 | UInt64(last)] = code
      }
    }
    return table
  }()
}

/// The arithmetic of Hangul syllables (The Unicode Standard, section 3.12).
private enum Hangul {
  static let firstSyllable: UInt32 = 0xAC00
  static let syllables: UInt32 = 11172
  private static let leading: UInt32 = 0x1100
  private static let vowel: UInt32 = 0x1161
  private static let trailing: UInt32 = 0x11A7

  static func parts(of syllable: UInt32) -> [UInt32] {
    let index = syllable - firstSyllable
    let parts = [leading + index / 588, vowel + index % 588 / 28]
    return index % 28 == 0 ? parts : parts + [trailing + index % 28]
  }

  static func composition(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if (leading..<leading + 19).contains(first), (vowel..<vowel + 21).contains(second) {
      return firstSyllable + ((first - leading) * 21 + second - vowel) * 28
    }
    if (firstSyllable..<firstSyllable + syllables).contains(first), (first - firstSyllable) % 28 == 0,
      (trailing + 1..<trailing + 28).contains(second)
    {
      return first + second - trailing
    }
    return nil
  }
}
