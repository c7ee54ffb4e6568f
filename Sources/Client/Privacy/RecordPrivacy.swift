import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol

/// What becomes of personal tensors (FedSA's B, a personal head) in a run with record-level privacy.
///
/// The gradient of a shared A contains the personal B: dA = (dY·B)ᵀX. If B were trained without noise in the same steps, it
/// would carry records of earlier steps into every later gradient of A, and clipping and noise on A would no longer bound
/// what one record does to the uploads. That form has no case here, so it cannot be asked for. See `docs/privacy.md`.
public enum PersonalForm: String, Sendable, CaseIterable {
  /// Clipped and noised in the same steps and under the same norm as what is uploaded.
  case joint
  /// Kept at their start, which no data touch.
  case held
  /// Held in every round; trained without noise after the last upload, when nothing leaves the client any more.
  case after
}

/// The record-level privacy terms of a run: each step releases the clipped, noised sum of its records' gradients.
public struct RecordPrivacy: Sendable, Equatable {
  /// Which data sets count as neighbours.
  public let relation: NeighbouringRelation
  /// How a step draws its records.
  public let sampling: ExampleSampling
  /// C: norm over all trained tensors together to which a record's gradient is clipped.
  public let clippingNorm: Double
  /// How gradients are clipped.
  public let clipping: ExampleClipping.Rule
  /// σ: the noise on the sum in units of C.
  public let noiseMultiplier: Double
  /// Public constant by which the noised sum is divided.
  public let divisor: Double
  /// Most rounds of this client.
  public let participations: Int
  /// What the run claims.
  public let epsilon: Double
  /// What the run claims.
  public let delta: Double
  /// What becomes of personal tensors.
  public let personal: PersonalForm
  /// Local steps on personal tensors under `after`.
  public let personalSteps: Int
  /// Whether noise follows from the run's seed and so protects nobody.
  public let isSeeded: Bool

  /// The stability constant of automatic clipping (Bu et al. 2023).
  public static let stability = 0.01

  /// Reads the manifest's terms; nil where it has none at record level.
  /// - Throws: `ManifestRefusal` naming the field.
  public init?(_ manifest: WireRunManifest) throws {
    guard manifest.hasPrivacy else { return nil }
    let wire = manifest.privacy
    switch wire.level {
    case "record": break
    case "client": return nil
    default:
      throw ManifestRefusal(
        code: "unknown-term",
        reason: "the manifest's privacy level is '\(wire.level)', which is not known here"
      )
    }
    func known<T>(_ value: T?, _ field: String, _ text: String, _ expected: String) throws -> T {
      guard let value else {
        throw ManifestRefusal(
          code: "unknown-term",
          reason: "the manifest's \(field) is '\(text)', expected \(expected)"
        )
      }
      return value
    }
    func check(_ condition: Bool, _ field: String, _ value: Double, _ expected: String) throws {
      guard condition else {
        throw ManifestRefusal(code: "bad-term", reason: "the manifest's \(field) is \(value), expected \(expected)")
      }
    }
    let relations = NeighbouringRelation.allCases.map(\.rawValue).joined(separator: ", ")
    relation = try known(.init(rawValue: wire.relation), "neighbouring relation", wire.relation, relations)
    try check(wire.samplingRate > 0 && wire.samplingRate <= 1, "sampling rate", wire.samplingRate, "above 0, at most 1")
    switch wire.sampling {
    case "poisson": sampling = .poisson(rate: wire.samplingRate)
    case "fixed-size": sampling = .fixedSize(rate: wire.samplingRate)
    default: sampling = try known(nil, "sampling", wire.sampling, "poisson or fixed-size")
    }
    try check(wire.clippingNorm > 0 && wire.clippingNorm.isFinite, "clipping norm", wire.clippingNorm, "above 0")
    clippingNorm = wire.clippingNorm
    switch wire.clipping {
    case "flat": clipping = .flat
    case "automatic": clipping = .automatic(stability: RecordPrivacy.stability)
    default: clipping = try known(nil, "clipping", wire.clipping, "flat or automatic")
    }
    let noise = wire.noiseMultiplier
    try check(noise > 0 && noise.isFinite, "noise multiplier", noise, "above 0 and finite")
    noiseMultiplier = noise
    try check(wire.divisor > 0 && wire.divisor.isFinite, "divisor", wire.divisor, "above 0 and finite")
    divisor = wire.divisor
    try check(
      (1...max(1, manifest.rounds)).contains(wire.participations),
      "number of participations",
      Double(wire.participations),
      "1 to the number of rounds"
    )
    participations = Int(wire.participations)
    try check(wire.epsilon > 0 && wire.epsilon.isFinite, "epsilon", wire.epsilon, "above 0 and finite")
    epsilon = wire.epsilon
    try check(wire.delta > 0 && wire.delta < 1, "delta", wire.delta, "above 0 and below 1")
    delta = wire.delta
    let forms = PersonalForm.allCases.map(\.rawValue).joined(separator: ", ")
    personal = try known(.init(rawValue: wire.personal), "form of personal tensors", wire.personal, forms)
    personalSteps = Int(wire.personalSteps)
    isSeeded = wire.seededNoise
  }

  /// `steps` local steps as the accountant counts them.
  /// - Throws: `PrivacyParameterError`.
  public func phase(steps: Int) throws -> PrivatePhase {
    try PrivatePhase(sampling: sampling, noiseMultiplier: noiseMultiplier, steps: steps)
  }

  /// Grid and clipping of steps that release this many numbers.
  /// - Throws: `ManifestRefusal` for a norm, noise or divisor with which no number would come out.
  package func mechanism(dimension: Int) throws -> (grid: NoiseGrid, clipping: ExampleClipping) {
    let grid: NoiseGrid
    let clipping: ExampleClipping
    do {
      grid = try NoiseGrid(clippingNorm: clippingNorm, noiseMultiplier: noiseMultiplier, dimension: dimension)
      clipping = try ExampleClipping(rule: self.clipping, bound: grid.clippingLimit, step: grid.step)
    } catch {
      throw ManifestRefusal(code: "bad-term", reason: "no step can be taken with the run's privacy terms: \(error)")
    }
    let deviation = noiseMultiplier * clippingNorm / divisor
    // Sixteen standard deviations are never exceeded; the optimizer squares them.
    guard Float(deviation).isNormal, (Float(deviation) * Float(deviation) * 256).isFinite else {
      throw ManifestRefusal(
        code: "bad-term",
        reason:
          "the manifest's divisor is \(divisor): noise multiplier × clipping norm / divisor is \(deviation), which "
          + "single precision cannot hold"
      )
    }
    return (grid, clipping)
  }

  /// The kinds that local steps train in a round under these terms: all that the strategy trains where they are noised
  /// together, else only what is uploaded.
  func trainedInRounds(_ strategy: Strategy) -> TrainedKinds {
    RunTerms.kinds { personal == .joint ? strategy.isTrained($0) : strategy.isUploaded($0) }
  }
}
