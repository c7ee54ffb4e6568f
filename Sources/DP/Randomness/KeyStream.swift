import Crypto
import Foundation

/// Secret uniform bits: AES-256 in counter mode under a key of its own.
///
/// The bytes are what AES-GCM makes of zeros, its tag thrown away: block after block of AES over (nonce, counter), where the
/// nonce counts the chunks, so no block of the cipher is ever entered twice. Counter mode through GCM is the fastest stream
/// that swift-crypto offers without underscored declarations: 4 to 7 GB/s on the machine of `Benchmarks/README.md`, against
/// 0.8 GB/s for ChaCha20-Poly1305. AES is a permutation, so its outputs never repeat, which tells 2ⁿ blocks from true
/// randomness with an advantage of at most 2²ⁿ⁻¹²⁹: 2⁻¹⁰¹ for the 2¹⁴ blocks that a block of noise takes.
///
/// A stream cannot be copied, and wipes its buffer when it goes. (The buffers inside swift-crypto are freed unwiped; whoever
/// reads this process's memory reads the examples too.)
public struct KeyStream: ~Copyable, @unchecked Sendable {
  // @unchecked: the buffer belongs to this value alone, which is not copyable.
  private let key: SymmetricKey
  private let words: UnsafeMutablePointer<UInt64>
  private var filled = 0
  private var position = 0
  private var chunk: UInt64 = 0

  /// 32 KiB at a time; the first chunk is smaller, as many streams are short.
  private static let chunkWords = 4096
  private static let firstChunkWords = 256
  private static let zeros = Data(count: chunkWords * 8)

  init(key: SymmetricKey) {
    self.key = key
    words = .allocate(capacity: Self.chunkWords)
  }

  deinit {
    explicit_bzero(words, Self.chunkWords * 8)
    words.deallocate()
  }

  /// The next 64 bits.
  public mutating func next() -> UInt64 {
    if position == filled { refill() }
    let word = words[position]
    position += 1
    return word
  }

  /// Fills `destination` with the next words: the same ones that as many calls of `next()` would give.
  public mutating func fill(_ destination: UnsafeMutableBufferPointer<UInt64>) {
    guard var target = destination.baseAddress else { return }
    var left = destination.count
    while left > 0 {
      if position == filled { refill() }
      let count = min(left, filled - position)
      target.update(from: words + position, count: count)
      position += count
      target += count
      left -= count
    }
  }

  /// Uniform in 0 ..< `bound`, without bias (Lemire 2019, "Fast random integer generation in an interval").
  public mutating func draw(below bound: Int) -> Int {
    precondition(bound > 0, "a draw needs a positive bound")
    let range = UInt64(bound)
    let threshold = (0 &- range) % range
    while true {
      let product = next().multipliedFullWidth(by: range)
      if product.low >= threshold { return Int(product.high) }
    }
  }

  private mutating func refill() {
    let count = chunk == 0 ? Self.firstChunkWords : Self.chunkWords
    var nonce = [UInt8](repeating: 0, count: 12)
    withUnsafeBytes(of: chunk.bigEndian) { nonce.replaceSubrange(4..<12, with: $0) }
    do {
      let box = try AES.GCM.seal(Self.zeros.prefix(count * 8), using: key, nonce: AES.GCM.Nonce(data: nonce))
      // Words are read little-endian, so that a seeded stream is the same on every machine.
      box.ciphertext.withUnsafeBytes {
        UnsafeMutableRawBufferPointer(start: words, count: count * 8).copyMemory(from: $0)
      }
      for index in 0..<count { words[index] = UInt64(littleEndian: words[index]) }
    } catch {
      // A key of 256 bits and a nonce of 96 are always accepted; without key stream there must be no release.
      preconditionFailure("the key stream failed: \(error)")
    }
    chunk += 1
    filled = count
    position = 0
  }
}
