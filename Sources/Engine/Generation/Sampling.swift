import Foundation

/// How the next token is drawn from a language model's logits.
///
/// In the order of `transformers`: the repetition penalty (Keskar and others, arXiv:1909.05858), the temperature, the `topK`
/// likeliest (Fan and others, arXiv:1805.04833), and of these the fewest that have `topP` of the probability (Holtzman and
/// others, arXiv:1904.09751).
public struct Sampling: Sendable, Equatable {
  /// What the logits are divided by; 0 takes the likeliest token (greedy), and `topK` and `topP` then say nothing.
  public let temperature: Double
  /// Tokens that stay; equals of the last one stay too. Nil for all.
  public let topK: Int?
  /// Probability that the tokens that stay have together at least, in (0, 1].
  public let topP: Double
  /// What the logits of tokens that were seen are divided by where positive and multiplied by where negative; 1 does
  /// nothing.
  public let repetitionPenalty: Double

  /// The likeliest token, always.
  public static let greedy = Sampling()

  private init() { (temperature, topK, topP, repetitionPenalty) = (0, nil, 1, 1) }

  /// Checks the ranges.
  /// - Throws: `GenerationError.badOption`.
  public init(
    temperature: Double,
    topK: Int? = nil,
    topP: Double = 1,
    repetitionPenalty: Double = 1
  ) throws(GenerationError) {
    func bad(_ name: String, _ found: String, _ expected: String) -> GenerationError {
      .badOption(name: name, found: found, expected: expected)
    }
    guard temperature >= 0, temperature.isFinite else {
      throw bad("temperature", "\(temperature)", "0 for the likeliest token, or a positive number")
    }
    if let topK, topK < 1 { throw bad("top-k", "\(topK)", "1 or more") }
    guard topP > 0, topP <= 1 else { throw bad("top-p", "\(topP)", "above 0 and at most 1") }
    guard repetitionPenalty > 0, repetitionPenalty.isFinite else {
      throw bad("repetition-penalty", "\(repetitionPenalty)", "a positive number; 1 for none")
    }
    (self.temperature, self.topK, self.topP) = (temperature, topK, topP)
    self.repetitionPenalty = repetitionPenalty
  }

  /// The probability of every token as it would be drawn.
  /// - Parameters:
  ///   - logits: one a token of the vocabulary, finite.
  ///   - seen: tokens that the penalty falls on.
  public func distribution(_ logits: [Float], seen: Set<Int32> = []) -> [Double] {
    var logits = logits
    var result = [Double](repeating: 0, count: logits.count)
    logits.withUnsafeMutableBufferPointer { values in
      var sampler = TokenSampler(self)
      penalise(values, seen)
      if temperature == 0 {
        result[TokenSampler.largest(values)] = 1
      } else {
        for (index, probability) in sampler.candidates(values) { result[index] = probability }
      }
    }
    return result
  }

  func penalise(_ logits: UnsafeMutableBufferPointer<Float>, _ seen: Set<Int32>) {
    guard repetitionPenalty != 1 else { return }
    let penalty = Float(repetitionPenalty)
    for token in seen where Int(token) < logits.count {
      let value = logits[Int(token)]
      logits[Int(token)] = value < 0 ? value * penalty : value / penalty
    }
  }
}

/// Draws tokens, with room that is used again for every draw.
struct TokenSampler {
  private let sampling: Sampling
  private var kept: [(index: Int, value: Float)] = []

  init(_ sampling: Sampling) { self.sampling = sampling }

  /// The next token. `logits` are changed.
  /// - Returns: nil where a logit is not a number, or none is finite.
  mutating func next(
    _ logits: UnsafeMutableBufferPointer<Float>,
    seen: Set<Int32>,
    using generator: inout SeededGenerator
  ) -> Int32? {
    guard logits.allSatisfy({ $0 < .infinity }), logits.contains(where: { $0 > -.infinity }) else { return nil }
    sampling.penalise(logits, seen)
    guard sampling.temperature > 0 else { return Int32(truncatingIfNeeded: Self.largest(logits)) }
    let choices = candidates(logits)
    var rest = generator.uniform()
    for (index, probability) in choices where probability > 0 {
      rest -= probability
      if rest < 0 { return Int32(truncatingIfNeeded: index) }
    }
    // The probabilities add up to 1 but for rounding.
    return choices.last { $0.probability > 0 }.map { Int32(truncatingIfNeeded: $0.index) }
  }

  /// The first of the largest.
  static func largest(_ logits: UnsafeMutableBufferPointer<Float>) -> Int {
    var best = 0
    for index in logits.indices where logits[index] > logits[best] { best = index }
    return best
  }

  /// The tokens that stay and their probabilities, which add up to 1; in the order of tokens where nothing is left out, else
  /// the likeliest last.
  mutating func candidates(_ logits: UnsafeMutableBufferPointer<Float>) -> [(index: Int, probability: Double)] {
    let temperature = Float(sampling.temperature)
    var threshold = -Float.infinity
    if let count = sampling.topK, count < logits.count { threshold = Self.value(ranked: count, in: logits) }
    kept.removeAll(keepingCapacity: true)
    for index in logits.indices where logits[index] >= threshold && logits[index] > -.infinity {
      kept.append((index, logits[index] / temperature))
    }
    let greatest = kept.reduce(-Float.infinity) { max($0, $1.value) }
    if sampling.topP < 1 {
      // From the least likely on; equals in the order of tokens.
      kept.sort { $0.value != $1.value ? $0.value < $1.value : $0.index < $1.index }
      let total = kept.reduce(0.0) { $0 + Self.exponential($1.value - greatest) }
      var below = 0.0
      var start = 0
      while start < kept.count - 1 {
        below += Self.exponential(kept[start].value - greatest) / total
        if below > 1 - sampling.topP { break }
        start += 1
      }
      kept.removeFirst(start)
    }
    let total = kept.reduce(0.0) { $0 + Self.exponential($1.value - greatest) }
    return kept.map { ($0.index, Self.exponential($0.value - greatest) / total) }
  }

  private static func exponential(_ x: Float) -> Double { exp(Double(x)) }

  /// The value that `rank` values are not below: the smallest of the `rank` largest, kept in a heap with the smallest on top.
  private static func value(ranked rank: Int, in values: UnsafeMutableBufferPointer<Float>) -> Float {
    var heap = Array(values[0..<rank])
    func sink(_ start: Int) {
      var place = start
      while true {
        var least = place
        for child in [2 * place + 1, 2 * place + 2] where child < rank && heap[child] < heap[least] { least = child }
        if least == place { return }
        heap.swapAt(place, least)
        place = least
      }
    }
    for place in stride(from: rank / 2, through: 0, by: -1) { sink(place) }
    for index in rank..<values.count where values[index] > heap[0] {
      heap[0] = values[index]
      sink(0)
    }
    return heap[0]
  }
}
