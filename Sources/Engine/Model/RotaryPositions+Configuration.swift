import Foundation

extension RotaryPositions {
  /// What a family takes where its configuration does not say.
  struct Usual {
    var base = 10_000.0
    var baseKey = "rope_theta"
    var share = 1.0
    var shareKey = "partial_rotary_factor"
    /// The kinds of scaling that the family knows.
    var kinds = ["default", "linear", "llama3"]
    /// Positions that the model was first trained with, for LongRoPE.
    var originalPositions: Int?
  }

  /// Reads the keys of transformers 5 (`rope_parameters`), or of 4 (`rope_theta` and `rope_scaling`).
  /// - Throws: `ModelError` for a kind that is not supported.
  init(_ config: HuggingFaceConfiguration, headSize: Int, usual: Usual = Usual()) throws {
    let own = try config.section("rope_parameters")
    let scaling = try own ?? config.section("rope_scaling")
    let atTop = try config.number(usual.baseKey, default: usual.base)
    let base = try own?.number("rope_theta", default: atTop) ?? atTop
    guard base > 1 else { throw own?.bad("rope_theta", "a number above 1") ?? config.bad(usual.baseKey, "above 1") }
    let shareAtTop = try config.number(usual.shareKey, default: usual.share)
    let share = try own?.number("partial_rotary_factor", default: shareAtTop) ?? shareAtTop
    let width = share > 0 && share <= 1 ? Int(Double(headSize) * share) : 0
    guard width > 0, width % 2 == 0 else {
      let expected = "a share of the head's \(headSize) elements that makes an even number of them"
      throw own.flatMap { $0.has("partial_rotary_factor") ? $0.bad("partial_rotary_factor", expected) : nil }
        ?? config.bad(usual.shareKey, expected)
    }
    self.init(
      base: base,
      width: width,
      scaling: try scaling.map { try Self.scaling($0, config, width: width, usual) } ?? .none
    )
  }

  private static func scaling(
    _ section: HuggingFaceConfiguration,
    _ config: HuggingFaceConfiguration,
    width: Int,
    _ usual: Usual
  ) throws -> Scaling {
    let kind = try section.require(
      section.has("rope_type") || !section.has("type") ? "rope_type" : "type",
      oneOf: usual.kinds,
      default: "default"
    )
    func positive(_ key: String) throws -> Double {
      let value = try section.number(key, default: 0)
      guard value > 0 else { throw section.bad(key, "a positive number") }
      return value
    }
    switch kind {
    case "linear": return .linear(factor: try positive("factor"))
    case "llama3":
      let (low, high) = (try positive("low_freq_factor"), try positive("high_freq_factor"))
      guard low < high else { throw section.bad("high_freq_factor", "more than low_freq_factor \(low)") }
      return .llama3(
        factor: try positive("factor"),
        lowFrequencyFactor: low,
        highFrequencyFactor: high,
        originalPositions: try section.count("original_max_position_embeddings")
      )
    case "longrope", "su":
      let factors = try section.numbers("short_factor") ?? []
      guard factors.count == width / 2, factors.allSatisfy({ $0 > 0 }) else {
        throw section.bad("short_factor", "a list of \(width / 2) positive numbers")
      }
      let most = Double(try config.count("max_position_embeddings"))
      let original = Double(usual.originalPositions ?? Int(most))
      // Transformers prefers a factor that is stated to the ratio of the two.
      let factor = try section.number("factor", default: most / original)
      let usualStretch = factor <= 1 || original <= 1 ? 1 : (1 + log(factor) / log(original)).squareRoot()
      let stretch = try section.number("attention_factor", default: usualStretch)
      guard stretch > 0 else { throw section.bad("attention_factor", "a positive number") }
      return .long(factors: factors, stretch: stretch)
    default: return .none
    }
  }
}
