import Foundation

/// Finds the noise, or the number of steps, that a budget allows, on the accountant's own ε.
public enum Calibration {
  /// The largest noise multiplier that is tried.
  static let largestNoiseMultiplier = 1e9
  /// The answer lies within this share of the least noise multiplier.
  private static let tolerance = 1e-6

  /// The least noise multiplier, rounded up, with which `steps` steps after `spent` stay within (ε, δ).
  ///
  /// The accountant's ε for it is at most `epsilon`, and above `epsilon` for a noise multiplier smaller by 1e-6 of it.
  /// - Parameters:
  ///   - epsilon: above 0 and finite.
  ///   - steps: 1 or more.
  ///   - spent: steps on the same data before these.
  /// - Throws: `PrivacyParameterError` for parameters outside their ranges; `PrivacyAccountingError` when `spent` leaves
  ///   nothing, when the budget is out of reach and for sampling that does not fit the relation.
  public static func noiseMultiplier(
    epsilon: Double,
    delta: Double,
    sampling: ExampleSampling,
    steps: Int,
    relation: NeighbouringRelation,
    spent: [PrivatePhase] = []
  ) throws -> Double {
    let budget = try Budget(epsilon: epsilon, delta: delta, relation: relation, spent: spent)
    guard steps >= 1 else { throw PrivacyParameterError.outOfRange("the number of steps", Double(steps), "1 or more") }
    let whole =
      relation.sumSensitivity * (try GaussianDP.noiseMultiplier(epsilon: epsilon, delta: delta, releases: steps))
    func cost(_ sigma: Double) throws -> Double {
      try budget.epsilon(with: PrivatePhase(sampling: sampling, noiseMultiplier: sigma, steps: steps))
    }
    // Rényi divergences give a first answer for little work, from above.
    func roughCost(_ sigma: Double) throws -> Double {
      try budget.roughEpsilon(with: PrivatePhase(sampling: sampling, noiseMultiplier: sigma, steps: steps))
    }
    if sampling.rate == 1, spent.isEmpty, try cost(whole) <= epsilon { return whole }
    var sigma = whole
    while try roughCost(sigma) <= epsilon { sigma /= 1.2 }
    sigma *= 1.2
    var search = RootSearch(target: epsilon)
    var factor = 1.03
    while true {
      search.add(sigma, try cost(sigma))
      if search.fitting != nil, search.tooMuch != nil { break }
      if search.fitting != nil {
        sigma /= factor
      } else {
        guard sigma < largestNoiseMultiplier else {
          throw PrivacyAccountingError.unreachable(epsilon: epsilon, largestNoiseMultiplier: largestNoiseMultiplier)
        }
        sigma = min(sigma * factor, largestNoiseMultiplier)
      }
      factor *= factor
    }
    while let low = search.tooMuch, let high = search.fitting, low < high * (1 - tolerance) {
      var next = search.estimate
      if next > high * (1 - tolerance / 2) {
        next = high * (1 - tolerance)
      } else if next < low * (1 + tolerance / 2) {
        next = min(low * (1 + 0.9 * tolerance), high * (1 - tolerance))
      } else {
        // A hair to the side that fits, so that the next probe below it closes the bracket.
        next = min(next * (1 + 0.3 * tolerance), high * (1 - tolerance))
      }
      search.add(next, try cost(next))
    }
    return search.fitting ?? .infinity
  }

  /// The most steps that fit into the budget after `spent`; at most `PrivatePhase.maximumSteps`.
  /// - Throws: as `noiseMultiplier(epsilon:delta:sampling:steps:relation:spent:)`.
  public static func steps(
    epsilon: Double,
    delta: Double,
    sampling: ExampleSampling,
    noiseMultiplier: Double,
    relation: NeighbouringRelation,
    spent: [PrivatePhase] = []
  ) throws -> Int {
    let budget = try Budget(epsilon: epsilon, delta: delta, relation: relation, spent: spent)
    func cost(_ steps: Int) throws -> Double {
      try budget.epsilon(with: PrivatePhase(sampling: sampling, noiseMultiplier: noiseMultiplier, steps: steps))
    }
    guard try cost(1) <= epsilon else { return 0 }
    var search = RootSearch(target: epsilon)
    search.add(1, try cost(1))
    // What Rényi divergences allow fits for certain; the answer is not far above.
    let one = try PrivatePhase(sampling: sampling, noiseMultiplier: noiseMultiplier, steps: 1)
    var steps = max(2, try budget.roughSteps(of: one, epsilon: epsilon))
    var factor = 1.2
    while search.tooMuch == nil {
      search.add(Double(steps), try cost(steps))
      if steps == PrivatePhase.maximumSteps, search.tooMuch == nil { return steps }
      steps = Int(min((Double(steps) * factor).rounded(.up), Double(PrivatePhase.maximumSteps)))
      factor *= factor
    }
    while let low = search.fitting, let high = search.tooMuch, high - low > 1 {
      let estimate = search.estimate.rounded(.down)
      let next = min(max(estimate, low + 1), high - 1)
      search.add(next, try cost(Int(next)))
      // Most often the estimate is the answer, and its successor shows it.
      if search.fitting == next, next + 1 < high { search.add(next + 1, try cost(Int(next) + 1)) }
    }
    return Int(search.fitting ?? 0)
  }
}

/// An (ε, δ) budget with what was spent of it.
private struct Budget {
  let delta: Double
  let accountant: PrivacyAccountant
  let spent: [PrivatePhase]

  init(epsilon: Double, delta: Double, relation: NeighbouringRelation, spent: [PrivatePhase]) throws {
    guard epsilon > 0, epsilon.isFinite else {
      throw PrivacyParameterError.outOfRange("epsilon", epsilon, "above 0 and finite")
    }
    accountant = PrivacyAccountant(relation: relation)
    self.delta = delta
    self.spent = spent
    let already = try accountant.epsilon(of: spent, delta: delta).epsilon
    guard already < epsilon else { throw PrivacyAccountingError.alreadySpent(spent: already, budget: epsilon) }
  }

  func epsilon(with phase: PrivatePhase) throws -> Double {
    try accountant.epsilon(of: spent + [phase], delta: delta).epsilon
  }

  /// A few orders are enough for a place to start from.
  private static let roughOrders: [Double] = [1.2, 1.5, 2, 3, 4, 6, 9, 14, 20, 32, 64, 256]

  func roughEpsilon(with phase: PrivatePhase) throws -> Double {
    try Self.roughOrders.map { order in
      try (spent + [phase]).reduce(log1p(-1 / order) - log(delta * order) / (order - 1)) {
        try $0 + RenyiDP.divergence(order: order, of: $1, relation: accountant.relation)
      }
    }.min() ?? .infinity
  }

  func roughSteps(of phase: PrivatePhase, epsilon: Double) throws -> Int {
    let most =
      try Self.roughOrders.map { order in
        let room = try spent.reduce(epsilon - log1p(-1 / order) + log(delta * order) / (order - 1)) {
          try $0 - RenyiDP.divergence(order: order, of: $1, relation: accountant.relation)
        }
        let cost = try RenyiDP.divergence(order: order, of: phase, relation: accountant.relation)
        return cost > 0 ? room / cost : room > 0 ? .infinity : 0
      }.max() ?? 0
    return most > 0 ? Int(min(most, Double(PrivatePhase.maximumSteps))) : 0
  }
}

/// The secant method for a monotone function on logarithmic axes, inside a bracket that only shrinks.
private struct RootSearch {
  let target: Double
  /// The argument closest to the root at which the value fits the target.
  private(set) var fitting: Double?
  /// The argument closest to the root at which it does not.
  private(set) var tooMuch: Double?
  private var last: (Double, Double)?
  private var previous: (Double, Double)?

  init(target: Double) { self.target = target }

  mutating func add(_ argument: Double, _ value: Double) {
    if value <= target { fitting = argument } else { tooMuch = argument }
    previous = last
    last = (log(argument), log(value / target))
  }

  /// Where the line through the last two points meets the target, or the bracket's middle when that lies outside.
  var estimate: Double {
    let low = log(min(fitting ?? 0, tooMuch ?? 0))
    let high = log(max(fitting ?? 0, tooMuch ?? 0))
    if let last, let previous {
      let secant = last.0 - last.1 * (last.0 - previous.0) / (last.1 - previous.1)
      if secant > low, secant < high { return exp(secant) }
    }
    return exp((low + high) / 2)
  }
}
