import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora remove`.
struct Remove: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Take a client out of a run that is being served.",
    discussion: """
      The client is told so and asked no more, also after a restart. Its update of the open round does not count; what it
      contributed to rounds that are committed stays in them. With --drain it may finish the round that it is at work on.
      Its certificate stays valid.
      """
  )

  @Argument(help: RunLocation.help)
  var path: String
  @Argument(help: "The client's name, as in its certificate.")
  var client: String
  @Flag(help: "Let it finish the open round, which then counts.")
  var drain = false
  @Option(help: "Why; told to the client and kept in the run's log.")
  var reason = ""
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let request = OperatorRequest(drain ? .drain : .remove, reason: reason, client: client)
    try await OperatorCommand.send(request, path: path, format: format)
  }
}
