/// Text on its way through the normalizers: scalars, and for each the span of the original text that it stands for.
///
/// Spans count Unicode scalars of the original. A scalar that a normalizer inserts takes the span of the one it came
/// from, a composed one that of its first part: this is how the `tokenizers` library aligns them.
struct NormalizedText {
  private(set) var scalars: [UInt32]
  private(set) var starts: [Int32]
  private(set) var ends: [Int32]

  var count: Int { scalars.count }

  init() {
    scalars = []
    starts = []
    ends = []
  }

  /// The scalars of `text`, which starts at scalar `offset` of the original.
  init(_ text: some Sequence<UInt32>, startingAt offset: Int) {
    scalars = Array(text)
    starts = (0..<scalars.count).map { Int32(offset + $0) }
    ends = (0..<scalars.count).map { Int32(offset + $0 + 1) }
  }

  mutating func reserve(_ capacity: Int) {
    scalars.reserveCapacity(capacity)
    starts.reserveCapacity(capacity)
    ends.reserveCapacity(capacity)
  }

  mutating func append(_ scalar: UInt32, start: Int32, end: Int32) {
    scalars.append(scalar)
    starts.append(start)
    ends.append(end)
  }

  /// The text in which every scalar was replaced by what `body` appends for it.
  func rebuilt(_ body: (_ scalar: UInt32, _ start: Int32, _ end: Int32, _ into: inout NormalizedText) -> Void)
    -> NormalizedText
  {
    var result = NormalizedText()
    result.reserve(count + count / 8)
    for index in 0..<count { body(scalars[index], starts[index], ends[index], &result) }
    return result
  }

  /// The part in `range`, as a text of its own.
  subscript(range: Range<Int>) -> NormalizedText {
    var part = NormalizedText()
    part.scalars = Array(scalars[range])
    part.starts = Array(starts[range])
    part.ends = Array(ends[range])
    return part
  }

  /// Appends what stands in `range` of another text, spans included.
  mutating func append(_ other: NormalizedText, in range: Range<Int>) {
    scalars += other.scalars[range]
    starts += other.starts[range]
    ends += other.ends[range]
  }

  /// The text with `prefix` before it. What is put there takes the span of the first scalar; an empty text stays empty.
  func prepended(_ prefix: [UInt32]) -> NormalizedText {
    guard let start = starts.first, let end = ends.first else { return self }
    var result = NormalizedText()
    result.reserve(count + prefix.count)
    for scalar in prefix { result.append(scalar, start: start, end: end) }
    result.append(self, in: 0..<count)
    return result
  }

  /// The text in which each of `matches` (ascending, none overlapping) became `content`, which takes the span of the
  /// last scalar of the match, or of an empty match that of the scalar before.
  func replacing(_ matches: [Range<Int>], by content: [UInt32]) -> NormalizedText {
    if matches.isEmpty { return self }
    var result = NormalizedText()
    result.reserve(count)
    var done = 0
    for match in matches {
      result.append(self, in: done..<match.lowerBound)
      let last = match.upperBound - 1
      let (start, end) = last < 0 ? (starts.first ?? 0, starts.first ?? 0) : (starts[last], ends[last])
      for scalar in content { result.append(scalar, start: start, end: end) }
      done = match.upperBound
    }
    result.append(self, in: done..<count)
    return result
  }

  /// One scalar of a rewritten text, and how it came about: 0 in the place of the next scalar, 1 or more put in behind
  /// the one before, -n in the place of the next scalar and of the n behind it.
  struct Change {
    var scalar: UInt32
    var change: Int
  }

  /// The text that `changes` make of this one. Spans follow: what is put in takes the span of what stands before.
  func rewritten(_ changes: [Change]) -> NormalizedText {
    var result = NormalizedText()
    result.reserve(changes.count)
    var place = 0
    for change in changes {
      let source = change.change > 0 ? place - 1 : place
      let first = starts.first ?? 0
      if source < 0 || source >= count {
        result.append(change.scalar, start: first, end: first)
      } else {
        result.append(change.scalar, start: starts[source], end: ends[source])
      }
      if change.change <= 0 { place += 1 - change.change }
    }
    return result
  }

  /// The span of the original that the scalars of `range` stand for.
  func origin(of range: Range<Int>) -> Range<Int> {
    guard let first = range.first, let last = range.last else { return 0..<0 }
    return Int(starts[first])..<max(Int(starts[first]), Int(ends[last]))
  }

  /// The scalars of `range` as a string.
  func string(_ range: Range<Int>) -> String {
    var view = String.UnicodeScalarView()
    for scalar in scalars[range] { view.append(Unicode.Scalar(scalar) ?? "\u{FFFD}") }
    return String(view)
  }
}
