// Draws of rounded Gaussian noise per second, beside plain floating-point normals that hide nothing from a close look.
//
//     noise-benchmark [COORDINATES]

import FedLoRADP
import Foundation

/// Fast statistical bits (SplitMix64), to be beaten or not by secret ones.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64 = 1
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

/// Box and Muller's pairs (1958), the usual implementation of a normal.
func addBoxMuller(_ sums: inout [Double], sigma: Double, generator: inout some RandomNumberGenerator) {
  for index in stride(from: 0, to: sums.count - 1, by: 2) {
    let radius = sigma * (-2 * log(Double.random(in: Double.leastNonzeroMagnitude..<1, using: &generator))).squareRoot()
    let angle = 2 * Double.pi * Double.random(in: 0..<1, using: &generator)
    sums[index] += radius * cos(angle)
    sums[index + 1] += radius * sin(angle)
  }
}

/// Million coordinates a second, the best of five.
func rate(_ coordinates: Int, _ body: () -> Void) -> Double {
  let clock = ContinuousClock()
  let best = (0..<5).map { _ in clock.measure(body) }.min() ?? .zero
  return Double(coordinates) / (best / .seconds(1)) / 1e6
}

let coordinates = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 4_000_000
let grid = try NoiseGrid(clippingNorm: 1, noiseMultiplier: 0.7, dimension: coordinates)
let randomness = SecretRandomness.system()
var sums = [Int64](repeating: 0, count: coordinates)
var plain = [Double](repeating: 0, count: coordinates)
var step = 0

var system = SystemRandomNumberGenerator()
let baseline = rate(coordinates) { addBoxMuller(&plain, sigma: 0.7, generator: &system) }
var split = SplitMix()
let insecure = rate(coordinates) { addBoxMuller(&plain, sigma: 0.7, generator: &split) }
func report(_ name: String, _ rate: Double) {
  print(
    name.padding(toLength: 46, withPad: " ", startingAt: 0),
    String(format: "%8.1f M/s   %6.2f x", rate, rate / baseline)
  )
}
print("\(coordinates) coordinates; ratios to Box–Muller from the system's generator")
report("Box–Muller, SystemRandomNumberGenerator", baseline)
report("Box–Muller, SplitMix64 (not secret)", insecure)
for threads in [1, 2] {
  let noise = rate(coordinates) {
    grid.release(&sums, randomness: randomness, step: step, threads: threads)
    step += 1
  }
  report("rounded Gaussian, exact, \(threads) thread\(threads == 1 ? "" : "s")", noise)
}
var words = [UInt64](repeating: 0, count: coordinates)
var stream = randomness.stream("benchmark", step: 0)
let bits = rate(coordinates) { words.withUnsafeMutableBufferPointer { stream.fill($0) } }
print(String(format: "key stream alone: %.2f GB/s", bits * 8 / 1000))
// The sums are used, so that no draw can be left out.
print("checksum \(sums.reduce(0, &+) &+ Int64(plain[0]))")
