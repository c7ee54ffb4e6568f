import NIOCore
import Synchronization

/// Which connections of a server are open, in their handshake or authenticated, and how many were refused why.
final class ConnectionRegistry: Sendable {
  private struct State: Sendable {
    var handshaking: [ObjectIdentifier: any Channel] = [:]
    var open: [ObjectIdentifier: any Channel] = [:]
    var refusals: [ReasonCode: Int] = [:]
    var isClosed = false
  }

  private let configuration: TransportConfiguration
  private let onRefusal: @Sendable (RefusedPeer) -> Void
  private let state = Mutex(State())

  init(configuration: TransportConfiguration, onRefusal: @escaping @Sendable (RefusedPeer) -> Void) {
    self.configuration = configuration
    self.onRefusal = onRefusal
  }

  var refusals: [ReasonCode: Int] { state.withLock { $0.refusals } }
  var connectionCount: Int { state.withLock { $0.open.count } }

  /// Takes note of a new connection.
  /// - Returns: false where it has to be closed at once.
  func beginHandshake(of channel: any Channel) -> Bool {
    let id = ObjectIdentifier(channel)
    let (isClosed, isFull) = state.withLock { state in
      let isFull = state.handshaking.count >= configuration.maximumPendingHandshakes
      if !isFull, !state.isClosed { state.handshaking[id] = channel }
      return (state.isClosed, isFull)
    }
    if isClosed { return false }
    if isFull {
      refuse(
        channel,
        code: .tooManyConnections,
        text: "\(configuration.maximumPendingHandshakes) connections are in their handshake already"
      )
      return false
    }
    channel.closeFuture.whenComplete { [self] _ in
      state.withLock { state in
        state.handshaking[id] = nil
        state.open[id] = nil
      }
    }
    return true
  }

  /// Takes note of how a handshake went.
  /// - Returns: false where the peer is a good one and there is no place for it.
  func endHandshake(of channel: any Channel, _ result: Result<PeerIdentity, any Error>) -> Bool {
    let id = ObjectIdentifier(channel)
    switch result {
    case .failure(let error):
      let isClosed = state.withLock { state in
        state.handshaking[id] = nil
        return state.isClosed
      }
      guard !isClosed else { return true }
      let refusal = error as? CertificateRefusal
      refuse(channel, code: refusal?.code ?? .handshakeFailed, text: refusal?.text ?? "\(error)")
      return true
    case .success(let peer):
      let isAdmitted = state.withLock { state in
        state.handshaking[id] = nil
        guard state.open.count < configuration.maximumConnections else { return false }
        state.open[id] = channel
        return true
      }
      if !isAdmitted {
        refuse(
          channel,
          code: .tooManyConnections,
          text: "\(peer) found \(configuration.maximumConnections) connections open already"
        )
      }
      return isAdmitted
    }
  }

  /// Closes every connection, and every one that still comes.
  func closeAll() {
    let channels = state.withLock { state in
      state.isClosed = true
      return Array(state.handshaking.values) + Array(state.open.values)
    }
    for channel in channels { channel.close(promise: nil) }
  }

  private func refuse(_ channel: any Channel, code: ReasonCode, text: String) {
    state.withLock { $0.refusals[code, default: 0] += 1 }
    onRefusal(RefusedPeer(address: channel.remoteAddress?.hostAndPort ?? "unknown address", code: code, text: text))
  }
}
