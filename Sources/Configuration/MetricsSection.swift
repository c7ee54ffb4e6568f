/// Whether and where a coordinator shows metrics; no term of the run.
public struct MetricsSection: Codable, Sendable, Equatable {
  /// An address of this machine. Whoever reaches it reads the metrics: nobody is asked who they are.
  public var host: String
  /// 0 shows none.
  public var port: Int

  static let defaults = """
    metrics:
      host: 127.0.0.1
      port: 0
    """

  /// - Parameter taken: ports that the coordinator serves otherwise, with their keys.
  func validate(_ ranges: Ranges, taken: [(key: String, port: Int)]) throws {
    try ranges.require(
      (0...65535).contains(port),
      "metrics.port",
      "is \(port), expected 1 to 65535, or 0 to show no metrics"
    )
    guard port != 0 else { return }
    try ranges.require(!host.isEmpty, "metrics.host", "is empty, expected an address such as 127.0.0.1")
    for (key, other) in taken {
      try ranges.require(port != other, "metrics.port", "is \(port), which is \(key) too")
    }
  }
}
