import ArgumentParser
import FedLoRACoordinator
import FedLoRAProtocol
import Foundation

/// `fedlora stop`.
struct Stop: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Let a run's coordinator finish the open round, then stop it.",
    discussion: """
      Nothing is lost and nobody trains twice; fedlora resume run.yaml goes on with the next round. To stop at once, press
      Ctrl-C at the coordinator: the open round is then asked for again.
      """
  )

  @Argument(help: RunLocation.help)
  var path: String
  @Option(help: "Why; kept in the run's log.")
  var reason = ""
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    try await OperatorCommand.send(OperatorRequest(.stop, reason: reason), path: path, format: format)
  }
}

/// `fedlora abort`.
struct Abort: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "End a run for good; its clients are told that it failed.",
    discussion: """
      The state after the last committed round stays in the run's folder. A run that was aborted cannot be resumed.
      """
  )

  @Argument(help: RunLocation.help)
  var path: String
  @Option(help: "Why; told to the clients and kept in the run's log.")
  var reason = ""
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    try await OperatorCommand.send(OperatorRequest(.abort, reason: reason), path: path, format: format)
  }
}

/// Sends a request to the coordinator of a run and prints the answer.
enum OperatorCommand {
  static func send(_ request: OperatorRequest, path: String, format: OutputFormat) async throws {
    let folder = try RunLocation.folder(path)
    let overview = try RunOverview(reading: folder)
    guard overview.isServed, let reply = try await OperatorSocket.ask(request, folder: folder) else {
      throw CommandFailure(
        status: .unavailable,
        description: "no coordinator serves run '\(overview.run)' in \(folder.path); it is \(overview.state.rawValue)"
      )
    }
    guard reply.isAccepted else { throw CommandFailure(status: .failed, description: reply.message) }
    switch format {
    case .json: try Output.printJSON(reply)
    case .text: Output.write(reply.message)
    }
  }
}
