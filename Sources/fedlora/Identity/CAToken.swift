import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora ca token NAME`.
struct CAToken: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "token",
    abstract: "Print a one-time token with which a new participant gets its certificate.",
    discussion: """
      The token names the participant and holds the fingerprint of the authority, so that the participant knows whom to
      believe. Whoever has it first becomes that participant: hand it over safely. It is used up by its first use.

        fedlora ca token clinic-a --ca my-ca --server 10.0.0.5:7444
        fedlora enroll --token fl1.…                   at the clinic: makes the folder clinic-a

      Something has to answer: fedlora ca serve, or a coordinator whose run file has enrolment.ca.
      """
  )

  @Argument(help: "The participant's name: 1 to 64 letters, digits, dots, hyphens or underscores.")
  var name: String
  @Option(help: "Folder of the authority.")
  var ca = "ca"
  @Option(help: "How long the token can be used: 30m, 24h, 7d.")
  var valid = "24h"
  @Option(help: "Days until the certificate expires.")
  var days: Double = 365
  @Option(help: "Where participants reach the enrolment service, HOST:PORT; goes into the token.")
  var server: String?
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let participant = try ParticipantName(name)
    guard let seconds = TimeSpan.seconds(valid), seconds <= 366 * 86_400 else {
      throw ValidationError("--valid is '\(valid)', expected a time such as 30m, 24h or 7d, at most a year")
    }
    let address = try server.map { text in
      guard let address = EnrolmentAddress(text) else {
        throw ValidationError("--server is '\(text)', expected HOST:PORT such as 10.0.0.5:7444")
      }
      return address.description
    }
    let (token, expires) = try AuthorityFolder.open(URL(fileURLWithPath: ca))
      .makeToken(for: participant, validFor: seconds, days: try CADays.checked(days), address: address ?? "")
    struct Summary: Encodable {
      let name: String
      let token: String
      let expires: String
      let authority: String
    }
    let summary = Summary(
      name: name,
      token: token.text,
      expires: expires.formatted(.iso8601),
      authority: token.authorityFingerprint
    )
    if format == .json { return try Output.printJSON(summary) }
    Output.write(summary.token)
    Output.note("one use, until \(summary.expires); at the participant: fedlora enroll --token …")
  }
}

/// Spans of time on the command line.
enum TimeSpan {
  /// Reads 90s, 30m, 24h or 7d; nil for anything else, and for nothing at all.
  static func seconds(_ text: String) -> Double? {
    guard let unit = text.last, let number = Double(text.dropLast()), number > 0, number.isFinite else { return nil }
    switch unit {
    case "s": return number
    case "m": return number * 60
    case "h": return number * 3600
    case "d": return number * 86_400
    default: return nil
    }
  }
}
