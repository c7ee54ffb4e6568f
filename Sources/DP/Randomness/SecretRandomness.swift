import Crypto
import Foundation

/// The root of all secret randomness of one private stretch: one client's one round, or one release of a server.
///
/// No stream is ever used twice, for three reasons. A root is drawn afresh from the system's generator for every stretch
/// and has no way out of memory: it is not `Codable`, has no accessor and is wiped when its last copy goes, so what a crash
/// interrupts is begun again under another root and can replay nothing. Under one root, streams are told apart by
/// (purpose, step, part), each written with its length, so that no two triples give the same key. And a stream is a
/// `KeyStream`, which cannot be copied, so nobody can read the same bytes from it twice. What is left to the caller is not to
/// ask twice for the same triple under one root: the step is the number of the noisy step, counted up once for each.
///
/// The key of a stream is HKDF-Expand (RFC 5869) with SHA-256 of the root, which is a pseudo-random function of the triple
/// as HMAC-SHA-256 is one.
public struct SecretRandomness: Sendable, CustomStringConvertible, CustomDebugStringConvertible {
  private let root: SymmetricKey

  /// Whether everything follows from a known seed, so that noise from here hides nothing.
  public let isSeeded: Bool

  /// A fresh root of 256 bits from the system's generator (`getrandom`), different at every call.
  public static func system() -> SecretRandomness {
    SecretRandomness(root: SymmetricKey(size: .bits256), isSeeded: false)
  }

  /// A root that follows from `seed` and `context`: for tests and simulations, whose runs must repeat. It protects nobody.
  /// - Parameter context: what the root is for, such as run, client and round; other contexts give independent roots.
  public static func seeded(_ seed: UInt64, context: [String] = []) -> SecretRandomness {
    var material = [UInt8]()
    append(seed, to: &material)
    var info = [UInt8]()
    append(UInt64(context.count), to: &info)
    for part in context { append(part, to: &info) }
    let root = HKDF<SHA256>.deriveKey(
      inputKeyMaterial: SymmetricKey(data: material),
      salt: Array("fedlora seeded randomness 1".utf8),
      info: info,
      outputByteCount: 32
    )
    return SecretRandomness(root: root, isSeeded: true)
  }

  /// The stream for one use. The same arguments give the same bytes; other arguments an independent stream.
  /// - Parameters:
  ///   - purpose: what it is for, such as `"noise"`; any text.
  ///   - step: the number of the private step.
  ///   - part: which of several streams of the same step, such as the number of a block of coordinates.
  public func stream(_ purpose: String, step: Int, part: Int = 0) -> KeyStream {
    var info = Array("fedlora key stream 1".utf8)
    Self.append(purpose, to: &info)
    Self.append(UInt64(bitPattern: Int64(step)), to: &info)
    Self.append(UInt64(bitPattern: Int64(part)), to: &info)
    return KeyStream(key: HKDF<SHA256>.expand(pseudoRandomKey: root, info: info, outputByteCount: 32))
  }

  /// Says where the root came from, never what it is.
  public var description: String { "SecretRandomness(\(isSeeded ? "seeded" : "system"))" }
  /// The same as `description`.
  public var debugDescription: String { description }

  private static func append(_ value: UInt64, to bytes: inout [UInt8]) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }

  private static func append(_ text: String, to bytes: inout [UInt8]) {
    append(UInt64(text.utf8.count), to: &bytes)
    bytes.append(contentsOf: text.utf8)
  }
}
