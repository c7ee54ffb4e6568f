import ArgumentParser
import FedLoRADP
import Foundation

/// `fedlora privacy report`.
struct PrivacyReport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "report",
    abstract: "What a data set has spent, by its ledger; changes nothing.",
    discussion: """
      A client keeps one ledger for each data set, in STATE/ledgers.

        fedlora privacy report fedlora-client/ledgers/ledger-1f2e3d4c5b6a7988.jsonl --epsilon 8
      """
  )

  @Argument(help: "A ledger.")
  var ledger: String
  @Option(help: "δ at which ε is counted.")
  var delta = 1e-5
  @Option(help: "The budget to compare with.")
  var epsilon: Double?
  @Option(help: "How to print the report: text or json.")
  var format: OutputFormat = .text

  private struct Run: Encodable {
    let run: String
    let rounds: Int
    let steps: Int
    let noise_multiplier: Double
    let sampling_rate: Double
    let clipping_norm: Double
    let strategy: String
    let seeded_noise: Bool
  }

  private struct Report: Encodable {
    let dataset: String
    let relation: String
    let delta: Double
    let epsilon: Double
    let method: String
    let seeded_noise: Bool
    let unfinished_line: Bool
    let runs: [Run]
  }

  func run() async throws {
    let report: Report
    do { report = try read() } catch let error as LedgerError {
      throw CommandFailure(status: .badData, description: "\(error)")
    } catch let error as PrivacyParameterError {
      throw CommandFailure(status: .usage, description: "\(error)")
    }
    if format == .json { return try Output.printJSON(report) }
    Output.write("data set \(report.dataset)\nneighbours: \(report.relation)\n")
    for run in report.runs {
      Output.write(
        String(
          format: "%@ (%@): %d rounds, %d steps, σ = %.4f, q = %g, C = %g%@",
          run.run as NSString,
          run.strategy as NSString,
          run.rounds,
          run.steps,
          run.noise_multiplier,
          run.sampling_rate,
          run.clipping_norm,
          (run.seeded_noise ? ", SEEDED NOISE: protects nobody" : "") as NSString
        )
      )
    }
    Output.write(String(format: "\nspent: ε = %.6f at δ = %g (%@)", report.epsilon, delta, report.method as NSString))
    if let epsilon, epsilon > 0 {
      let share = report.epsilon / epsilon
      let filled = Int((min(1, max(0, share)) * 30).rounded(.up))
      let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 30 - filled)
      Output.write(String(format: "[%@] %.1f %% of %g", bar as NSString, 100 * share, epsilon))
    }
    if report.unfinished_line { Output.write("The last line is unfinished: its steps never ran, and it counts for nothing.") }
  }

  private func read() throws -> Report {
    let contents = try LedgerContents(readingFrom: URL(fileURLWithPath: ledger))
    let spent = try contents.spent(delta: delta)
    // One line for each run and kind of step: a run's terms never change, so this is one line a run.
    var runs: [Run] = []
    for name in contents.runs {
      let charges = contents.charges.filter { $0.runID == name }
      guard let first = charges.first else { continue }
      runs.append(
        Run(
          run: name,
          rounds: contents.rounds(ofRun: name).rounds.count,
          steps: charges.reduce(0) { $0 + $1.phase.steps },
          noise_multiplier: charges.map(\.phase.noiseMultiplier).min() ?? first.phase.noiseMultiplier,
          sampling_rate: charges.map(\.phase.sampling.rate).max() ?? first.phase.sampling.rate,
          clipping_norm: first.clippingNorm,
          strategy: first.strategy,
          seeded_noise: charges.contains { $0.seeded }
        )
      )
    }
    return Report(
      dataset: contents.dataset,
      relation: contents.relation.rawValue,
      delta: delta,
      epsilon: spent.epsilon,
      method: spent.method.rawValue,
      seeded_noise: contents.hasSeededNoise,
      unfinished_line: contents.tornLine != nil,
      runs: runs
    )
  }
}
