import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora ca renew-coordinator`.
struct CARenewCoordinator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "renew-coordinator",
    abstract: "Give the coordinator a new key and certificate; one that is running takes them into use.",
    discussion: """
      Replaces key and certificate in CA/coordinator. A coordinator that uses that folder shows them to new connections
      within seconds; to one on another machine, copy the folder's files and run fedlora reload. The certificate from
      before stays valid until it ends, unless it is revoked by its serial number.
      """
  )

  @Option(help: "Folder of the authority.")
  var ca = "ca"
  @Option(help: "Days until the new certificate expires.")
  var days: Double = 365
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let folder = try AuthorityFolder.open(URL(fileURLWithPath: ca))
    let identity = try folder.renewCoordinator(validity: .days(try CADays.checked(days)))
    struct Summary: Encodable {
      let identity: String
      let serial: String
      let until: String
    }
    let summary = Summary(
      identity: folder.coordinator.path,
      serial: identity.serial.rawValue,
      until: identity.notAfter.formatted(.iso8601)
    )
    if format == .json { return try Output.printJSON(summary) }
    Output.write("coordinator's identity: \(summary.identity), certificate \(summary.serial) until \(summary.until)")
  }
}
