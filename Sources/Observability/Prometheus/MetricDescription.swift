/// What a metric is called, what it means, and for a histogram where its buckets end.
public struct MetricDescription: Sendable, Equatable {
  /// How a metric's values are to be read.
  public enum Kind: String, Sendable {
    /// Only grows, and begins at 0 with the process.
    case counter
    /// Goes up and down.
    case gauge
    /// Observations, counted by size.
    case histogram
  }

  /// The name, with its unit: `fedlora_round_seconds`.
  public let name: String
  /// One sentence for people.
  public let help: String
  /// How its values are to be read.
  public let kind: Kind
  /// Histogram: the largest value of each bucket, ascending, in the metric's unit; the bucket of everything is added.
  public let buckets: [Double]

  private init(name: String, help: String, kind: Kind, buckets: [Double] = []) {
    self.name = name
    self.help = help
    self.kind = kind
    self.buckets = buckets
  }

  /// A number that only grows; its name ends in `_total`.
  public static func counter(_ name: String, _ help: String) -> MetricDescription {
    MetricDescription(name: name, help: help, kind: .counter)
  }

  /// A number that goes up and down.
  public static func gauge(_ name: String, _ help: String) -> MetricDescription {
    MetricDescription(name: name, help: help, kind: .gauge)
  }

  /// Observations, counted by size.
  /// - Parameter buckets: the largest value of each bucket, in any order.
  public static func histogram(
    _ name: String,
    _ help: String,
    buckets: [Double] = MetricDescription.shortSpans
  ) -> MetricDescription {
    MetricDescription(name: name, help: help, kind: .histogram, buckets: ascending(buckets))
  }

  /// A millisecond to a minute, in seconds.
  public static let shortSpans: [Double] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
  ]

  /// A tenth of a second to a day, in seconds.
  public static let longSpans: [Double] = [
    0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400,
  ]

  /// What is finite, once each, in order: the bucket of everything is not for the caller to give.
  private static func ascending(_ buckets: [Double]) -> [Double] {
    var result: [Double] = []
    for bound in buckets.filter(\.isFinite).sorted() where bound != result.last { result.append(bound) }
    return result
  }
}
