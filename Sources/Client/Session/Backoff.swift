/// Waiting times between attempts to reach the coordinator: growing, bounded, and jittered so that many clients that
/// lost one coordinator do not come back all at once.
public struct Backoff: Sendable, Equatable {
  /// The first waiting time.
  public var initial: Duration
  /// The longest waiting time.
  public var longest: Duration
  /// Attempts in a row after which the client gives up; nil never does.
  public var attempts: Int?

  /// Takes the bounds.
  public init(initial: Duration = .milliseconds(200), longest: Duration = .seconds(30), attempts: Int? = nil) {
    self.initial = initial
    self.longest = longest
    self.attempts = attempts
  }

  /// The waiting time after the `failures`-th failure in a row (from 1).
  /// - Parameter jitter: in [0, 1); the time lies between half and all of the doubled bound.
  public func delay(afterFailure failures: Int, jitter: Double) -> Duration {
    var bound = initial
    var doublings = max(1, failures) - 1
    while doublings > 0, bound < longest {
      bound = bound * 2
      doublings -= 1
    }
    if bound > longest { bound = longest }
    return bound * (0.5 + 0.5 * min(max(jitter, 0), 1))
  }
}
