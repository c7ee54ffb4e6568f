import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora ca`.
struct CA: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ca",
    abstract: "Certificates: who may take part in a project.",
    subcommands: [
      Init.self, CAToken.self, CAServe.self, Issue.self, CAList.self, CARevoke.self, CARenewCoordinator.self,
    ]
  )

  /// `fedlora ca init DIR`.
  struct Init: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "init",
      abstract: "Make a certificate authority and the coordinator's certificate.",
      discussion: """
        Writes DIR/ca-key.pem (0600; who has it can issue certificates), DIR/ca.pem, DIR/crl.pem, DIR/register.json, and
        DIR/coordinator with the coordinator's key and certificates. Nothing that exists is overwritten.
        """
    )

    @Argument(help: "Folder to make.")
    var folder: String
    @Option(help: "Days until the coordinator's certificate expires.")
    var days: Double = 365
    @Option(help: "How to print the result: text or json.")
    var format: OutputFormat = .text

    func run() async throws {
      let made = try AuthorityFolder.create(
        in: URL(fileURLWithPath: folder),
        coordinatorValidity: .days(try CADays.checked(days))
      )
      struct Summary: Encodable {
        let authority: String
        let coordinator: String
        let fingerprint: String
      }
      let summary = Summary(
        authority: folder,
        coordinator: folder + "/coordinator",
        fingerprint: made.authority.fingerprint
      )
      if format == .json { return try Output.printJSON(summary) }
      Output.write("authority \(summary.fingerprint)\ncoordinator's identity: \(summary.coordinator)")
    }
  }

  /// `fedlora ca issue NAME`.
  struct Issue: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "issue",
      abstract: "Issue a participant's certificate, with a key that is made here.",
      discussion: """
        Writes CA/participants/NAME with the participant's key (0600) and certificates; hand that folder over safely. With
        fedlora ca token the key is made where it stays, and nothing but a word is handed over.
        """
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
      let participant = try ParticipantName(name)
      let target = try AuthorityFolder.open(URL(fileURLWithPath: ca))
        .issueParticipant(participant, validity: .days(try CADays.checked(days)))
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

/// Numbers of days on the command line.
enum CADays {
  /// - Throws: `ValidationError` unless `days` is positive and at most a hundred years.
  static func checked(_ days: Double) throws -> Double {
    guard days > 0, days <= 36_500 else {
      throw ValidationError("--days is \(days), expected more than 0, at most 36500")
    }
    return days
  }
}
