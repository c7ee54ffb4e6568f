import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora reload`.
struct Reload: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Let a run's coordinator read its identity folder now: certificate, key and revocation list.",
    discussion: """
      It looks at these files every two seconds by itself; this says at once whether they can be used. Connections whose
      certificate is revoked are closed, all others live on.
      """
  )

  @Argument(help: RunLocation.help)
  var path: String
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    try await OperatorCommand.send(OperatorRequest(.reload), path: path, format: format)
  }
}
