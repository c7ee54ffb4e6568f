import ArgumentParser
import FedLoRAConfiguration
import FedLoRASimulation
import Foundation
import Logging

/// `fedlora simulate [SCENARIO]`.
struct Simulate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a coordinator and many clients in one process, over TLS on loopback.",
    discussion: """
      Without a scenario it runs the embedded default: a small pretrained encoder and a text-classification set that come
      with fedlora, six clients, FedSA-LoRA and FedSVD beside their baselines.

        fedlora simulate
        fedlora simulate sst2 --model minilm --data train.tsv --test test.tsv
        fedlora simulate --set rounds=30 --set clients.dirichlet_alpha=0.1
        fedlora simulate --print-config > mine.yaml && fedlora simulate mine.yaml
        fedlora simulate --compare --set privacy.clipping_norm=2 --set 'compare.epsilons=[0, 6, 3]'

      A scenario is a YAML file, or the name of one that comes with fedlora (fedlora simulate --list).
      """
  )

  @Argument(help: "A scenario file, or the name of one that comes with fedlora.")
  var scenario: String?
  @Option(help: "Base model: a Hugging Face folder. Same as --set model.path=DIR.")
  var model: String?
  @Option(help: "Training examples: JSONL, CSV or TSV. Same as --set data.train=FILE.")
  var data: String?
  @Option(help: "Held-out examples of the same form. Same as --set data.test=FILE.")
  var test: String?
  @Option(help: "Folder for results. Same as --set output=DIR.")
  var output: String?
  @Option(name: .customLong("set"), help: "Change one key: training.batch_size=16. May be repeated.")
  var assignments: [String] = []
  @Flag(
    help: "Play every method at every epsilon with every seed of the section 'compare'; goes on where it was stopped."
  )
  var compare = false
  @Flag(help: "Print the effective configuration and stop.")
  var printConfig = false
  @Flag(help: "List the scenarios that come with fedlora and stop.")
  var list = false
  @Flag(help: "Log what happens on the wire to standard error.")
  var verbose = false
  @Option(help: "How to print the results: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    if list { return try listScenarios() }
    let (configuration, effective) = try load()
    if printConfig { return Output.write(effective.trimmingCharacters(in: .newlines)) }
    let progress = Progress()
    if compare { return try await compareMethods(configuration, progress) }
    let simulation = SimulationRun(
      scenario: configuration,
      effectiveConfiguration: effective,
      command: (["fedlora"] + CommandLine.arguments.dropFirst()).map(Simulate.quoted).joined(separator: " "),
      logger: verbose
        ? .command("fedlora.simulation", verbose: true)
        : Logger(label: "fedlora.simulation") { _ in SwiftLogNoOpLogHandler() }
    )
    let report = try await Interrupt.cancelling(
      notice: "stopping; what is done so far stays in \(configuration.output)"
    ) {
      try await simulation.run { progress.show($0) }
    }
    progress.line("")
    switch format {
    case .json: try Output.printJSON(report)
    case .text:
      Output.write(report.table)
      if let measures = report.measuresTable { Output.write("\n" + measures) }
      Output.write(
        String(
          format: "\n%.1f s, peak memory %.0f MiB. Results, adapters (PEFT) and the effective configuration: ",
          report.seconds,
          report.peakMemoryMegabytes
        ) + report.folder
      )
    }
  }

  private func compareMethods(_ configuration: ScenarioConfiguration, _ progress: Progress) async throws {
    let comparison = Comparison(
      scenario: configuration,
      logger: verbose
        ? .command("fedlora.comparison", verbose: true)
        : Logger(label: "fedlora.comparison") { _ in SwiftLogNoOpLogHandler() }
    )
    let report = try await Interrupt.cancelling(
      notice: "stopping; the same command goes on with the runs that have no result yet"
    ) {
      try await comparison.run { progress.show($0) }
    }
    progress.line("")
    if format == .json { return try Output.printJSON(report) }
    Output.write(report.table)
    if let measures = report.measuresTable { Output.write("\n" + measures) }
    Output.write("\nResults of every run: \(report.folder)")
  }

  private func load() throws -> (ScenarioConfiguration, String) {
    var all: [String] = []
    // Quoted as YAML, so that a path is always a text.
    func quoted(_ text: String) -> String {
      "'" + text.replacingOccurrences(of: "'", with: "''", options: .literal) + "'"
    }
    if let model { all.append("model.path=\(quoted(model))") }
    if let data { all.append("data.train=\(quoted(data))") }
    if let test { all.append("data.test=\(quoted(test))") }
    if let output { all.append("output=\(quoted(output))") }
    return try ScenarioConfiguration.load(try scenario.map(locate), assignments: all + assignments)
  }

  private func locate(_ name: String) throws -> URL {
    let file = URL(fileURLWithPath: name)
    if FileManager.default.fileExists(atPath: file.path) { return file }
    let known = try EmbeddedAssets.scenarios.appendingPathComponent("\(name).yaml")
    if !name.contains("/"), FileManager.default.fileExists(atPath: known.path) { return known }
    throw ConfigurationError(
      source: name,
      reason: "is neither a file nor a scenario that comes with fedlora; see fedlora simulate --list"
    )
  }

  /// `argument` as a shell reads it back.
  private static func quoted(_ argument: String) -> String {
    let plain =
      !argument.isEmpty && argument.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "_./=:,-".contains($0)) }
    return plain ? argument : "'" + argument.replacingOccurrences(of: "'", with: "'\\''", options: .literal) + "'"
  }

  private func listScenarios() throws {
    let folder = try EmbeddedAssets.scenarios
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".yaml") }
      .sorted()
    struct Entry: Encodable {
      let name: String
      let about: String
    }
    let entries = try names.map { name in
      let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
      let about = text.split(separator: "\n").first { $0.hasPrefix("# ") }.map { String($0.dropFirst(2)) } ?? ""
      return Entry(name: String(name.dropLast(5)), about: about)
    }
    if format == .json { return try Output.printJSON(entries) }
    for entry in entries {
      Output.write("\(entry.name.padding(toLength: 24, withPad: " ", startingAt: 0)) \(entry.about)")
    }
  }
}
