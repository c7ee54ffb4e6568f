import Foundation

/// A map from a scalar to one or more scalars (lower case, decompositions), in pages of 256 so that a look-up costs two
/// loads and pages that change nothing cost nothing.
struct ScalarMapping: Sendable {
  /// For each page of 256 scalars the start of its slots, or 0 where the page maps every scalar to itself.
  private var pages = [Int32](repeating: 0, count: 0x1100)
  /// Slots: 0 for a scalar that stays, else where in `pool` its image is stored (first its length).
  private var slots = [Int32](repeating: 0, count: 256)
  private var pool: [UInt32] = [0]

  /// Tabulates `image` over `ranges`; scalars outside stay as they are.
  init(over ranges: [ClosedRange<UInt32>], _ image: (Unicode.Scalar) -> String.UnicodeScalarView) {
    for range in ranges {
      for code in range {
        guard let scalar = Unicode.Scalar(code) else { continue }
        let mapped = image(scalar)
        if mapped.count == 1, mapped.first == scalar { continue }
        let page = Int(code >> 8)
        if pages[page] == 0 {
          pages[page] = Int32(slots.count)
          slots.append(contentsOf: repeatElement(0, count: 256))
        }
        slots[Int(pages[page]) + Int(code & 255)] = Int32(pool.count)
        pool.append(UInt32(mapped.count))
        pool.append(contentsOf: mapped.lazy.map(\.value))
      }
    }
  }

  /// Where the image of `scalar` lies in the pool; nil where the scalar stays as it is.
  @inline(__always)
  func image(of scalar: UInt32) -> ArraySlice<UInt32>? {
    let slot = Int(slots[Int(pages[Int(scalar >> 8)]) + Int(scalar & 255)])
    if slot == 0 { return nil }
    return pool[(slot + 1)..<(slot + 1 + Int(pool[slot]))]
  }

  /// Full lower-casing without context, as `char::to_lowercase` of Rust does it (no final sigma).
  static let lowercase = ScalarMapping(over: [0...0x2FFF, 0xA000...0xABFF, 0xFB00...0xFFFF, 0x1_0000...0x1_EFFF]) {
    $0.properties.lowercaseMapping.unicodeScalars
  }

  /// Full canonical decomposition, Hangul aside (that is arithmetic).
  static let canonical = ScalarMapping(
    over: [
      0xA0...0x33FF, 0xF900...0xFFFF, 0x1_0000...0x1_1FFF, 0x1_6000...0x1_6FFF, 0x1_D000...0x1_D2FF,
      0x2_F800...0x2_FA1F,
    ]
  ) {
    isKnown($0) ? String($0).decomposedStringWithCanonicalMapping.unicodeScalars : String($0).unicodeScalars
  }

  /// Full compatibility decomposition, Hangul aside.
  static let compatibility = ScalarMapping(
    over: [
      0xA0...0x33FF, 0xA000...0xABFF, 0xF900...0xFFFF, 0x1_0000...0x1_1FFF, 0x1_6000...0x1_6FFF, 0x1_C000...0x1_FBFF,
      0x2_F800...0x2_FA1F,
    ]
  ) {
    isKnown($0) ? String($0).decomposedStringWithCompatibilityMapping.unicodeScalars : String($0).unicodeScalars
  }

  /// The library's decompositions are of Unicode 11: what came later stays as it is.
  private static func isKnown(_ scalar: Unicode.Scalar) -> Bool {
    guard let age = scalar.properties.age else { return false }
    return age.major < 12
  }
}
