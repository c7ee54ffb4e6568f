import ArgumentParser
import FedLoRADP
import Foundation

/// `fedlora privacy plan`.
struct PrivacyPlan: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Noise for a target epsilon, epsilon for a given noise, or steps for a budget.",
    discussion: """
      Give two of --steps, --noise-multiplier and --epsilon; the third is the answer, never optimistic.

        fedlora privacy plan --sampling-rate 0.01 --steps 1000 --epsilon 3
        fedlora privacy plan --sampling-rate 0.01 --steps 1000 --noise-multiplier 1
        fedlora privacy plan --sampling-rate 0.01 --noise-multiplier 1 --epsilon 3
      """
  )

  @Option(help: "Probability q with which a step draws a record; 1 draws all.")
  var samplingRate: Double
  @Option(help: "Number T of private steps that one record may take part in.")
  var steps: Int?
  @Option(help: "δ, well below one over the number of records.")
  var delta = 1e-5
  @Option(help: "σ: standard deviation of the noise in units of the clipping norm.")
  var noiseMultiplier: Double?
  @Option(help: "Target ε.")
  var epsilon: Double?
  @Option(help: "How a step draws records: poisson or fixed-size.")
  var sampling = "poisson"
  @Option(help: "Neighbouring relation; without it add-or-remove-one for poisson and replace-one for fixed-size.")
  var relation: String?
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  private struct Point: Encodable {
    let noise_multiplier: Double
    let epsilon: Double
  }

  private struct Answer: Encodable {
    let epsilon: Double
    let noise_multiplier: Double
    let steps: Int
    let delta: Double
    let sampling_rate: Double
    let sampling: String
    let relation: String
    let method: String
    let rdp_epsilon: Double?
    let trade_off: [Point]
  }

  func validate() throws {
    guard [steps != nil, noiseMultiplier != nil, epsilon != nil].count(where: { $0 }) == 2 else {
      throw ValidationError("give exactly two of --steps, --noise-multiplier and --epsilon; the third is the answer")
    }
    guard ["poisson", "fixed-size"].contains(sampling) else {
      throw ValidationError("--sampling is '\(sampling)', expected poisson or fixed-size")
    }
    guard relation.map({ NeighbouringRelation(rawValue: $0) != nil }) ?? true else {
      let known = NeighbouringRelation.allCases.map(\.rawValue).joined(separator: ", ")
      throw ValidationError("--relation is '\(relation ?? "")', expected \(known)")
    }
  }

  func run() async throws {
    let answer: Answer
    do { answer = try solve() } catch let error as PrivacyParameterError {
      throw CommandFailure(status: .usage, description: "\(error)")
    }
    if format == .json { return try Output.printJSON(answer) }
    Output.write(
      String(
        format: "%d steps with sampling rate %g and noise multiplier %.6f spend ε = %.6f at δ = %g (%@, %@).",
        answer.steps,
        samplingRate,
        answer.noise_multiplier,
        answer.epsilon,
        delta,
        answer.relation as NSString,
        answer.method as NSString
      )
    )
    Output.write("\nnoise multiplier         ε\n----------------  --------")
    for point in answer.trade_off {
      Output.write(String(format: "%16.4f  %8.4f", point.noise_multiplier, point.epsilon))
    }
  }

  private func solve() throws -> Answer {
    let scheme: ExampleSampling =
      sampling == "poisson" ? .poisson(rate: samplingRate) : .fixedSize(rate: samplingRate)
    let named = relation.flatMap { NeighbouringRelation(rawValue: $0) }
    let neighbours = named ?? (sampling == "poisson" ? .addOrRemoveOne : .replaceOne)
    let accountant = PrivacyAccountant(relation: neighbours)
    func cost(_ noise: Double, _ steps: Int) throws -> CertifiedEpsilon {
      let phase = try PrivatePhase(sampling: scheme, noiseMultiplier: noise, steps: steps)
      return try accountant.epsilon(of: [phase], delta: delta)
    }
    let noise: Double
    let count: Int
    if let noiseMultiplier, let steps {
      (noise, count) = (noiseMultiplier, steps)
    } else if let epsilon, let steps {
      count = steps
      noise = try Calibration.noiseMultiplier(
        epsilon: epsilon,
        delta: delta,
        sampling: scheme,
        steps: steps,
        relation: neighbours
      )
    } else {
      noise = noiseMultiplier ?? 0
      count = try Calibration.steps(
        epsilon: epsilon ?? 0,
        delta: delta,
        sampling: scheme,
        noiseMultiplier: noise,
        relation: neighbours
      )
    }
    let certified = try cost(noise, count)
    let phase = try PrivatePhase(sampling: scheme, noiseMultiplier: noise, steps: count)
    return Answer(
      epsilon: certified.epsilon,
      noise_multiplier: noise,
      steps: count,
      delta: delta,
      sampling_rate: samplingRate,
      sampling: sampling,
      relation: neighbours.rawValue,
      method: certified.method.rawValue,
      rdp_epsilon: try? accountant.rdpEpsilon(of: [phase], delta: delta),
      trade_off: try [0.5, 0.7, 0.85, 1, 1.2, 1.5, 2].map { factor in
        Point(noise_multiplier: noise * factor, epsilon: try cost(noise * factor, count).epsilon)
      }
    )
  }
}
