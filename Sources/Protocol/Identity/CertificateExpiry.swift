import Foundation

/// How long a certificate still counts.
public struct CertificateExpiry: Hashable, Sendable {
  /// The first second.
  public let notBefore: Date
  /// The last second.
  public let notAfter: Date

  /// From here on people are warned.
  public static let warningDays = 14.0

  init(notBefore: Date, notAfter: Date) {
    self.notBefore = notBefore
    self.notAfter = notAfter
  }

  /// Days that are left at `date`, also parts of one; negative once it is over.
  public func daysLeft(at date: Date = Date()) -> Double { notAfter.timeIntervalSince(date) / 86_400 }

  /// Whether it ends within `warningDays`.
  public func isNear(at date: Date = Date()) -> Bool { daysLeft(at: date) < CertificateExpiry.warningDays }

  /// Whether two thirds of its time are over, so that it is time for another one.
  public func isDue(at date: Date = Date()) -> Bool {
    notAfter.timeIntervalSince(date) < notAfter.timeIntervalSince(notBefore) / 3
  }

  /// How often to see whether it is due: eight times in the last third, so that a renewal which fails can be tried
  /// again, but at most once a minute.
  public var renewalInterval: Duration {
    .seconds(max(60, min(notAfter.timeIntervalSince(notBefore) / 24, 86_400 * 365)))
  }

  /// A sentence without an end mark.
  public func sentence(at date: Date = Date()) -> String {
    let days = daysLeft(at: date)
    let until = notAfter.formatted(.iso8601)
    if days < 0 { return "the certificate ended on \(until)" }
    return "the certificate ends on \(until), in \(days < 2 ? String(format: "%.1f", days) : "\(Int(days))") days"
  }
}
