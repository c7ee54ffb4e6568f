import Foundation

/// Rotary positions: element j of a head's first half and of its second are turned by the angle place · frequency(j) (Su and
/// others, arXiv:2104.09864).
public struct RotaryPositions: Sendable, Equatable {
  /// How the frequencies of a longer context follow from those that a model was first trained with.
  public enum Scaling: Sendable, Equatable {
    /// As trained.
    case none
    /// All divided by a factor (position interpolation, Chen and others, arXiv:2306.15595).
    case linear(factor: Double)
    /// Long waves divided by a factor, short ones kept, and those between blended, as Llama 3.1 does.
    case llama3(factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalPositions: Int)
    /// Each divided by a factor of its own, and what is turned made longer by `stretch` (LongRoPE, Ding and others,
    /// arXiv:2402.13753): the factors for sequences of at most the positions that the model was first trained with.
    case long(factors: [Double], stretch: Double)
  }

  /// Base of the frequencies: frequency(j) = base^(−2 j / width).
  public let base: Double
  /// Elements of each head that are turned, an even number.
  public let width: Int
  /// How the frequencies are changed.
  public let scaling: Scaling

  /// Radians by which each pair is turned from one place to the next, `width / 2` of them.
  public var frequencies: [Double] {
    (0..<width / 2).map { pair in
      let plain = pow(base, -2 * Double(pair) / Double(width))
      switch scaling {
      case .none: return plain
      case .linear(let factor): return plain / factor
      case .llama3(let factor, let low, let high, let original):
        let waves = Double(original) * plain / (2 * .pi)
        if waves < low { return plain / factor }
        if waves > high { return plain }
        let share = (waves - low) / (high - low)
        return (1 - share) * plain / factor + share * plain
      case .long(let factors, _): return plain / factors[pair]
      }
    }
  }

  /// What the turned elements are multiplied by.
  public var stretch: Double {
    if case .long(_, let stretch) = scaling { return stretch }
    return 1
  }

  /// Writes cosine and sine, times `stretch`, of every angle of the first `count` places, each `count` × `width / 2`.
  func tabulate(_ count: Int, cosine: UnsafeMutablePointer<Float>, sine: UnsafeMutablePointer<Float>) {
    let (frequencies, stretch) = (self.frequencies, self.stretch)
    for place in 0..<count {
      for (pair, frequency) in frequencies.enumerated() {
        let angle = Double(place) * frequency
        cosine[place * frequencies.count + pair] = Float(cos(angle) * stretch)
        sine[place * frequencies.count + pair] = Float(sin(angle) * stretch)
      }
    }
  }
}
