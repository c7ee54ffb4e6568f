import Foundation

/// `Precompiled`: SentencePiece's normalisation rules as its models carry them. The map is a trie in a double array
/// (Aoe 1989, in the layout of Darts-clone) over the UTF-8 of the texts to replace; a leaf holds where in a list of
/// texts, each with a zero byte at its end, the replacement starts.
struct CharacterMap: Sendable {
  private let units: [UInt32]
  private let texts: [UInt8]
  /// The replacements of the scalars that join no cluster.
  private var lowImages: [[UInt32]?] = []
  /// Bytes of the longest replacement.
  let longestText: Int

  /// Longer clusters of scalars are replaced scalar by scalar.
  private static let mostBytes = 5
  /// The longest replacement of known maps has 33 bytes.
  private static let mostTextBytes = 256

  /// - Parameter encoded: Base64 of the size of the trie in bytes, the trie and the texts, numbers in little-endian
  ///   order.
  /// - Returns: nil where this is no such map.
  init?(encoded: String) {
    guard let data = Data(base64Encoded: encoded), data.count >= 4 else { return nil }
    let bytes = [UInt8](data)
    func number(at place: Int) -> UInt32 {
      (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
    }
    let size = Int(number(at: 0)) / 4
    guard size > 0, bytes.count >= 4 + 4 * size else { return nil }
    units = (0..<size).map { number(at: 4 + 4 * $0) }
    texts = Array(bytes[(4 + 4 * size)...])
    longestText = texts.split(separator: 0).map(\.count).max() ?? 0
    guard longestText <= Self.mostTextBytes, String(validating: texts, as: UTF8.self) != nil else { return nil }
    lowImages = (0..<Self.firstJoining).map { scalar in
      Unicode.Scalar(scalar).flatMap(UTF8.encode).flatMap { image(ofBytes: $0) }
    }
  }

  func applied(to text: NormalizedText) -> NormalizedText {
    var changes: [NormalizedText.Change] = []
    changes.reserveCapacity(text.count)
    var isChanged = false
    func replace(_ count: Int, by image: [UInt32]) {
      isChanged = true
      let more = image.count - count
      for scalar in image { changes.append(NormalizedText.Change(scalar: scalar, change: 0)) }
      if more > 0 {
        for index in changes.indices.suffix(more) { changes[index].change = 1 }
      } else if more < 0, !changes.isEmpty {
        changes[changes.count - 1].change += more
      }
    }
    func take(_ scalar: UInt32) {
      if let image = image(of: scalar) {
        replace(1, by: image)
      } else {
        changes.append(NormalizedText.Change(scalar: scalar, change: 0))
      }
    }
    var place = 0
    while place < text.count {
      let start = place
      place += 1
      while place < text.count, !Self.isSurelyBetweenClusters(text.scalars[place - 1], text.scalars[place]) {
        place += 1
      }
      if place == start + 1 {
        take(text.scalars[start])
        continue
      }
      for cluster in text.string(start..<place) {
        let scalars = cluster.unicodeScalars
        let bytes = cluster.utf8
        if bytes.count <= Self.mostBytes, scalars.count > 1, let image = image(ofBytes: bytes) {
          replace(scalars.count, by: image)
        } else {
          for scalar in scalars { take(scalar.value) }
        }
      }
    }
    return isChanged ? text.rewritten(changes) : text
  }

  /// Whether a grapheme cluster ends between two scalars whatever stands around: nothing below U+0300 joins its
  /// neighbours but the two of a line end.
  private static func isSurelyBetweenClusters(_ first: UInt32, _ second: UInt32) -> Bool {
    first < firstJoining && second < firstJoining && (first != 0x0D || second != 0x0A)
  }

  private static let firstJoining: UInt32 = 0x300

  private func image(of scalar: UInt32) -> [UInt32]? {
    if scalar < Self.firstJoining { return lowImages[Int(scalar)] }
    return Unicode.Scalar(scalar).flatMap(UTF8.encode).flatMap { image(ofBytes: $0) }
  }

  /// The replacement of the shortest entry that `bytes` starts with; nil where there is none.
  private func image(ofBytes bytes: some Sequence<UInt8>) -> [UInt32]? {
    var node = offset(of: units[0])
    for byte in bytes {
      if byte == 0 { return nil }
      node ^= Int(byte)
      guard node < units.count, units[node] & (1 << 31 | 0xFF) == UInt32(byte) else { return nil }
      let unit = units[node]
      node ^= offset(of: unit)
      if unit >> 8 & 1 == 1 {
        guard node < units.count else { return nil }
        return text(at: Int(units[node] & (1 << 31 - 1)))
      }
    }
    return nil
  }

  private func offset(of unit: UInt32) -> Int { Int(unit >> 10) << Int((unit & 1 << 9) >> 6) }

  private func text(at place: Int) -> [UInt32]? {
    guard place <= texts.count else { return nil }
    let bytes = texts[place...].prefix { $0 != 0 }
    return String(validating: bytes, as: UTF8.self)?.unicodeScalars.map(\.value)
  }
}
