import Foundation
import NIOCore
import Synchronization

/// Which connections of a server are open, in their handshake or authenticated, and how many were refused why.
final class ConnectionRegistry: Sendable {
  fileprivate struct Pending: Sendable {
    let channel: any Channel
    let network: RemoteNetwork
  }

  fileprivate struct Open: Sendable {
    let channel: any Channel
    let session: NIOLoopBound<SessionHandler>
    let network: RemoteNetwork
    let peer: VerifiedPeer
    /// Whether it was told to go, which takes a moment.
    var isEnding = false
  }

  fileprivate struct State: Sendable {
    var pending: [ObjectIdentifier: Pending] = [:]
    var open: [ObjectIdentifier: Open] = [:]
    var pendingByNetwork: [RemoteNetwork: Int] = [:]
    var openByNetwork: [RemoteNetwork: Int] = [:]
    var openByPeer: [PeerIdentity: Int] = [:]
    var refusals: [ReasonCode: Int] = [:]
    var reports = RefusalReports()
    var revocations: RevocationList?
    var isClosed = false
  }

  private let configuration: TransportConfiguration
  private let onRefusal: @Sendable (RefusedPeer) -> Void
  private let state: Mutex<State>

  init(
    configuration: TransportConfiguration,
    revocations: RevocationList?,
    onRefusal: @escaping @Sendable (RefusedPeer) -> Void
  ) {
    self.configuration = configuration
    self.onRefusal = onRefusal
    var first = State()
    first.revocations = revocations
    state = Mutex(first)
  }

  var refusals: [ReasonCode: Int] { state.withLock { $0.refusals } }
  var connectionCount: Int { state.withLock { $0.open.count } }
  var pendingCount: Int { state.withLock { $0.pending.count } }

  /// Takes note of a new connection.
  /// - Returns: false where it has to be closed at once.
  func beginHandshake(of channel: any Channel) -> Bool {
    let id = ObjectIdentifier(channel)
    let network = RemoteNetwork(channel.remoteAddress)
    let (isClosed, fault) = state.withLock { state -> (Bool, String?) in
      if state.isClosed { return (true, nil) }
      let (pending, own) = (state.pending.count, state.pendingByNetwork[network, default: 0])
      let all = own + state.openByNetwork[network, default: 0]
      if pending >= configuration.maximumPendingHandshakes {
        return (false, "\(pending) connections are in their handshake already")
      }
      if own >= configuration.maximumPendingHandshakesPerNetwork {
        return (false, "\(own) connections of its network are in their handshake already")
      }
      if all >= configuration.maximumConnectionsPerNetwork {
        return (false, "\(all) connections of its network are open already")
      }
      state.pending[id] = Pending(channel: channel, network: network)
      state.pendingByNetwork[network, default: 0] += 1
      return (false, nil)
    }
    if isClosed { return false }
    if let fault {
      refuse(address: channel.remoteAddress, code: .tooManyConnections, text: fault)
      return false
    }
    channel.closeFuture.whenComplete { [self] _ in state.withLock { $0.forget(id) } }
    return true
  }

  /// Takes note of how a handshake went.
  /// - Returns: why a peer with a good certificate has no place all the same; nil where it has one, or was refused.
  func endHandshake(
    of channel: any Channel,
    session: NIOLoopBound<SessionHandler>,
    _ result: Result<VerifiedPeer, any Error>
  ) -> CertificateRefusal? {
    let id = ObjectIdentifier(channel)
    switch result {
    case .failure(let error):
      // It counts until its socket is gone, which a peer that does not answer puts off a little.
      guard !state.withLock({ $0.isClosed }) else { return nil }
      let refusal = error as? CertificateRefusal
      refuse(
        address: channel.remoteAddress,
        code: refusal?.code ?? .handshakeFailed,
        text: refusal?.text ?? "\(error)"
      )
      return nil
    case .success(let peer):
      let refusal = state.withLock { state -> CertificateRefusal? in
        guard let network = state.pending[id]?.network else { return nil }
        if let refusal = state.fault(of: peer, configuration) { return refusal }
        state.forget(id)
        state.open[id] = Open(channel: channel, session: session, network: network, peer: peer)
        state.openByNetwork[network, default: 0] += 1
        state.openByPeer[peer.identity, default: 0] += 1
        return nil
      }
      if let refusal { refuse(address: channel.remoteAddress, code: refusal.code, text: refusal.text) }
      return refusal
    }
  }

  /// From now on this list counts; connections whose certificate it takes back are closed, and so are those whose
  /// certificate has ended.
  /// - Returns: how many connections were closed.
  @discardableResult
  func sweep(revocations: RevocationList?, at date: Date = Date()) -> Int {
    let found = state.withLock { state -> [(Open, CertificateRefusal)] in
      state.revocations = revocations
      let ending = state.open.filter { !$0.value.isEnding }.compactMap { id, open in
        (state.revoked(open.peer) ?? open.peer.ended(by: date)).map { (id, open, $0) }
      }
      for (id, _, _) in ending { state.open[id]?.isEnding = true }
      return ending.map { ($0.1, $0.2) }
    }
    for (open, refusal) in found {
      refuse(address: open.channel.remoteAddress, code: refusal.code, text: refusal.text)
      open.channel.eventLoop.execute {
        open.session.value.refuse(TransportError.violation(code: refusal.code, text: refusal.text))
      }
    }
    return found.count
  }

  /// Closes every connection, and every one that still comes.
  func closeAll() {
    let channels = state.withLock { state in
      state.isClosed = true
      return state.pending.values.map(\.channel) + state.open.values.map(\.channel)
    }
    for channel in channels { channel.close(promise: nil) }
  }

  /// Counts a refusal, and tells it unless many like it were told just now.
  func refuse(address: SocketAddress?, code: ReasonCode, text: String) {
    refuse(address: address?.hostAndPort ?? "unknown address", code: code, text: text)
  }

  func refuse(address: String, code: ReasonCode, text: String) {
    let suppressed = state.withLock { state in
      state.refusals[code, default: 0] += 1
      return state.reports.note(code, at: .now())
    }
    guard let suppressed else { return }
    let more = suppressed > 0 ? " (and \(suppressed) more for this reason that were not told one by one)" : ""
    onRefusal(
      RefusedPeer(address: address, code: code, text: text.oneLine(atMost: 1024) + more, suppressed: suppressed)
    )
  }

  /// Tells how many refusals were not told, where a flood has ended and nothing else would tell it.
  func tellOverdue() {
    for (code, count) in state.withLock({ $0.reports.overdue(at: .now()) }) {
      onRefusal(
        RefusedPeer(
          address: "several addresses",
          code: code,
          text: "\(count) more for this reason were not told one by one",
          suppressed: count
        )
      )
    }
  }
}

extension VerifiedPeer {
  fileprivate func ended(by date: Date) -> CertificateRefusal? {
    guard notAfter < date else { return nil }
    return CertificateRefusal(
      code: .expired,
      text: "the certificate of \(identity) ended on \(notAfter.formatted(.iso8601))"
    )
  }
}

extension ConnectionRegistry.State {
  fileprivate mutating func forget(_ id: ObjectIdentifier) {
    if let pending = pending.removeValue(forKey: id) { pendingByNetwork.decrement(pending.network) }
    if let open = open.removeValue(forKey: id) {
      openByNetwork.decrement(open.network)
      openByPeer.decrement(open.peer.identity)
    }
  }

  fileprivate func revoked(_ peer: VerifiedPeer) -> CertificateRefusal? {
    guard let serial = peer.serial, let since = revocations?.entries[serial] else { return nil }
    return CertificateRefusal(
      code: .revoked,
      text: "the certificate of \(peer.identity) (serial \(serial)) was revoked on \(since.formatted(.iso8601))"
    )
  }

  /// Why a peer that has proven who it is finds no place.
  fileprivate func fault(of peer: VerifiedPeer, _ configuration: TransportConfiguration) -> CertificateRefusal? {
    // The list may be newer than the one that the handshake was judged by.
    if let refusal = revoked(peer) { return refusal }
    let own = openByPeer[peer.identity, default: 0]
    if open.count >= configuration.maximumConnections {
      return CertificateRefusal(
        code: .tooManyConnections,
        text: "\(peer.identity) found \(configuration.maximumConnections) connections open already"
      )
    }
    if peer.identity == .nameless, own >= max(configuration.maximumConnections / 2, 1) {
      return CertificateRefusal(
        code: .tooManyConnections,
        text: "\(own) connections without a certificate are open already; the other places are for those who have one"
      )
    }
    if peer.identity != .nameless, own >= configuration.maximumConnectionsPerParticipant {
      return CertificateRefusal(
        code: .tooManyConnections,
        text: "\(peer.identity) has \(own) connections open already"
      )
    }
    return nil
  }
}

extension Dictionary where Value == Int {
  fileprivate mutating func decrement(_ key: Key) {
    guard let count = self[key] else { return }
    self[key] = count > 1 ? count - 1 : nil
  }
}
