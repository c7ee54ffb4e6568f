import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora ca`.
struct CA: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ca",
    abstract: "Certificates: who may take part in a project.",
    subcommands: [Init.self, Issue.self]
  )

  /// `fedlora ca init DIR`.
  struct Init: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "init",
      abstract: "Make a certificate authority and the coordinator's certificate.",
      discussion: """
        Writes DIR/ca-key.pem (0600; keep it off the network), DIR/ca.pem, and DIR/coordinator with the coordinator's key and
        certificates. Nothing that exists is overwritten.
        """
    )

    @Argument(help: "Folder to make.")
    var folder: String
    @Option(help: "Days until the coordinator's certificate expires.")
    var days: Double = 365
    @Option(help: "How to print the result: text or json.")
    var format: OutputFormat = .text

    func run() async throws {
      let authority = try CertificateAuthority.create(
        in: URL(fileURLWithPath: folder),
        coordinatorValidity: .days(days)
      )
      struct Summary: Encodable {
        let authority: String
        let coordinator: String
        let fingerprint: String
      }
      let summary = Summary(
        authority: folder,
        coordinator: folder + "/coordinator",
        fingerprint: authority.fingerprint
      )
      if format == .json { return try Output.printJSON(summary) }
      Output.write("authority \(summary.fingerprint)\ncoordinator's identity: \(summary.coordinator)")
    }
  }

  /// `fedlora ca issue NAME`.
  struct Issue: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "issue",
      abstract: "Issue a participant's certificate.",
      discussion:
        "Writes CA/participants/NAME with the participant's key (0600) and certificates; hand that folder over safely."
    )

    @Argument(help: "The participant's name: 1 to 64 letters, digits, dots, hyphens or underscores.")
    var name: String
    @Option(help: "Folder of the authority.")
    var ca = "ca"
    @Option(help: "Days until the certificate expires.")
    var days: Double = 365
    @Option(help: "How to print the result: text or json.")
    var format: OutputFormat = .text

    func run() async throws {
      let folder = URL(fileURLWithPath: ca)
      let participant = try ParticipantName(name)
      let target = CertificateAuthority.participantFolder(participant, in: folder)
      try CertificateAuthority.load(from: folder).issueParticipant(participant, to: target, validity: .days(days))
      struct Summary: Encodable {
        let name: String
        let identity: String
      }
      let summary = Summary(name: name, identity: target.path)
      if format == .json { return try Output.printJSON(summary) }
      Output.write("identity of \(summary.name): \(summary.identity)")
    }
  }
}
