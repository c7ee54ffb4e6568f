/// What a template may cost: templates come with models, from strangers.
public struct TemplateLimits: Sendable, Equatable {
  /// Expressions and statements that are worked out, list elements that are looked at included.
  public var steps: Int
  /// Bytes of all texts and lists that are made on the way, whether they are kept or not.
  public var bytes: Int

  /// Takes the limits; the usual ones are far beyond any conversation that a model could read.
  public init(steps: Int = 2_000_000, bytes: Int = 256 << 20) { (self.steps, self.bytes) = (steps, bytes) }

  /// Macros that call each other.
  static let macroDepth = 8
  /// Lists and mappings inside each other.
  static let valueDepth = 100
}
