import Foundation

/// Lower bounds on ε from attacks on a mechanism as it runs. When one is above the ε that was promised, the mechanism
/// or its accounting is broken.
public enum AuditBound {
  /// What two worlds of runs say.
  public struct TwoWorlds: Sendable, Equatable {
    /// With the confidence asked for, the mechanism is not (ε, δ)-differentially private for a smaller ε. 0 when
    /// nothing can be said.
    public let epsilon: Double
    /// The same for a mechanism that is known to be Gaussian: a lower bound on ε from one on μ. Larger, as one
    /// threshold then speaks for all.
    public let gaussianEpsilon: Double
    /// The lower bound on μ.
    public let gaussianMu: Double
    /// The score behind `epsilon` that told the worlds apart.
    public let threshold: Double
    /// Whether scores above the threshold speak for the canary.
    public let isCanaryAbove: Bool
  }

  /// The lower bound from one run with many canaries, each put in or left out by a fair coin (Steinke, Nasr and
  /// Jagielski 2023, theorem 5.2).
  ///
  /// For a mechanism with (ε, δ) the number of correct guesses among r exceeds v with probability at most
  /// β + 2mδ·max_{i=1…v} (P[Bin ≥ v − i] − β)/i with Bin of r trials at exp(ε)/(1 + exp(ε)) and β = P[Bin ≥ v].
  /// The bound is the largest ε for which that is at most `significance`, rounded down.
  /// - Parameters:
  ///   - canaries: m, the number of fair coins, 1 or more.
  ///   - guesses: r, how many of them were guessed; their choice must not look at the coins.
  ///   - correct: v, how many of the guesses were right.
  ///   - delta: 0 or more and below 1.
  ///   - significance: the probability with which the bound may be wrong.
  /// - Throws: `PrivacyParameterError` for counts or probabilities outside their ranges.
  public static func oneRun(
    canaries: Int,
    guesses: Int,
    correct: Int,
    delta: Double,
    significance: Double
  ) throws -> Double {
    try check(delta: delta, significance: significance)
    guard canaries >= 1 else { throw PrivacyParameterError.outOfRange("the canaries", Double(canaries), "1 or more") }
    guard guesses >= 0, guesses <= canaries else {
      throw PrivacyParameterError.outOfRange("the guesses", Double(guesses), "0 to \(canaries)")
    }
    guard correct >= 0, correct <= guesses else {
      throw PrivacyParameterError.outOfRange("the correct guesses", Double(correct), "0 to \(guesses)")
    }
    func rejects(_ epsilon: Double) -> Bool {
      oneRunPValue(epsilon: epsilon, canaries: canaries, guesses: guesses, correct: correct, delta: delta)
        <= significance
    }
    guard correct > 0, rejects(0) else { return 0 }
    var low = 0.0
    var high = 1.0
    while rejects(high) {
      low = high
      high *= 2
      guard high < 1e4 else { return low }
    }
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if rejects(middle) { low = middle } else { high = middle }
    }
    return low
  }

  /// The p-value behind `oneRun`: how likely so many correct guesses are at most under (ε, δ).
  public static func oneRunPValue(
    epsilon: Double,
    canaries: Int,
    guesses: Int,
    correct: Int,
    delta: Double
  ) -> Double {
    let probability = 1 / (1 + exp(-epsilon))
    let beta = BinomialTail.atLeast(correct, trials: guesses, probability: probability)
    // P[Bin ≥ v − i] − β, term by term from v − 1 down, so that nothing cancels.
    var excess = 0.0
    var steepest = 0.0
    for i in stride(from: 1, through: correct, by: 1) {
      excess += exp(BinomialTail.logMass(correct - i, trials: guesses, probability: probability))
      steepest = max(steepest, excess / Double(i))
    }
    return min(1, beta + 2 * Double(canaries) * delta * steepest)
  }

  /// The lower bound from scores of runs without and with a canary.
  ///
  /// The even-numbered scores of each world choose a threshold and a side, the odd-numbered ones are counted against
  /// it, so that choosing costs no confidence. Upper bounds of both error rates by Clopper and Pearson share
  /// `significance` in halves. The general and the Gaussian bound each hold with that confidence, not both together.
  /// Error rates (a, b) contradict (ε, δ) when 1 − δ > b + exp(ε)·a or with the worlds exchanged (Kairouz, Oh and
  /// Viswanath 2015), and μ-Gaussian privacy when Φ⁻¹(1 − a) − Φ⁻¹(b) > μ (Dong, Roth and Su 2022).
  /// - Parameters:
  ///   - without: one score for each run without the canary, independent of each other; 2 or more.
  ///   - with: the same for runs with it.
  ///   - delta: 0 or more and below 1.
  ///   - significance: the probability with which a bound may be wrong.
  /// - Throws: `PrivacyParameterError` for too few or NaN scores and probabilities outside their ranges.
  public static func twoWorlds(
    without: [Double],
    with: [Double],
    delta: Double,
    significance: Double
  ) throws -> TwoWorlds {
    try check(delta: delta, significance: significance)
    for scores in [without, with] {
      guard scores.count >= 2 else {
        throw PrivacyParameterError.outOfRange("the number of scores of a world", Double(scores.count), "2 or more")
      }
      guard !scores.contains(where: \.isNaN) else {
        throw PrivacyParameterError.outOfRange("a score", .nan, "a number")
      }
    }
    func half(_ scores: [Double], _ remainder: Int) -> [Double] {
      scores.enumerated().filter { $0.offset % 2 == remainder }.map(\.element)
    }
    // Each bound has its own best threshold; ties, as where the general bound is still 0, go to the Gaussian one.
    func choose(_ value: (TwoWorlds) -> Double) -> TwoWorlds {
      AuditThreshold.best(
        without: half(without, 0),
        with: half(with, 0),
        delta: delta,
        significance: significance,
        by: value
      ).bound(without: half(without, 1), with: half(with, 1), delta: delta, significance: significance)
    }
    let general = choose { $0.epsilon + 1e-6 * $0.gaussianMu }
    let gaussian = choose { $0.gaussianMu }
    return TwoWorlds(
      epsilon: general.epsilon,
      gaussianEpsilon: gaussian.gaussianEpsilon,
      gaussianMu: gaussian.gaussianMu,
      threshold: general.threshold,
      isCanaryAbove: general.isCanaryAbove
    )
  }

  private static func check(delta: Double, significance: Double) throws {
    guard delta >= 0, delta < 1 else { throw PrivacyParameterError.outOfRange("delta", delta, "0 or more and below 1") }
    guard significance > 0, significance < 1 else {
      throw PrivacyParameterError.outOfRange("the significance", significance, "above 0 and below 1")
    }
  }
}
