import FedLoRADP
import Foundation
import Testing

private func words(_ randomness: SecretRandomness, _ purpose: String, _ step: Int, _ part: Int, count: Int = 4)
  -> [UInt64]
{
  var stream = randomness.stream(purpose, step: step, part: part)
  return (0..<count).map { _ in stream.next() }
}

@Suite("Secret randomness")
struct SecretRandomnessTests {
  @Test("A seeded stream is HKDF with SHA-256 and AES-256-CTR, as computed by Python's hmac and openssl")
  func oracle() {
    let expected: [(Int, UInt64)] = [
      (0, 0xF12E_38BE_2364_34A0), (1, 0x0C6D_39F8_E6E7_CCC9), (255, 0xE624_C883_F652_83E9),
      (256, 0x77E2_660C_97F3_D218),
      (257, 0x8CDA_3F49_72A5_4A02), (4351, 0x1B70_C2F8_C539_3DE8), (4352, 0x571A_3B42_24D3_B5CC),
      (8000, 0x3659_A28A_B567_CC33),
    ]
    let randomness = SecretRandomness.seeded(42, context: ["client-7", "round 3"])
    let found = words(randomness, "noise", 5, 2, count: 8001)
    for (index, word) in expected { #expect(found[index] == word, "word \(index)") }
  }

  @Test("No two of 12,000 streams over roots, purposes, steps and parts begin alike")
  func distinct() {
    var seen = Set<[UInt64]>()
    var count = 0
    for context in [["a", "b"], ["ab"], ["b", "a"], ["a", "", "b"], []] {
      for seed in [0, 1, UInt64.max] {
        let randomness = SecretRandomness.seeded(seed, context: context)
        for purpose in ["noise", "noise1", "sampling", ""] {
          for step in [0, 1, 2, 255, 256, Int.max, -1, Int.min, 1 << 32, 1 << 40] {
            for part in 0..<20 {
              seen.insert(words(randomness, purpose, step, part, count: 1))
              count += 1
            }
          }
        }
      }
    }
    #expect(count == 12000)
    #expect(seen.count == count)
  }

  @Test("The same arguments give the same bytes; fresh roots never do")
  func repeatable() {
    let seeded = SecretRandomness.seeded(3, context: ["x"])
    #expect(words(seeded, "noise", 1, 2) == words(SecretRandomness.seeded(3, context: ["x"]), "noise", 1, 2))
    let system = SecretRandomness.system()
    #expect(words(system, "noise", 1, 2) == words(system, "noise", 1, 2))
    let roots = Set((0..<1000).map { _ in words(.system(), "noise", 0, 0) })
    #expect(roots.count == 1000)
    #expect(seeded.isSeeded)
    #expect(!system.isSeeded)
  }

  @Test(
    "Filling a buffer gives the words of next, wherever the cuts are",
    arguments: [1, 3, 255, 256, 257, 4096, 5000]
  )
  func fill(size: Int) {
    let randomness = SecretRandomness.seeded(9)
    let expected = words(randomness, "p", 0, 0, count: 20_000)
    var stream = randomness.stream("p", step: 0)
    var found = [UInt64]()
    while found.count + size + 1 <= expected.count {
      var piece = [UInt64](repeating: 0, count: size)
      piece.withUnsafeMutableBufferPointer { stream.fill($0) }
      found += piece
      found.append(stream.next())
    }
    #expect(found == Array(expected.prefix(found.count)))
  }

  @Test("Every bit of a word is set half of the time, and bytes are uniform (both fail by chance below 1e-4)")
  func uniform() {
    let found = words(.seeded(11), "bits", 0, 0, count: 1 << 18)
    for bit in 0..<64 {
      let ones = found.count { $0 >> bit & 1 == 1 }
      #expect(abs(Double(ones) - 0x1p17) < 5 * 256, "bit \(bit)")
    }
    var bytes = [Int](repeating: 0, count: 256)
    for word in found { for shift in 0..<8 { bytes[Int(word >> (8 * shift) & 255)] += 1 } }
    let statistic = ChiSquare.statistic(observed: bytes, expected: [Double](repeating: 8192, count: 256))
    #expect(statistic < ChiSquare.limit(degrees: 255))
  }

  @Test("Bounded draws are uniform over a bound that is no power of two")
  func bounded() {
    var stream = SecretRandomness.seeded(12).stream("draw", step: 0)
    var counts = [Int](repeating: 0, count: 7)
    for _ in 0..<70_000 { counts[stream.draw(below: 7)] += 1 }
    #expect(
      ChiSquare.statistic(observed: counts, expected: [Double](repeating: 10_000, count: 7))
        < ChiSquare.limit(degrees: 6)
    )
    #expect((0..<100).allSatisfy { _ in stream.draw(below: 1) == 0 })
  }

  @Test("Printing a root shows nothing of it")
  func silent() {
    #expect("\(SecretRandomness.system())" == "SecretRandomness(system)")
    #expect(String(reflecting: SecretRandomness.seeded(1)) == "SecretRandomness(seeded)")
  }
}
