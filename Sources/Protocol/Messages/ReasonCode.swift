/// Why something was refused: a short word that stays the same between versions, so that programs can count it.
///
/// docs/protocol.md lists all of them. Other rooms add their own (for example "name-mismatch") as string literals.
public struct ReasonCode: RawRepresentable, Hashable, Sendable, Codable, ExpressibleByStringLiteral,
  CustomStringConvertible
{
  /// Lower case words joined by hyphens.
  public let rawValue: String

  /// Takes any word; codes from a peer are shown, never interpreted.
  public init(rawValue: String) { self.rawValue = rawValue }

  /// A code written in the program.
  public init(stringLiteral value: StaticString) { rawValue = value.description }

  /// The word itself.
  public var description: String { rawValue }
}

// Frames and the order of messages.
extension ReasonCode {
  /// A frame of length zero.
  public static let emptyFrame: ReasonCode = "empty-frame"
  /// A frame longer than the limit.
  public static let frameTooLarge: ReasonCode = "frame-too-large"
  /// The connection ended inside a frame.
  public static let truncatedFrame: ReasonCode = "truncated-frame"
  /// A frame that is not a serialized Envelope.
  public static let undecodable: ReasonCode = "undecodable"
  /// An Envelope without a message that this version knows.
  public static let unknownMessage: ReasonCode = "unknown-message"
  /// A Chunk while no stream is open.
  public static let unexpectedChunk: ReasonCode = "unexpected-chunk"
  /// A stream where none is allowed, or before the previous one is complete.
  public static let unexpectedStream: ReasonCode = "unexpected-stream"
  /// A stream that did not complete in time.
  public static let streamTimeout: ReasonCode = "stream-timeout"
}

// Tensor streams.
extension ReasonCode {
  /// A tensor that the receiver expects is not declared.
  public static let missingTensor: ReasonCode = "missing-tensor"
  /// A tensor is declared that the receiver does not expect, or twice.
  public static let unexpectedTensor: ReasonCode = "unexpected-tensor"
  /// Tensors are not in ascending order of their names.
  public static let wrongOrder: ReasonCode = "wrong-order"
  /// Another shape than expected.
  public static let wrongShape: ReasonCode = "wrong-shape"
  /// Another element type than expected.
  public static let wrongDataType: ReasonCode = "wrong-dtype"
  /// The declared length does not fit the declared tensors.
  public static let wrongLength: ReasonCode = "wrong-length"
  /// More bytes than declared, or than the limit allows.
  public static let tooLarge: ReasonCode = "too-large"
  /// A chunk that does not start where the last one ended.
  public static let wrongOffset: ReasonCode = "wrong-offset"
  /// A chunk without data.
  public static let emptyChunk: ReasonCode = "empty-chunk"
  /// The bytes do not have the declared SHA-256.
  public static let wrongHash: ReasonCode = "wrong-hash"
  /// NaN or infinity where finite values are required.
  public static let notFinite: ReasonCode = "not-finite"
}

// Connections.
extension ReasonCode {
  /// The client sent no certificate.
  public static let noCertificate: ReasonCode = "no-certificate"
  /// The certificate does not chain to the project's authority.
  public static let unknownAuthority: ReasonCode = "unknown-authority"
  /// The certificate's validity has ended.
  public static let expired: ReasonCode = "expired"
  /// The certificate's validity has not begun.
  public static let notYetValid: ReasonCode = "not-yet-valid"
  /// A participant's certificate where a coordinator's is needed, or the other way round.
  public static let wrongRole: ReasonCode = "wrong-role"
  /// The certificate cannot be read or breaks a rule of X.509.
  public static let invalidCertificate: ReasonCode = "invalid-certificate"
  /// The peer does not speak TLS 1.3.
  public static let oldTLS: ReasonCode = "old-tls"
  /// The peer does not speak TLS.
  public static let notTLS: ReasonCode = "not-tls"
  /// The peer broke the handshake off, mostly because it does not trust our certificate.
  public static let refusedByPeer: ReasonCode = "refused-by-peer"
  /// The handshake failed in another way.
  public static let handshakeFailed: ReasonCode = "handshake-failed"
  /// The connection ended in the middle of the handshake without a word: the other side was killed, perhaps.
  public static let handshakeCut: ReasonCode = "handshake-cut"
  /// The handshake took too long.
  public static let handshakeTimeout: ReasonCode = "handshake-timeout"
  /// As many connections as are allowed are open: in all, from one network, or of one participant.
  public static let tooManyConnections: ReasonCode = "too-many-connections"
  /// The certificate was taken back by the authority.
  public static let revoked: ReasonCode = "revoked"
  /// No Hello in time.
  public static let helloTimeout: ReasonCode = "hello-timeout"
  /// More frames before Hello than a conversation needs.
  public static let tooManyFrames: ReasonCode = "too-many-frames"
}

// Enrolment.
extension ReasonCode {
  /// No such token, or its secret is another.
  public static let unknownToken: ReasonCode = "unknown-token"
  /// The token was used with another key.
  public static let usedToken: ReasonCode = "used-token"
  /// A request that is no PKCS #10 request, is not signed with its key, or asks for what cannot be had.
  public static let invalidRequest: ReasonCode = "invalid-request"
  /// As many requests as are answered at a time came already.
  public static let tryLater: ReasonCode = "try-later"
}
