import ArgumentParser
import FedLoRACheckpoint
import FedLoRADP
import Foundation

/// `fedlora privacy plan`.
struct PrivacyPlan: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Work out epsilon, the noise multiplier or the steps from the other two.",
    discussion: """
      How private are 500 steps on a hundredth of the data each, with noise of 0.7 times the clipping norm? How much \
      noise keeps them within epsilon 3? How many steps fit when the noise is given as well?

        fedlora privacy plan --sampling-rate 0.01 --delta 1e-5 \\
            --steps 500 --noise-multiplier 0.7
        fedlora privacy plan --sampling-rate 0.01 --delta 1e-5 \\
            --steps 500 --epsilon 3 --plot plan.svg
        fedlora privacy plan --sampling-rate 0.01 --delta 1e-5 \\
            --noise-multiplier 0.9 --epsilon 3

      Each step clips every drawn example's gradient to norm C, adds them up and adds Gaussian noise of standard \
      deviation noise-multiplier times C. Whatever is then computed from all steps is (epsilon, delta)-differentially \
      private: whether one example was in the data changes the probability of any outcome by a factor of at most \
      exp(epsilon), but for a probability of about delta. Choose delta well below one over the number of examples. \
      Above an epsilon of about 10 little is promised.

      The numbers are never below the true epsilon. They hold for examples really drawn as --sampling says, with secret \
      randomness; shuffled batches of a fixed size are something else.
      """
  )

  @Option(help: "Share of the examples in a step on average: above 0, at most 1.")
  var samplingRate: Double
  @Option(help: "Number of steps of the whole run. Leave out to ask for it.")
  var steps: Int?
  @Option(help: "Probability with which the promise may fail: above 0, below 1.")
  var delta: Double
  @Option(help: "Standard deviation of the noise over the clipping norm. Leave out to ask for it.")
  var noiseMultiplier: Double?
  @Option(help: "The privacy budget. Leave out to ask for what is spent.")
  var epsilon: Double?
  @Option(
    help: "Which data sets are neighbours: \(NeighbouringRelation.allCases.map(\.rawValue).joined(separator: ", "))."
  )
  var relation: NeighbouringRelation?
  @Option(
    help: """
      How a step's examples are drawn: poisson (each by itself) or fixed-size (a subset without replacement; with \
      replace-one only, and the default relation then).
      """
  )
  var sampling: SamplingKind = .poisson
  @Option(help: ArgumentHelp("Also draw epsilon against the noise multiplier.", valueName: "FILE.svg"))
  var plot: String?
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  func validate() throws {
    switch (steps, noiseMultiplier, epsilon) {
    case (.some, .some, nil), (.some, nil, .some), (nil, .some, .some): break
    case (.some, .some, .some):
      throw ValidationError("--steps, --noise-multiplier and --epsilon are all given: leave out the one to work out")
    default:
      throw ValidationError("give two of --steps, --noise-multiplier and --epsilon; the third is worked out")
    }
    if let noiseMultiplier, !(noiseMultiplier > 0) || !noiseMultiplier.isFinite {
      throw ValidationError(
        "--noise-multiplier is \(noiseMultiplier), expected above 0: without noise nothing is private"
      )
    }
    if let steps, steps < 1 { throw ValidationError("--steps is \(steps), expected 1 or more") }
  }

  func run() async throws {
    do {
      let plan = try answer()
      if let plot {
        try DurableFile.write(Data(try plan.plot().svg.utf8), to: URL(fileURLWithPath: plot))
        Output.note("wrote \(plot)")
      }
      switch format {
      case .json: try Output.printJSON(plan)
      case .text: Output.write(plan.text)
      }
    } catch let error as PrivacyParameterError {
      throw CommandFailure(status: .usage, description: error.description)
    } catch let error as PrivacyAccountingError {
      throw CommandFailure(status: .usage, description: error.description)
    }
  }

  private func answer() throws -> PrivacyPlanAnswer {
    let relation = self.relation ?? (sampling == .fixedSize ? .replaceOne : .addOrRemoveOne)
    let draw: ExampleSampling =
      sampling == .poisson ? .poisson(rate: samplingRate) : .fixedSize(rate: samplingRate)
    let question: PrivacyPlanAnswer.Question
    let sigma: Double
    let count: Int
    switch (steps, noiseMultiplier, epsilon) {
    case (nil, let noise?, let budget?):
      question = .steps
      sigma = noise
      count = try Calibration.steps(
        epsilon: budget,
        delta: delta,
        sampling: draw,
        noiseMultiplier: noise,
        relation: relation
      )
    case (let steps?, nil, let budget?):
      question = .noiseMultiplier
      count = steps
      sigma = try Calibration.noiseMultiplier(
        epsilon: budget,
        delta: delta,
        sampling: draw,
        steps: steps,
        relation: relation
      )
    default:
      question = .epsilon
      sigma = noiseMultiplier ?? 0
      count = steps ?? 0
    }
    return try PrivacyPlanAnswer(
      question: question,
      setting: PrivacyPlanAnswer.Setting(sampling: draw, kind: sampling, delta: delta, relation: relation),
      noiseMultiplier: sigma,
      steps: count,
      budget: epsilon
    )
  }
}

/// How `--sampling` is said.
enum SamplingKind: String, ExpressibleByArgument, CaseIterable, Encodable {
  case poisson
  case fixedSize = "fixed-size"
}

extension NeighbouringRelation: ExpressibleByArgument {}
