/// A text as tokens.
public struct Encoding: Equatable, Sendable {
  /// Token numbers.
  public let ids: [Int32]
  /// 0 for the text and 1 for the second text of a pair, as the post-processor says.
  public let typeIds: [Int32]
  /// Token texts; of an added token what stood in the text, with the space that it swallowed.
  public let tokens: [String]
  /// Where each token stands in its text, in Unicode scalars; empty at 0 for special tokens that were added.
  public let offsets: [Range<Int>]
}

/// Token numbers without their texts: what training needs.
public struct TokenIds: Equatable, Sendable {
  /// Token numbers.
  public let ids: [Int32]
  /// 0 for the text and 1 for the second text of a pair, as the post-processor says.
  public let typeIds: [Int32]

  /// Takes both, one type a token.
  public init(ids: [Int32], typeIds: [Int32]) { (self.ids, self.typeIds) = (ids, typeIds) }
}
