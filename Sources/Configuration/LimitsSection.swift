import FedLoRAProtocol

/// What strangers and participants may cost a coordinator; no term of the run.
public struct LimitsSection: Codable, Sendable, Equatable {
  /// Most authenticated connections at a time.
  public var connections: Int
  /// Most connections of one IPv4 address or IPv6 /64, authenticated or not.
  public var connectionsPerAddress: Int
  /// Most authenticated connections of one participant.
  public var connectionsPerClient: Int
  /// Most connections in their TLS handshake.
  public var handshakes: Int
  /// Most connections of one address in their TLS handshake.
  public var handshakesPerAddress: Int
  /// Time for a TLS handshake.
  public var handshakeSeconds: Double
  /// Time from the handshake to Hello.
  public var helloSeconds: Double
  /// Time for one update, from its first byte to its last.
  public var streamSeconds: Double
  /// Memory for updates that are being received, all clients together.
  public var streamMemoryMiB: Int

  enum CodingKeys: String, CodingKey {
    case connections
    case connectionsPerAddress = "connections_per_address"
    case connectionsPerClient = "connections_per_client"
    case handshakes
    case handshakesPerAddress = "handshakes_per_address"
    case handshakeSeconds = "handshake_seconds"
    case helloSeconds = "hello_seconds"
    case streamSeconds = "stream_seconds"
    case streamMemoryMiB = "stream_memory_mib"
  }

  static let defaults = """
    limits:
      connections: 4096
      connections_per_address: 512
      connections_per_client: 8
      handshakes: 512
      handshakes_per_address: 128
      handshake_seconds: 10
      hello_seconds: 10
      stream_seconds: 600
      stream_memory_mib: 256
    """

  /// The bounds of a coordinator's connections.
  public var transport: TransportConfiguration {
    var transport = TransportConfiguration()
    transport.maximumConnections = connections
    transport.maximumConnectionsPerNetwork = connectionsPerAddress
    transport.maximumConnectionsPerParticipant = connectionsPerClient
    transport.maximumPendingHandshakes = handshakes
    transport.maximumPendingHandshakesPerNetwork = handshakesPerAddress
    transport.handshakeTimeout = .seconds(handshakeSeconds)
    transport.helloTimeout = .seconds(helloSeconds)
    transport.streamTimeout = .seconds(streamSeconds)
    transport.inboundStreamBudget = streamMemoryMiB << 20
    return transport
  }

  func validate(_ ranges: Ranges) throws {
    for (value, most, key) in [
      (connections, 1_000_000, "connections"), (connectionsPerAddress, 1_000_000, "connections_per_address"),
      (connectionsPerClient, 1_000_000, "connections_per_client"), (handshakes, 1_000_000, "handshakes"),
      (handshakesPerAddress, 1_000_000, "handshakes_per_address"), (streamMemoryMiB, 1 << 20, "stream_memory_mib"),
    ] {
      try ranges.require((1...most).contains(value), "limits.\(key)", "is \(value), expected 1 to \(most)")
    }
    for (value, most, key) in [
      (handshakeSeconds, 3600.0, "handshake_seconds"), (helloSeconds, 3600, "hello_seconds"),
      (streamSeconds, 86_400, "stream_seconds"),
    ] {
      try ranges.require(
        value >= 0.1 && value <= most,
        "limits.\(key)",
        "is \(value), expected 0.1 to \(Int(most)) seconds"
      )
    }
  }
}

/// Whether the coordinator also gives certificates to new participants; no term of the run.
public struct EnrolmentSection: Codable, Sendable, Equatable {
  /// The authority's folder, as `fedlora ca init` makes it; empty serves no enrolment.
  public var ca: String
  /// The port for it, on `listen.host`; 0 takes a free one and prints it.
  public var port: Int

  static let defaults = """
    enrolment:
      ca: ""
      port: 7444
    """

  func validate(_ ranges: Ranges, listen: Int) throws {
    try ranges.require(
      (0...65535).contains(port),
      "enrolment.port",
      "is \(port), expected 0 to 65535; 0 takes a free port"
    )
    try ranges.require(
      ca.isEmpty || port == 0 || port != listen,
      "enrolment.port",
      "is \(port), which is listen.port too; who has no certificate must not reach that one"
    )
  }
}
