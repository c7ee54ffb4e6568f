import ArgumentParser
import FedLoRAProtocol
import Foundation

/// `fedlora enroll`.
struct Enroll: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Get this participant's certificate with a one-time token, or renew it.",
    discussion: """
      The key is made here, in a file for its owner only, and never leaves; what is sent is a request signed with it. The
      token says whom to believe. If the answer is lost, the same command again gives the same certificate.

        fedlora enroll --token fl1.… --output clinic-a
        fedlora client --server 10.0.0.5:7443 --identity clinic-a …

      A client that runs renews by itself once two thirds of the certificate's time are over; --renew does it by hand and
      does nothing before it is time (unless --force).

        fedlora enroll --renew --output clinic-a
      """
  )

  @Option(help: "The token, as 'fedlora ca token' prints it; - reads it from standard input.")
  var token: String?
  @Flag(help: "Get the next certificate for the identity in --output.")
  var renew = false
  @Flag(help: "With --renew: also where it is not time yet.")
  var force = false
  @Option(help: "Host of the enrolment service; without it, what the token or the identity folder says.")
  var host: String?
  @Option(help: "Port of the enrolment service; without it, what the token or the identity folder says, else 7444.")
  var port: Int?
  @Option(
    name: [.long, .customLong("identity")],
    help: "The identity folder; without it, one with the name in the token."
  )
  var output: String?
  @Option(help: "Kind of key: p256 or ed25519.")
  var key: IdentityKeyKind?
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func validate() throws {
    guard (token == nil) == renew else {
      throw ValidationError("Missing expected option '--token <token>', or --renew; not both")
    }
    guard !renew || output != nil else {
      throw ValidationError("Missing expected option '--output <output>': the identity folder to renew")
    }
    if let port, !(1...65535).contains(port) { throw ValidationError("--port is \(port), expected 1 to 65535") }
  }

  func run() async throws {
    let identity: TLSIdentity
    let folder: URL
    var isNew = true
    if let token {
      let word = token == "-" ? readLine(strippingNewline: true) ?? "" : token
      let parsed = try EnrolmentToken(word)
      folder = URL(fileURLWithPath: output ?? parsed.name.rawValue)
      guard let address = address(EnrolmentAddress(parsed.address)) else {
        throw ValidationError(
          "the token does not say where it can be used; give --host, and --port where it is not 7444"
        )
      }
      identity = try await Enrolment.enrol(parsed, at: address, to: folder, key: key ?? .p256)
    } else {
      folder = URL(fileURLWithPath: output ?? "")
      let present = try TLSIdentity.load(from: folder)
      if present.expiry.isDue() || force {
        identity = try await Enrolment.renew(folder, at: address(Enrolment.address(of: folder)), key: key)
      } else {
        (identity, isNew) = (present, false)
      }
    }
    struct Summary: Encodable {
      let name: String
      let identity: String
      let serial: String
      let until: String
      let authority: String
      let is_new: Bool
    }
    let summary = Summary(
      name: identity.participant?.rawValue ?? "",
      identity: folder.path,
      serial: identity.serial.rawValue,
      until: identity.notAfter.formatted(.iso8601),
      authority: identity.authorityFingerprint,
      is_new: isNew
    )
    if format == .json { return try Output.printJSON(summary) }
    Output.write(
      (isNew ? "identity of \(summary.name): \(summary.identity)" : "not due yet")
        + ", certificate \(summary.serial) until \(summary.until)"
    )
  }

  /// What the command line says, over what is known.
  private func address(_ known: EnrolmentAddress?) -> EnrolmentAddress? {
    guard let host = host ?? known?.host else { return nil }
    return EnrolmentAddress(host: host, port: port ?? known?.port ?? EnrolmentAddress.defaultPort)
  }
}

extension IdentityKeyKind: ExpressibleByArgument {}
