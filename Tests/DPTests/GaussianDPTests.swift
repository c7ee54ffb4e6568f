import FedLoRADP
import Foundation
import Testing

/// One known value. `kind` says what is asked: ε from σ and δ, δ from σ and ε, or σ from ε and δ.
private struct KnownValue: CustomStringConvertible, Sendable {
  let kind: String
  let sigma: Double
  let epsilon: Double
  let delta: Double

  var description: String { "\(kind) σ=\(sigma) ε=\(epsilon) δ=\(delta)" }

  func relativeError() throws -> Double {
    switch kind {
    case "eps_from_sigma_delta":
      abs(try GaussianDP(noiseMultiplier: sigma).epsilon(delta: delta) / epsilon - 1)
    case "delta_from_sigma_eps":
      abs(try GaussianDP(noiseMultiplier: sigma).delta(epsilon: epsilon) / delta - 1)
    case "sigma_from_eps_delta":
      abs(try GaussianDP.noiseMultiplier(epsilon: epsilon, delta: delta) / sigma - 1)
    default: .infinity
    }
  }
}

/// A table of 60-digit values that lies beside the checkout on some machines.
private let table = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .appendingPathComponent("../../../shared/reference/dp/dp_gaussian_public.csv").standardizedFileURL

private func knownValues() -> [KnownValue] {
  guard let text = try? String(contentsOf: table, encoding: .utf8) else { return [] }
  return text.split(whereSeparator: \.isNewline).dropFirst().compactMap { line in
    let fields = line.split(separator: ",")
    guard fields.count >= 4, let sigma = Double(fields[1]), let epsilon = Double(fields[2]),
      let delta = Double(fields[3])
    else { return nil }
    return KnownValue(kind: String(fields[0]), sigma: sigma, epsilon: epsilon, delta: delta)
  }
}

/// Our own values of Balle and Wang's formula, by mpmath with 60 digits and bisection.
private let ownValues: [KnownValue] = [
  KnownValue(kind: "delta_from_sigma_eps", sigma: 0.7, epsilon: 0, delta: 0.52494947594604703),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 1.3, epsilon: 2.5, delta: 0.00038673852638514723),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 30, epsilon: 0.2, delta: 5.7592771897149937e-12),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 1000, epsilon: 0.01, delta: 7.5120257223581851e-28),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 0.1, epsilon: 120, delta: 7.4431637053240296e-13),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 5, epsilon: 4, delta: 2.0145715063797942e-90),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 0.9, epsilon: 25, delta: 2.3489690093250399e-108),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 1e6, epsilon: 1e-5, delta: 7.474597627483054e-31),
  KnownValue(kind: "delta_from_sigma_eps", sigma: 0.05, epsilon: 100, delta: 0.99999961466855645),
  KnownValue(kind: "eps_from_sigma_delta", sigma: 0.8, epsilon: 5.6795868550975652, delta: 1e-5),
  KnownValue(kind: "eps_from_sigma_delta", sigma: 2.5, epsilon: 1.9560743744960574, delta: 1e-7),
  KnownValue(kind: "eps_from_sigma_delta", sigma: 50, epsilon: 0.10870785679823178, delta: 1e-10),
  KnownValue(kind: "eps_from_sigma_delta", sigma: 0.1, epsilon: 80.032526094150485, delta: 1e-3),
  KnownValue(kind: "eps_from_sigma_delta", sigma: 1, epsilon: 34.194535388060962, delta: 1e-250),
  KnownValue(kind: "eps_from_sigma_delta", sigma: 300, epsilon: 0.010231230839121972, delta: 1e-6),
  KnownValue(kind: "sigma_from_eps_delta", sigma: 36.304690426195783, epsilon: 0.1, delta: 1e-6),
  KnownValue(kind: "sigma_from_eps_delta", sigma: 0.76363517993167797, epsilon: 6, delta: 1e-5),
  KnownValue(kind: "sigma_from_eps_delta", sigma: 1.3905934566745367, epsilon: 3, delta: 1e-5),
  KnownValue(kind: "sigma_from_eps_delta", sigma: 0.1747836249393317, epsilon: 50, delta: 1e-9),
  KnownValue(kind: "sigma_from_eps_delta", sigma: 5412.3021938439271, epsilon: 0.001, delta: 1e-12),
]

@Suite("Gaussian differential privacy")
struct GaussianDPTests {
  @Test(
    "agrees with the table of known values to 1e-12",
    .enabled(if: !knownValues().isEmpty),
    arguments: knownValues()
  )
  private func table(known: KnownValue) throws {
    #expect(try known.relativeError() <= 1e-12)
  }

  @Test("agrees with our own 60-digit values to 1e-12", arguments: ownValues)
  private func own(known: KnownValue) throws {
    #expect(try known.relativeError() <= 1e-12)
  }

  @Test("at ε = 0 δ is the total variation distance erf(μ/√8), also for tiny μ")
  func totalVariation() throws {
    for mu in [1e-300, 1e-12, 1e-5, 0.3, 0.999, 1, 1.001, 3, 12] {
      let delta = try GaussianDP(mu: mu).delta(epsilon: 0)
      #expect(abs(delta / erf(mu / 8.0.squareRoot()) - 1) <= 1e-13, "μ \(mu)")
    }
  }

  @Test("the branches for small and large μ and for δ near 1 meet")
  func branchesMeet() throws {
    for epsilon in [0, 0.01, 0.4, 1, 5, 20, 300] {
      let below = try GaussianDP(mu: 1).logDelta(epsilon: epsilon)
      let above = try GaussianDP(mu: 1.0.nextUp).logDelta(epsilon: epsilon)
      #expect(abs(below - above) <= 1e-12 * max(1, abs(below)), "ε \(epsilon)")
    }
    // a = −1 at ε = μ·(μ/2 − 1).
    for mu in [2.5, 4, 10, 30] {
      let epsilon = mu * (mu / 2 - 1)
      let left = try GaussianDP(mu: mu).logDelta(epsilon: epsilon * (1 - 1e-14))
      let right = try GaussianDP(mu: mu).logDelta(epsilon: epsilon * (1 + 1e-14))
      #expect(abs(left - right) <= 1e-11, "μ \(mu)")
    }
  }

  @Test("ε(δ) and δ(ε) are inverse, down to δ = 1e-300")
  func inverse() throws {
    for mu in [1e-3, 0.02, 0.5, 1, 2, 10, 40] {
      for delta in [1e-300, 1e-100, 1e-15, 1e-9, 1e-5, 1e-3, 0.3] {
        let privacy = try GaussianDP(mu: mu)
        let epsilon = try privacy.epsilon(delta: delta)
        if epsilon == 0 {
          #expect(try privacy.delta(epsilon: 0) <= delta)
        } else {
          #expect(abs(try privacy.logDelta(epsilon: epsilon) - log(delta)) <= 1e-10, "μ \(mu) δ \(delta)")
        }
      }
    }
  }

  @Test("ε grows with the releases and falls with noise and δ; δ falls with ε")
  func monotone() throws {
    let multipliers = [0.3, 0.5, 0.7, 1, 1.4, 2, 5, 20, 100]
    let byNoise = try multipliers.map { try GaussianDP(noiseMultiplier: $0).epsilon(delta: 1e-5) }
    #expect(zip(byNoise, byNoise.dropFirst()).allSatisfy { $0 > $1 })
    let byReleases = try [1, 2, 10, 100, 10_000].map {
      try GaussianDP(noiseMultiplier: 10, releases: $0).epsilon(delta: 1e-5)
    }
    #expect(zip(byReleases, byReleases.dropFirst()).allSatisfy { $0 < $1 })
    let byDelta = try [1e-12, 1e-9, 1e-6, 1e-3].map { try GaussianDP(mu: 1).epsilon(delta: $0) }
    #expect(zip(byDelta, byDelta.dropFirst()).allSatisfy { $0 > $1 })
    let byEpsilon = try stride(from: 0.0, through: 60, by: 0.25).map { try GaussianDP(mu: 1.3).logDelta(epsilon: $0) }
    #expect(zip(byEpsilon, byEpsilon.dropFirst()).allSatisfy { $0 > $1 })
  }

  @Test("T releases compose to μ·√T, two to √(μ₁² + μ₂²)")
  func composition() throws {
    let once = try GaussianDP(noiseMultiplier: 4)
    #expect(try once.repeated(16).mu == 1)
    #expect(try GaussianDP(noiseMultiplier: 4, releases: 16).mu == 1)
    #expect(try GaussianDP(mu: 3).composed(with: GaussianDP(mu: 4)).mu == 5)
    #expect(try once.repeated(0).epsilon(delta: 1e-5) == 0)
    #expect(try GaussianDP(noiseMultiplier: 4, releases: 0).delta(epsilon: 0) == 0)
  }

  @Test("no noise is no privacy, and infinite noise tells nothing")
  func limits() throws {
    let open = try GaussianDP(noiseMultiplier: 0)
    #expect(try open.epsilon(delta: 1e-5) == .infinity)
    #expect(try open.delta(epsilon: 100) == 1)
    let silent = try GaussianDP(noiseMultiplier: .infinity)
    #expect(try silent.epsilon(delta: 1e-5) == 0)
    #expect(try silent.delta(epsilon: 0) == 0)
    #expect(try GaussianDP(mu: 1e200).epsilon(delta: 1e-5) == .infinity)
  }

  @Test("calibration meets the budget and leaves nothing of it unused")
  func calibration() throws {
    for epsilon in [0.001, 0.1, 0.5, 1, 3, 6, 20, 300] {
      for delta in [1e-12, 1e-5, 1e-2] {
        for releases in [1, 7, 1000] {
          let sigma = try GaussianDP.noiseMultiplier(epsilon: epsilon, delta: delta, releases: releases)
          let spent = try GaussianDP(noiseMultiplier: sigma, releases: releases).epsilon(delta: delta)
          #expect(spent <= epsilon, "ε \(epsilon) δ \(delta) T \(releases)")
          let less = try GaussianDP(noiseMultiplier: sigma * (1 - 1e-10), releases: releases).epsilon(delta: delta)
          #expect(less > epsilon, "ε \(epsilon) δ \(delta) T \(releases)")
        }
      }
    }
  }

  @Test("parameters outside their range are refused by name")
  func refusals() throws {
    #expect(throws: PrivacyParameterError.outOfRange("mu", -1, "0 or more")) { try GaussianDP(mu: -1) }
    #expect(throws: PrivacyParameterError.self) { try GaussianDP(mu: .nan) }
    #expect(throws: PrivacyParameterError.self) { try GaussianDP(noiseMultiplier: .nan) }
    #expect(throws: PrivacyParameterError.self) { try GaussianDP(noiseMultiplier: 1, releases: -1) }
    #expect(throws: PrivacyParameterError.self) { try GaussianDP(mu: 1).delta(epsilon: -0.1) }
    for delta in [0, 1, -1, Double.nan] {
      #expect(throws: PrivacyParameterError.self) { try GaussianDP(mu: 1).epsilon(delta: delta) }
      #expect(throws: PrivacyParameterError.self) { try GaussianDP.noiseMultiplier(epsilon: 1, delta: delta) }
    }
    #expect(throws: PrivacyParameterError.self) { try GaussianDP.noiseMultiplier(epsilon: 0, delta: 1e-5) }
    #expect(throws: PrivacyParameterError.self) { try GaussianDP.noiseMultiplier(epsilon: 1, delta: 1e-5, releases: 0) }
    #expect(
      PrivacyParameterError.outOfRange("delta", 2, "above 0 and below 1").description
        == "delta is 2.0, expected above 0 and below 1"
    )
  }
}
