import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// How a simulated run makes one of many updates.
enum RunKind: Sendable {
  /// By their mean.
  case plain
  /// By a robust rule.
  case robust(RobustSettings)
  /// By a private release, from cohorts that nobody but the coordinator knows.
  case secret(SecretSettings)

  package enum Name: Sendable {
    case plain, robust, secret

    static func draw(_ random: inout SplitMixGenerator) -> Name {
      switch Int.random(in: 0..<10, using: &random) {
      case 0...4: .plain
      case 5...6: .robust
      default: .secret
      }
    }
  }

  init(_ rule: RobustSettings?, _ secret: SecretSettings?) {
    self = secret.map(RunKind.secret) ?? rule.map(RunKind.robust) ?? .plain
  }

  /// The terms of a run with secret cohorts.
  var secret: SecretSettings? { if case .secret(let settings) = self { settings } else { nil } }

  /// Writes what this kind says into a run's terms.
  func write(to manifest: inout WireRunManifest) {
    switch self {
    case .plain: break
    case .robust(let rule): rule.write(to: &manifest)
    case .secret(let secret): secret.write(to: &manifest)
    }
  }
}

/// A robust rule that withstands one client.
struct RobustSettings: Sendable {
  let terms: AggregationTerms
  /// The fewest updates that it takes.
  let leastUpdates: Int

  static func draw(_ random: inout SplitMixGenerator) -> RobustSettings {
    let rules: [(name: AggregationName, least: Int)] = [
      (.normBound, 2), (.median, 3), (.trimmedMean, 3), (.geometricMedian, 3), (.krum, 5), (.multiKrum, 5),
    ]
    let (name, least) = rules.randomElement(using: &random) ?? (.median, 3)
    var terms = AggregationTerms(rule: name.rawValue)
    terms.byzantine = 1
    switch name {
    case .normBound: terms.normBound = 1
    case .geometricMedian: (terms.smoothing, terms.iterations) = (1e-6, 10)
    default: break
    }
    return RobustSettings(terms: terms, leastUpdates: least)
  }

  func write(to manifest: inout WireRunManifest) {
    manifest.aggregation.rule = terms.rule
    manifest.aggregation.byzantine = UInt32(terms.byzantine)
    manifest.aggregation.normBound = terms.normBound
    manifest.aggregation.smoothing = terms.smoothing
    manifest.aggregation.iterations = UInt32(terms.iterations)
  }
}

/// A run in which clients are the unit of privacy.
struct SecretSettings: Sendable {
  /// Cohorts of one size; else each client is drawn by itself.
  let isFixedSize: Bool
  let rate: Double
  /// The first so many clients are drawn from.
  let population: Int
  let clippingNorm: Double
  /// 0 for none, so that a state can be held against the formula.
  let noise: Double
  /// Whether the clipping norm follows the updates.
  let adapts: Bool
  /// How many releases the budget allows; nil for all.
  let affordable: Int?
  /// Whether each process of the coordinator draws other cohorts and other noise, as it does outside of simulations.
  let drawsAfresh: Bool

  static let delta = 1e-5
  static let boundless = 1e4

  /// - Parameter least: the smallest population that least number of clients and cohort allow.
  init(_ random: inout SplitMixGenerator, clients: Int, perRound: Int, rounds: Int, least: Int) {
    isFixedSize = random.chance(0.3)
    population = random.chance(0.8) ? clients : Int.random(in: least...clients, using: &random)
    let rates: [Double] = [0.3, 0.7, 1]
    let rate = rates.randomElement(using: &random) ?? 1
    self.rate = isFixedSize ? Double(perRound) / Double(population) : rate
    clippingNorm = random.chance(0.5) ? 0.5 : 4
    let noise: Double = random.chance(0.3) ? 0 : 1
    self.noise = noise
    adapts = random.chance(0.3)
    let isTight = random.chance(0.3)
    let affordable = Int.random(in: 1...rounds + 1, using: &random)
    self.affordable = isTight && noise > 0 ? affordable : nil
    drawsAfresh = true
  }

  private init(repeating other: SecretSettings) {
    (isFixedSize, rate, population) = (other.isFixedSize, other.rate, other.population)
    (clippingNorm, noise, adapts) = (other.clippingNorm, other.noise, other.adapts)
    affordable = nil
    drawsAfresh = false
  }

  /// The same terms with a budget that crashes do not spend, and with randomness that follows from the run's seed.
  func repeating() -> SecretSettings { SecretSettings(repeating: self) }

  func write(to manifest: inout WireRunManifest) {
    manifest.cohort.clientsPerRound = UInt32(min(Int(manifest.cohort.clientsPerRound), population))
    var spec = WirePrivacySpec()
    spec.level = "client"
    spec.relation = isFixedSize ? "replace-one" : "add-or-remove-one"
    spec.sampling = isFixedSize ? "fixed-size" : "poisson"
    spec.samplingRate = rate
    spec.population = UInt32(population)
    spec.clipping = "flat"
    spec.clippingNorm = clippingNorm
    spec.noiseMultiplier = noise
    spec.divisor = max(1, rate * Double(population))
    spec.delta = SecretSettings.delta
    spec.epsilon = noise == 0 ? .infinity : SecretSettings.boundless
    spec.seededNoise = true
    if adapts {
      spec.clippingQuantile = 0.5
      spec.clippingLearningRate = 0.2
      spec.quantileNoise = 2
    }
    manifest.privacy = spec
  }
}
