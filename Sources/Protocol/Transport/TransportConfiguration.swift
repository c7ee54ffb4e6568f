/// The bounds of every connection. Both sides may differ in all of them.
///
/// What a stranger can cost a server is bounded by the limits on connections that have not shown a certificate and on
/// those that have not said Hello; what a participant can cost it, by those on its name and on streams.
public struct TransportConfiguration: Sendable {
  /// Most bytes of a frame's body that are accepted.
  public var maximumFrameLength = Frame.defaultMaximumLength
  /// Bytes of tensor data in one chunk that is sent, at most 1 MiB. Buffers have sizes of powers of two: the default leaves
  /// room for the frame, and for what TLS adds to it, in 64 KiB.
  public var chunkLength = 63 << 10
  /// Most bytes of one tensor stream, whatever is expected, and of a refused stream that is thrown away.
  public var maximumStreamLength = 1 << 30
  /// After this time without a frame in either direction a Ping is sent.
  public var keepAliveInterval: Duration = .seconds(15)
  /// After this time without a frame from the peer the connection is given up. Larger than the peer's interval.
  public var peerTimeout: Duration = .seconds(45)
  /// Time for the TLS handshake, counted from the TCP connection.
  public var handshakeTimeout: Duration = .seconds(10)
  /// Server: time from the handshake to a Hello that is accepted.
  public var helloTimeout: Duration = .seconds(10)
  /// Time for one incoming stream, from its declaration to its last byte, and for the peer to take one frame of ours.
  public var streamTimeout: Duration = .seconds(600)
  /// Server: most bytes of a frame's body before Hello is accepted.
  public var maximumFrameLengthBeforeHello = 16 << 10
  /// Server: most frames, pings included, before Hello is accepted.
  public var maximumFramesBeforeHello = 16
  /// Server: most authenticated connections at a time; one more is told "too-many-connections".
  public var maximumConnections = 4096
  /// Server: most connections of one network (an IPv4 address, an IPv6 /64), in their handshake or after it.
  public var maximumConnectionsPerNetwork = 512
  /// Server: most authenticated connections of one participant. More than one, because a connection that broke without a
  /// word is there until `peerTimeout`.
  public var maximumConnectionsPerParticipant = 8
  /// Server: most connections inside their handshake; one more is closed at once.
  public var maximumPendingHandshakes = 512
  /// Server: most connections of one network inside their handshake.
  public var maximumPendingHandshakesPerNetwork = 128
  /// Server: bytes of incoming streams that all connections together may hold. A stream that does not fit waits,
  /// unread, until others are done; one that is larger than all of it waits until it is alone.
  public var inboundStreamBudget = 256 << 20

  /// The defaults.
  public init() {}

  /// No limit on how many connections one network or one participant has: for many clients on one machine.
  package static var crowd: TransportConfiguration {
    var configuration = TransportConfiguration()
    configuration.maximumConnectionsPerNetwork = configuration.maximumConnections
    configuration.maximumPendingHandshakesPerNetwork = configuration.maximumPendingHandshakes
    return configuration
  }
}
