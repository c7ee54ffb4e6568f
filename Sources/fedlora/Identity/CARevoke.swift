import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora ca revoke NAME`.
struct CARevoke: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "revoke",
    abstract: "Take certificates back: they count no more, also on connections that are open.",
    discussion: """
      With a name, all certificates of that participant that have not ended, and its unused tokens. Writes CA/crl.pem and
      CA/coordinator/crl.pem; a coordinator that uses that folder takes the list into effect within seconds. To a coordinator
      on another machine, copy crl.pem into its identity folder.

        fedlora ca revoke clinic-a --ca my-ca --reason "laptop stolen"
        fedlora ca revoke --serial 4f1c… --ca my-ca
      """
  )

  @Argument(help: "The participant's name.")
  var name: String?
  @Option(help: "One certificate's serial number instead, as 'fedlora ca list' prints it.")
  var serial: String?
  @Option(help: "Why; kept in the register.")
  var reason = ""
  @Option(help: "Folder of the authority.")
  var ca = "ca"
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func validate() throws {
    guard (name == nil) != (serial == nil) else {
      throw ValidationError("Missing expected argument '<name>': the participant's name, or --serial, and not both")
    }
  }

  func run() async throws {
    let target: RevocationTarget =
      if let serial {
        .serial(try CertificateSerial(serial))
      } else {
        .participant(try ParticipantName(name ?? ""))
      }
    let folder = try AuthorityFolder.open(URL(fileURLWithPath: ca))
    let result = try folder.revoke(target, reason: reason)
    struct Summary: Encodable {
      let revoked: [String]
      let tokens: Int
      let crl_number: UInt64
      let crl: String
    }
    let summary = Summary(
      revoked: result.certificates.map(\.rawValue),
      tokens: result.tokens,
      crl_number: result.listNumber,
      crl: ca + "/crl.pem"
    )
    if format == .json { return try Output.printJSON(summary) }
    Output.write(
      "\(target): revoked \(summary.revoked.count) certificates and \(summary.tokens) tokens; list "
        + "\(summary.crl_number) is in \(summary.crl)"
    )
  }
}
