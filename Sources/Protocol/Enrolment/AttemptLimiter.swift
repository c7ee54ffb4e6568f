import NIOCore

/// How often somebody may ask: each network a few times at once and then at a slow rate, all of them together likewise.
/// A value that knows no clock; its size is bounded whatever comes.
package struct AttemptLimiter: Sendable {
  private struct Bucket: Sendable {
    var permits: Double
    var refilled: NIODeadline

    mutating func refill(_ burst: Double, perSecond rate: Double, at now: NIODeadline) {
      permits = min(burst, permits + Double(max((now - refilled).nanoseconds, 0)) * 1e-9 * rate)
      refilled = now
    }
  }

  private let burst: Double
  private let rate: Double
  private let totalBurst: Double
  private let totalRate: Double
  private var total: Bucket
  private var networks: [RemoteNetwork: Bucket] = [:]

  /// Networks that are told apart; those beyond share the limit of all.
  private static let mostNetworks = 4096

  /// - Parameters:
  ///   - burst: attempts of one network at once, `perSecond` how many are added.
  ///   - totalBurst: the same for all networks together.
  package init(
    burst: Int = 10,
    perSecond rate: Double = 0.2,
    totalBurst: Int = 100,
    totalPerSecond totalRate: Double = 5,
    now: NIODeadline = .now()
  ) {
    (self.burst, self.rate) = (Double(burst), rate)
    (self.totalBurst, self.totalRate) = (Double(totalBurst), totalRate)
    total = Bucket(permits: Double(totalBurst), refilled: now)
  }

  /// Whether an attempt from `address` is answered.
  package mutating func admits(_ address: SocketAddress, at now: NIODeadline) -> Bool {
    admit(RemoteNetwork(address), at: now)
  }

  /// Whether an attempt is answered; it counts either way only where it is.
  mutating func admit(_ network: RemoteNetwork, at now: NIODeadline) -> Bool {
    total.refill(totalBurst, perSecond: totalRate, at: now)
    guard total.permits >= 1 else { return false }
    if networks[network] == nil, networks.count >= Self.mostNetworks {
      for key in networks.keys { networks[key]?.refill(burst, perSecond: rate, at: now) }
      networks = networks.filter { $0.value.permits < burst }
    }
    if networks[network] != nil || networks.count < Self.mostNetworks {
      var bucket = networks[network] ?? Bucket(permits: burst, refilled: now)
      bucket.refill(burst, perSecond: rate, at: now)
      defer { networks[network] = bucket }
      guard bucket.permits >= 1 else { return false }
      bucket.permits -= 1
    }
    total.permits -= 1
    return true
  }
}
