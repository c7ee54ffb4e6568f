import Foundation
import NIOCore

/// Where a connection comes from, as far as limits go: an IPv4 address, or the /64 of an IPv6 address, which is what one
/// subscriber is given.
struct RemoteNetwork: Hashable, Sendable {
  private let bits: UInt64
  private let isVersion6: Bool

  /// - Parameter address: nil, and what is no internet address, counts as one network.
  init(_ address: SocketAddress?) {
    let text = address?.ipAddress.map { String($0.prefix { $0 != "%" }) } ?? "::"
    // A socket that listens on both versions shows IPv4 addresses as ::ffff:a.b.c.d.
    let mapped = text.contains(":") ? text : "::ffff:\(text)"
    var bytes = [UInt8](repeating: 0, count: 16)
    guard inet_pton(AF_INET6, mapped, &bytes) == 1 else {
      self.init(bits: 0, isVersion6: true)
      return
    }
    func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
    if number(0..<8) == 0, number(8..<12) == 0xFFFF {
      self.init(bits: number(12..<16), isVersion6: false)
    } else {
      self.init(bits: number(0..<8), isVersion6: true)
    }
  }

  private init(bits: UInt64, isVersion6: Bool) {
    self.bits = bits
    self.isVersion6 = isVersion6
  }
}
