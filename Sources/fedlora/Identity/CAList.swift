import ArgumentParser
import FedLoRAProtocol
import FedLoRASimulation
import Foundation

/// `fedlora ca list`.
struct CAList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "Every certificate that the authority has issued, and how it stands.",
    discussion: "States: valid, ends-soon (within two weeks), expired, revoked."
  )

  @Option(help: "Folder of the authority.")
  var ca = "ca"
  @Option(help: "How to print the list: text or json.")
  var format: OutputFormat = .text

  private struct Row: Encodable {
    let name: String
    let serial: String
    let state: String
    let origin: String
    let issued: String
    let until: String
    let revoked: String?
    let reason: String?
  }

  func run() async throws {
    let now = Date()
    let rows = try AuthorityFolder.open(URL(fileURLWithPath: ca)).certificates().map { certificate in
      let state =
        if certificate.revocation != nil {
          "revoked"
        } else if certificate.expiry.daysLeft(at: now) < 0 {
          "expired"
        } else {
          certificate.expiry.isNear(at: now) ? "ends-soon" : "valid"
        }
      return Row(
        name: certificate.name?.rawValue ?? "(coordinator)",
        serial: certificate.serial.rawValue,
        state: state,
        origin: certificate.origin.rawValue,
        issued: certificate.issued.formatted(.iso8601),
        until: certificate.notAfter.formatted(.iso8601),
        revoked: certificate.revocation?.at.formatted(.iso8601),
        reason: certificate.revocation?.reason
      )
    }
    struct List: Encodable { let certificates: [Row] }
    if format == .json { return try Output.printJSON(List(certificates: rows)) }
    Output.write(
      TextTable.draw(
        ["name", "state", "until", "origin", "serial", "reason"],
        rows.map { [$0.name, $0.state, $0.until, $0.origin, $0.serial, $0.reason ?? ""] }
      )
    )
  }
}
