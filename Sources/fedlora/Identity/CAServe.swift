import ArgumentParser
import FedLoRAProtocol
import Foundation
import Logging

/// `fedlora ca serve`.
struct CAServe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Give certificates to participants that have a token, and renew those that have a certificate.",
    discussion: """
      Runs until Ctrl-C. It needs the authority's folder, and so does nothing else: the coordinator can run on another
      machine. Where both are one machine, enrolment.ca in the run file lets the coordinator do this.

        fedlora ca serve --ca my-ca --host 0.0.0.0
      """
  )

  @Option(help: "Folder of the authority.")
  var ca = "ca"
  @Option(help: "An address of this machine.")
  var host = "127.0.0.1"
  @Option(help: "The port; 0 takes a free one and prints it.")
  var port = EnrolmentAddress.defaultPort
  @Flag(help: "Log every message to standard error.")
  var verbose = false

  func run() async throws {
    guard (0...65535).contains(port) else { throw ValidationError("--port is \(port), expected 0 to 65535") }
    let server = try await EnrolmentServer.bind(
      AuthorityFolder.open(URL(fileURLWithPath: ca)),
      host: host,
      port: port,
      logger: .command("fedlora.enrolment", verbose: verbose, level: .notice)
    )
    Output.note("serving enrolment for \(ca) on \(host):\(server.port)")
    try await Interrupt.cancelling(notice: "stopping") { await server.run() }
  }
}
