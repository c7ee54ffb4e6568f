import Foundation

/// Answers how much privacy a list of private steps has cost. A pure function of the list: asking changes nothing.
///
/// The steps' parameters must be fixed beforehand, or at least not depend on what earlier steps released; for the other
/// case there is `RDPFilter`. Poisson-sampled steps under `addOrRemoveOne` and `zeroOut` get the least ε to about six
/// digits, unless σ is below 0.01, where no credit is given for sampling. Under `replaceOne` the answer is a sound bound:
/// from the same steps by group privacy, or without amplification, whichever is less; with fixed-size samples in the list,
/// from Rényi divergences.
public struct PrivacyAccountant: Sendable {
  /// Which data sets are neighbours.
  public let relation: NeighbouringRelation

  /// Below this noise multiplier amplification by sampling is not worked out, but where a single step or δ decides.
  static let leastSensibleNoise = 0.01

  /// An accountant for data sets that are neighbours under `relation`.
  public init(relation: NeighbouringRelation) { self.relation = relation }

  /// An ε with which all phases together are (ε, δ)-differentially private, never below the least one.
  /// - Parameter delta: above 0 and below 1.
  /// - Returns: 0 when there are no steps, infinity when some are without noise.
  /// - Throws: `PrivacyParameterError` for parameters outside their ranges, and `PrivacyAccountingError` for fixed-size
  ///   samples under another relation than `replaceOne`.
  public func epsilon(of phases: [PrivatePhase], delta: Double) throws -> CertifiedEpsilon {
    try PrivacyParameterError.check(delta: delta)
    let merged = try merge(phases)
    if merged.isEmpty { return CertifiedEpsilon(epsilon: 0, method: .none) }
    if merged.contains(where: { $0.noiseMultiplier == 0 }) {
      return CertifiedEpsilon(epsilon: .infinity, method: .none)
    }
    let whole = try unamplified(merged)
    let isExact = merged.allSatisfy { $0.sampling.rate == 1 }
    let ceiling = CertifiedEpsilon(epsilon: try whole.epsilon(delta: delta), method: .closedForm)
    if isExact || ceiling.epsilon == 0 { return ceiling }
    guard relation == .replaceOne else { return try amplified(merged, delta: delta, ceiling: ceiling) }
    let best =
      merged.contains { $0.sampling.isFixedSize }
      ? CertifiedEpsilon(epsilon: try rdpEpsilon(of: merged, delta: delta), method: .rdp)
      : try replaced(merged, delta: delta, ceiling: ceiling)
    return best.epsilon < ceiling.epsilon ? best : ceiling
  }

  /// The ε from Rényi divergences over `RenyiDP.orders`, with the series that published accountants use for fractional
  /// orders: a number to compare, above `epsilon(of:delta:)`.
  /// - Throws: as `epsilon(of:delta:)`.
  public func rdpEpsilon(of phases: [PrivatePhase], delta: Double) throws -> Double {
    try PrivacyParameterError.check(delta: delta)
    let merged = try merge(phases)
    if merged.isEmpty { return 0 }
    if merged.contains(where: { $0.noiseMultiplier == 0 }) { return .infinity }
    return try rdpEpsilon(of: merged, delta: delta, orders: RenyiDP.orders, fractional: .series)
  }

  /// The ε from Rényi divergences of some orders.
  func rdpEpsilon(
    of phases: [PrivatePhase],
    delta: Double,
    orders: [Double],
    fractional: RenyiDP.FractionalOrders
  ) throws -> Double {
    var sums = [Double](repeating: 0, count: orders.count)
    for phase in phases {
      let divergences = try RenyiDP.divergences(
        orders: orders,
        of: phase,
        relation: relation,
        fractional: fractional
      )
      for index in sums.indices { sums[index] += divergences[index] }
    }
    return RenyiDP.epsilon(delta: delta, orders: orders, divergences: sums)
  }

  /// Phases without steps are dropped and equal ones added up, so that neither order nor splitting matters.
  private func merge(_ phases: [PrivatePhase]) throws -> [PrivatePhase] {
    var merged: [PrivatePhase] = []
    for phase in phases {
      try phase.check(under: relation)
      guard phase.steps > 0 else { continue }
      let same = merged.firstIndex { $0.sampling == phase.sampling && $0.noiseMultiplier == phase.noiseMultiplier }
      if let same { merged[same].steps += phase.steps } else { merged.append(phase) }
    }
    return merged.sorted { ($0.sampling.rate, $0.noiseMultiplier) < ($1.sampling.rate, $1.noiseMultiplier) }
  }

  /// All steps with everyone taking part, an upper bound and for q = 1 the truth: μ² = Σ steps·(sensitivity/σ)².
  private func unamplified(_ phases: [PrivatePhase]) throws -> GaussianDP {
    let squares = phases.reduce(0.0) { sum, phase in
      let mu = relation.sumSensitivity / phase.noiseMultiplier
      return sum + Double(phase.steps) * mu * mu
    }
    return try GaussianDP(mu: squares.squareRoot())
  }

  /// Poisson-sampled steps when one example is added, removed or zeroed: the larger of both directions.
  private func amplified(
    _ phases: [PrivatePhase],
    delta: Double,
    ceiling: CertifiedEpsilon
  ) throws -> CertifiedEpsilon {
    let groups = phases.filter { $0.sampling.rate < 1 }.map {
      SubsampledGaussian(rate: $0.sampling.rate, sigma: $0.noiseMultiplier, steps: $0.steps)
    }
    let squaredMu = phases.filter { $0.sampling.rate == 1 }.reduce(0.0) {
      $0 + Double($1.steps) / ($1.noiseMultiplier * $1.noiseMultiplier)
    }
    // Each sampled step moves at most q times what the whole one would in total variation.
    let distance = groups.reduce(erf((squaredMu / 8).squareRoot())) {
      $0 + Double($1.steps) * $1.rate * erf(1 / (8.0.squareRoot() * $1.sigma))
    }
    if distance <= delta { return CertifiedEpsilon(epsilon: 0, method: .closedForm) }
    if squaredMu == 0, groups.count == 1, groups[0].steps == 1 {
      return CertifiedEpsilon(epsilon: try groups[0].singleStepEpsilon(delta: delta), method: .closedForm)
    }
    // A single draw then tells some thousands of ε. Which thousands is not worth integrals over a mesh of σ/10 that take
    // half a minute, least of all for a client that asks about whatever terms it is sent.
    if groups.contains(where: { $0.sigma < PrivacyAccountant.leastSensibleNoise }) { return ceiling }
    var worst = CertifiedEpsilon(epsilon: 0, method: .contour)
    for direction in SubsampledGaussian.Direction.allCases {
      let losses = LossComposition(direction: direction, groups: groups, squaredMu: squaredMu)
      let found = losses.certifiedEpsilon(delta: delta, ceiling: ceiling, atLeast: worst.epsilon)
      if found.epsilon > worst.epsilon { worst = found }
    }
    return worst.epsilon < ceiling.epsilon ? worst : ceiling
  }

  /// Poisson-sampled steps when one example is replaced, as removing it and adding the other: (ε, δ) for each gives
  /// (2ε, δ·(1 + exp(ε))) for both.
  private func replaced(_ phases: [PrivatePhase], delta: Double, ceiling: CertifiedEpsilon) throws -> CertifiedEpsilon {
    let accountant = PrivacyAccountant(relation: .addOrRemoveOne)
    // The δ for one half depends on its ε, and that on δ: a few rounds from the safe side suffice.
    var half = try accountant.epsilon(of: phases, delta: delta / (1 + exp(min(ceiling.epsilon / 2, 600))))
    for _ in 0..<6 {
      let next = try accountant.epsilon(of: phases, delta: delta / (1 + exp(min(half.epsilon, 600))))
      // A smaller ε at the δ made for a larger one stays valid.
      guard next.epsilon < half.epsilon * (1 - 1e-7) else { break }
      half = next
    }
    guard half.epsilon < 600 else { return ceiling }
    return CertifiedEpsilon(epsilon: 2 * half.epsilon, method: half.method)
  }
}

extension LossComposition {
  /// This direction's least ε by the best method that gives one.
  /// - Parameter floor: an ε that is needed anyway; below it no exact answer is worked out.
  func certifiedEpsilon(delta: Double, ceiling: CertifiedEpsilon, atLeast floor: Double) -> CertifiedEpsilon {
    guard let bound = chernoffBound(logDelta: log(delta)) else { return ceiling }
    if bound.epsilon <= floor { return CertifiedEpsilon(epsilon: floor, method: .rdp) }
    if let epsilon = ContourAccountant.epsilon(self, logDelta: log(delta), bound: bound) {
      return CertifiedEpsilon(epsilon: epsilon, method: .contour)
    }
    if let epsilon = TiltedPLD.epsilon(self, logDelta: log(delta), bound: bound), epsilon < bound.epsilon {
      return CertifiedEpsilon(epsilon: epsilon, method: .tiltedPLD)
    }
    return CertifiedEpsilon(epsilon: bound.epsilon, method: .rdp)
  }
}
