import Foundation

/// From when until when a certificate counts.
public struct CertificateValidity: Hashable, Sendable {
  /// The first second.
  public let notBefore: Date
  /// The last second.
  public let notAfter: Date

  /// Any period, also one that is over.
  /// - Throws: `IdentityError.invalidValidity` where it ends before it begins.
  public init(notBefore: Date, notAfter: Date) throws(IdentityError) {
    guard notBefore < notAfter else { throw .invalidValidity(from: notBefore, until: notAfter) }
    self.notBefore = notBefore
    self.notAfter = notAfter
  }

  private init(from start: Date, days: Double) {
    // Clocks of participants differ by some minutes.
    notBefore = start.addingTimeInterval(-300)
    notAfter = start.addingTimeInterval(max(days, 0) * 86_400)
  }

  /// `days` from `start` on, and five minutes before it.
  public static func days(_ days: Double, from start: Date = Date()) -> CertificateValidity {
    CertificateValidity(from: start, days: days)
  }

  /// Whether `date` lies within.
  public func contains(_ date: Date) -> Bool { notBefore <= date && date <= notAfter }
}
