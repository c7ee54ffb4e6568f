import FedLoRADP
import Foundation

/// What `fedlora privacy plan` has found, as data and as text.
struct PrivacyPlanAnswer: Encodable {
  /// What was asked for.
  enum Question: String, Encodable {
    case epsilon
    case noiseMultiplier = "noise_multiplier"
    case steps
  }

  /// What stays the same along the trade-off.
  struct Setting {
    let sampling: ExampleSampling
    let kind: SamplingKind
    let delta: Double
    let relation: NeighbouringRelation

    func epsilon(noiseMultiplier: Double, steps: Int) throws -> CertifiedEpsilon {
      try PrivacyAccountant(relation: relation).epsilon(of: [phase(noiseMultiplier, steps)], delta: delta)
    }

    func phase(_ noiseMultiplier: Double, _ steps: Int) throws -> PrivatePhase {
      try PrivatePhase(sampling: sampling, noiseMultiplier: noiseMultiplier, steps: steps)
    }
  }

  /// ε for another noise multiplier and the same steps.
  struct TradeOff: Encodable {
    let noiseMultiplier: Double
    let epsilon: Double

    private enum CodingKeys: String, CodingKey {
      case noiseMultiplier = "noise_multiplier"
      case epsilon
    }
  }

  let question: Question
  let setting: Setting
  let noiseMultiplier: Double
  let steps: Int
  /// The ε of the answer; at most `budget`.
  let epsilon: CertifiedEpsilon
  /// The ε that was asked to keep within.
  let budget: Double?
  /// ε by Rényi divergences, an upper bound to compare with; nil where it has none.
  let rdpEpsilon: Double?
  let tradeOff: [TradeOff]

  init(question: Question, setting: Setting, noiseMultiplier: Double, steps: Int, budget: Double?) throws {
    self.question = question
    self.setting = setting
    self.noiseMultiplier = noiseMultiplier
    self.steps = steps
    self.budget = budget
    epsilon = try setting.epsilon(noiseMultiplier: noiseMultiplier, steps: steps)
    let rdp = try PrivacyAccountant(relation: setting.relation).rdpEpsilon(
      of: [setting.phase(noiseMultiplier, steps)],
      delta: setting.delta
    )
    rdpEpsilon = rdp.isFinite ? rdp : nil
    let factors = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3]
    tradeOff =
      steps == 0
      ? []
      : try factors.map { factor in
        let sigma = noiseMultiplier * factor
        return TradeOff(
          noiseMultiplier: sigma,
          epsilon: try setting.epsilon(noiseMultiplier: sigma, steps: steps).epsilon
        )
      }.filter(\.epsilon.isFinite)
  }

  /// ε over a wide range of noise, for a picture.
  func plot() throws -> EpsilonPlot {
    let points = try (steps == 0 ? 1..<1 : 0..<49).compactMap { (index: Int) -> (Double, Double)? in
      let sigma = noiseMultiplier * pow(2, (Double(index) - 20) / 12)
      let epsilon = try setting.epsilon(noiseMultiplier: sigma, steps: steps).epsilon
      return epsilon.isFinite && epsilon > 0 ? (sigma, epsilon) : nil
    }
    return EpsilonPlot(
      points: points,
      answer: (noiseMultiplier, epsilon.epsilon),
      caption: "\(Self.short(Double(steps))) steps, \(setting.kind.rawValue) sampling at rate "
        + "\(Self.short(setting.sampling.rate)), δ = \(Self.short(setting.delta)), \(setting.relation.rawValue)"
    )
  }

  /// The answer in a sentence, and the table.
  var text: String {
    var lines = [sentence, ""]
    lines.append("method \(epsilon.method.rawValue), \(setting.relation.rawValue), \(setting.kind.rawValue) sampling")
    if let rdpEpsilon, steps > 0, epsilon.method != .rdp {
      lines.append("Rényi divergences alone would say epsilon \(Self.short(rdpEpsilon))")
    }
    guard !tradeOff.isEmpty else { return lines.joined(separator: "\n") }
    lines += ["", "noise multiplier      epsilon   over the same \(steps) step\(steps == 1 ? "" : "s")"]
    for row in tradeOff {
      let isAnswer = row.noiseMultiplier == noiseMultiplier
      lines.append(
        Self.right(Self.short(row.noiseMultiplier), 16) + Self.right(Self.short(row.epsilon), 13)
          + (isAnswer ? "   <- this plan" : "")
      )
    }
    return lines.joined(separator: "\n")
  }

  private var sentence: String {
    let delta = Self.short(setting.delta)
    let steps = "\(self.steps) step\(self.steps == 1 ? "" : "s")"
    let sigma = Self.short(noiseMultiplier)
    let rate = Self.short(setting.sampling.rate)
    switch question {
    case .epsilon:
      return
        "\(steps) at sampling rate \(rate) with noise multiplier \(sigma) are (\(Self.short(epsilon.epsilon)), \(delta))-"
        + "differentially private."
    case .noiseMultiplier:
      return "A noise multiplier of \(sigma) keeps \(steps) at sampling rate \(rate) within epsilon "
        + "\(Self.short(budget ?? 0)) at delta \(delta)."
    case .steps:
      if self.steps == 0 {
        return "Not one step at sampling rate \(rate) with noise multiplier \(sigma) fits epsilon "
          + "\(Self.short(budget ?? 0)) at delta \(delta): take more noise."
      }
      return
        "\(steps) at sampling rate \(rate) with noise multiplier \(sigma) fit epsilon \(Self.short(budget ?? 0)) at delta "
        + "\(delta); one more does not."
    }
  }

  /// Rounded up to six digits, so that neither a noise multiplier nor an ε looks better than it is.
  static func short(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return "\(value)" }
    let unit = pow(10, floor(log10(abs(value))) - 5)
    let rounded = (value / unit - 1e-9).rounded(.up) * unit
    return String(format: "%.6g", rounded)
  }

  private static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  private enum CodingKeys: String, CodingKey {
    case question
    case epsilon
    case noiseMultiplier = "noise_multiplier"
    case steps
    case delta
    case samplingRate = "sampling_rate"
    case sampling
    case relation
    case budget
    case method
    case rdpEpsilon = "rdp_epsilon"
    case tradeOff = "trade_off"
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(question, forKey: .question)
    try container.encode(epsilon.epsilon, forKey: .epsilon)
    try container.encode(noiseMultiplier, forKey: .noiseMultiplier)
    try container.encode(steps, forKey: .steps)
    try container.encode(setting.delta, forKey: .delta)
    try container.encode(setting.sampling.rate, forKey: .samplingRate)
    try container.encode(setting.kind, forKey: .sampling)
    try container.encode(setting.relation, forKey: .relation)
    try container.encode(budget, forKey: .budget)
    try container.encode(epsilon.method, forKey: .method)
    try container.encode(rdpEpsilon, forKey: .rdpEpsilon)
    try container.encode(tradeOff, forKey: .tradeOff)
  }
}
