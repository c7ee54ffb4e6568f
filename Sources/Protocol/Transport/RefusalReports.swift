import NIOCore

/// Decides which refusals are told and which are only counted: of each reason `burst` at once, then one every `interval`.
/// A flood of strangers then fills neither log nor disk, and its size is still told. A value that knows no clock.
package struct RefusalReports: Sendable {
  private struct Account: Sendable {
    var permits: Double
    var refilled: NIODeadline
    /// Refusals since the last one that was told.
    var suppressed = 0
  }

  private let burst: Int
  private let interval: TimeAmount
  // Reasons are our own words, so this does not grow with the peers.
  private var accounts: [ReasonCode: Account] = [:]

  package init(burst: Int = 10, interval: TimeAmount = .seconds(10)) {
    self.burst = max(burst, 1)
    self.interval = interval
  }

  /// Counts a refusal.
  /// - Returns: how many like it were not told since the last one, where this one is to be told; nil where not.
  package mutating func note(_ code: ReasonCode, at now: NIODeadline) -> Int? {
    var account = refilled(code, at: now)
    defer { accounts[code] = account }
    guard account.permits >= 1 else {
      account.suppressed += 1
      return nil
    }
    account.permits -= 1
    defer { account.suppressed = 0 }
    return account.suppressed
  }

  /// The reasons whose last refusals were not told and may be told now, with how many they were.
  package mutating func overdue(at now: NIODeadline) -> [(code: ReasonCode, count: Int)] {
    var result: [(ReasonCode, Int)] = []
    for code in accounts.keys.sorted(by: { $0.rawValue < $1.rawValue }) {
      var account = refilled(code, at: now)
      if account.suppressed > 0, account.permits >= 1 {
        account.permits -= 1
        result.append((code, account.suppressed))
        account.suppressed = 0
      }
      accounts[code] = account
    }
    return result
  }

  private func refilled(_ code: ReasonCode, at now: NIODeadline) -> Account {
    guard var account = accounts[code] else { return Account(permits: Double(burst), refilled: now) }
    let passed = Double((now - account.refilled).nanoseconds) / Double(max(interval.nanoseconds, 1))
    account.permits = min(Double(burst), account.permits + max(passed, 0))
    account.refilled = now
    return account
  }
}
