import FedLoRAProtocol
import Foundation
import Logging

/// Keeps a participant's identity folder from running out: once two thirds of the certificate's time are over it fetches
/// the next one from where the identity came, and it warns where that cannot be done.
public struct IdentityKeeper: Sendable {
  /// The identity folder.
  public let folder: URL
  private let interval: Duration
  private let logger: Logger
  private let note: @Sendable (String) -> Void

  /// - Parameters:
  ///   - interval: how often the folder is looked at, at least; more often where the certificate's time is short.
  ///   - note: is told what people should know.
  public init(
    folder: URL,
    interval: Duration = .seconds(6 * 3600),
    logger: Logger = Logger(label: "fedlora.client"),
    note: @escaping @Sendable (String) -> Void = { _ in }
  ) {
    self.folder = folder
    self.interval = interval
    self.logger = logger
    self.note = note
  }

  /// Looks after the folder until the task is cancelled.
  public func run() async {
    while !Task.isCancelled {
      let pause = await look(at: Date())
      try? await Task.sleep(for: pause)
    }
  }

  /// Looks once.
  /// - Returns: the time until the next look.
  func look(at date: Date) async -> Duration {
    var pause = interval
    do {
      let identity = try await TLSIdentity.read(from: folder)
      pause = min(interval, identity.expiry.renewalInterval)
      guard identity.expiry.isDue(at: date) else { return pause }
      if Enrolment.address(of: folder) != nil {
        let next = try await Enrolment.renew(folder)
        logger.notice("identity renewed", metadata: ["reason": .string(next.expiry.sentence(at: date))])
        note("renewed the certificate of \(next.participant?.rawValue ?? ""): \(next.expiry.sentence(at: date))")
        return min(interval, next.expiry.renewalInterval)
      }
      if identity.expiry.isNear(at: date) {
        warn("\(identity.expiry.sentence(at: date)); ask for the next one, or run 'fedlora enroll --renew'")
      }
    } catch is CancellationError {
    } catch { warn("the certificate could not be renewed: \(error)") }
    return pause
  }

  private func warn(_ text: String) {
    logger.warning("identity", metadata: ["reason": .string(text)])
    note(text)
  }
}
