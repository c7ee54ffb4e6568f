import Dispatch
import FedLoRAProtocol
import Foundation
import Logging
import Synchronization

/// How a coordinator's own certificate stands; what a metrics endpoint would show.
public struct IdentityStatus: Sendable, Equatable {
  /// The number of the certificate that new connections see.
  public let serial: CertificateSerial
  /// Until when it counts.
  public let expiry: CertificateExpiry
  /// Number of the revocation list in use; nil where none is known.
  public let listNumber: UInt64?
  /// How many certificates that list takes back.
  public let revoked: Int
}

/// Looks after a coordinator's identity while it serves: takes new files of the identity folder into use, ends
/// connections whose certificate was revoked or has ended, and warns of the own certificate's end.
///
/// The folder is looked at every two seconds. A file that cannot be used leaves everything as it was, and is told once.
final class IdentityWatch: Sendable {
  private struct State {
    var seen: [FileMark?]
    var reminder = ExpiryReminder()
  }

  private let server: PeerServer
  private let folder: URL?
  private let logger: Logger
  private let report: @Sendable (CoordinatorEvent) -> Void
  private let state: Mutex<State>
  private let queue = DispatchQueue(label: "fedlora.identity")

  static let interval = Duration.seconds(2)

  /// - Parameter folder: the identity folder; nil where the identity lives in memory alone.
  init(
    server: PeerServer,
    folder: URL?,
    logger: Logger,
    report: @escaping @Sendable (CoordinatorEvent) -> Void
  ) {
    self.server = server
    self.folder = folder
    self.logger = logger
    self.report = report
    state = Mutex(State(seen: folder.map(FileMark.all) ?? []))
  }

  var status: IdentityStatus {
    let identity = server.identity
    return IdentityStatus(
      serial: identity.serial,
      expiry: identity.expiry,
      listNumber: identity.revocations?.number,
      revoked: identity.revocations?.entries.count ?? 0
    )
  }

  /// Looks until the task is cancelled.
  func run() async {
    while !Task.isCancelled {
      remind(at: Date())
      server.sweep()
      try? await Task.sleep(for: IdentityWatch.interval)
      guard let folder else { continue }
      await onQueue {
        let marks = FileMark.all(folder)
        if self.state.withLock({ $0.seen }) != marks { _ = self.reload(marks) }
      }
    }
  }

  /// Reads the folder now, whether it has changed or not.
  /// - Returns: what came of it, for the operator.
  func reload() async -> (message: String, isAccepted: Bool) {
    guard let folder else { return ("the coordinator's identity does not lie in a folder", false) }
    return await onQueue { self.reload(FileMark.all(folder)) }
  }

  private func reload(_ marks: [FileMark?]) -> (message: String, isAccepted: Bool) {
    guard let folder else { return ("", false) }
    state.withLock { $0.seen = marks }
    let before = status
    do {
      let identity = try TLSIdentity.load(from: folder)
      // What is in use stays in use, and its end must not keep a new revocation list out.
      guard identity.serial == before.serial || identity.expiry.daysLeft() > 0 else {
        throw IdentityError.invalidFile(path: folder.path, reason: identity.expiry.sentence())
      }
      try server.replaceIdentity(identity)
    } catch {
      let text = "\(error); the identity from before stays in use"
      report(.notice(code: "identity-refused", text: text))
      logger.error("identity not reloaded", metadata: ["reason": .string("\(error)")])
      return (text, false)
    }
    let after = status
    guard after != before else { return ("nothing has changed", true) }
    let list = after.listNumber.map { "revocation list \($0) takes back \(after.revoked) certificates" }
    let text =
      "certificate \(after.serial) is in use; \(after.expiry.sentence()); \(list ?? "no revocation list is known")"
    report(.notice(code: "identity-reloaded", text: text))
    state.withLock { $0.reminder = ExpiryReminder() }
    return (text, true)
  }

  private func remind(at date: Date) {
    let identity = server.identity
    guard state.withLock({ $0.reminder.isDue(at: date) }) else { return }
    let text = identity.expiry.sentence(at: date)
    if identity.revocations?.contains(identity.serial) == true {
      let text =
        "the coordinator's own certificate \(identity.serial) is revoked; 'fedlora ca renew-coordinator' makes a new one"
      logger.error("own certificate revoked", metadata: ["serial": .string("\(identity.serial)")])
      report(.notice(code: "certificate-revoked", text: text))
    } else if identity.expiry.isNear(at: date) {
      logger.warning("certificate ends soon", metadata: ["reason": .string(text)])
      report(
        .notice(
          code: "certificate-ends",
          text: "\(text); 'fedlora ca renew-coordinator' makes a new one, without a restart"
        )
      )
    } else {
      logger.info("certificate", metadata: ["reason": .string(text)])
    }
  }

  private func onQueue<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
    await withCheckedContinuation { continuation in queue.async { continuation.resume(returning: body()) } }
  }
}

/// When to speak of a certificate's end: at the start, and once a day. A value that knows no clock.
package struct ExpiryReminder: Sendable {
  private var last: Date?

  package init() {}

  /// Whether it is time; the day begins anew where it is.
  package mutating func isDue(at date: Date) -> Bool {
    if let last, date.timeIntervalSince(last) < 86_400, date >= last { return false }
    last = date
    return true
  }
}

/// By what a file is told from the one that was there before.
private struct FileMark: Equatable, Sendable {
  let number: UInt64
  let modified: Date
  let size: UInt64

  init?(_ url: URL) {
    guard let found = try? FileManager.default.attributesOfItem(atPath: url.path) else { return nil }
    number = found[.systemFileNumber] as? UInt64 ?? 0
    modified = found[.modificationDate] as? Date ?? .distantPast
    size = found[.size] as? UInt64 ?? 0
  }

  /// The files of an identity folder that count.
  static func all(_ folder: URL) -> [FileMark?] {
    ["certificate.pem", "key.pem", "crl.pem"].map { FileMark(folder.appendingPathComponent($0)) }
  }
}
