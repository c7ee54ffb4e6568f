import ArgumentParser
import FedLoRAConfiguration
import FedLoRACoordinator
import Foundation

/// `fedlora resume RUN.yaml`.
struct Resume: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Go on with a run that was stopped or killed.",
    discussion: """
      The same as fedlora coordinator with the same run file, but for a run that was begun: a mistyped folder begins nothing
      new. Clients come back by themselves; nobody trains a round twice.
      """
  )

  @Argument(help: "The run file (YAML).")
  var run: String
  @Option(
    name: .customLong("set"),
    help: "Change one key that is no term of the run: listen.port=7444. May be repeated."
  )
  var assignments: [String] = []
  @OptionGroup var log: LogOptions
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let (configuration, _) = try RunConfiguration.load(URL(fileURLWithPath: run), assignments: assignments)
    let overview = try RunOverview(reading: URL(fileURLWithPath: configuration.directory))
    guard overview.isResumable else {
      throw CommandFailure(
        status: .badData,
        description: "run '\(overview.run)' is \(overview.state.rawValue) and cannot be gone on with"
          + (overview.reason.isEmpty ? "" : ": \(overview.reason)")
      )
    }
    let arguments = [run, "--format", format.rawValue] + assignments.flatMap { ["--set", $0] } + log.arguments
    let coordinator = try Coordinator.parse(arguments)
    try await coordinator.run()
  }
}
