/// Text on its way through the normalizers: scalars, and for each the span of the original text that it stands for.
///
/// Spans count Unicode scalars of the original. A scalar that a normalizer inserts takes the span of the one it came from,
/// a composed one that of its first part: this is how the `tokenizers` library aligns them.
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

  /// Replaces the scalar at `index` and leaves its span.
  mutating func replace(at index: Int, by scalar: UInt32) { scalars[index] = scalar }

  /// Sorts the scalars of `range` by a key, equals in their order. The spans stay where they are, as in the library.
  mutating func sort(_ range: Range<Int>, by key: (UInt32) -> UInt8) {
    let keyed = scalars[range].enumerated().map { (key: key($0.element), place: $0.offset, scalar: $0.element) }
    let sorted = keyed.sorted { ($0.key, $0.place) < ($1.key, $1.place) }
    scalars.replaceSubrange(range, with: sorted.map(\.scalar))
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
