import Foundation

/// A part of a seed's path: a run's seed is split into streams by names and numbers.
public enum SeedPart: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
  /// A name, such as a client's.
  case name(String)
  /// A number, such as a round's.
  case number(UInt64)

  /// A name.
  public init(stringLiteral value: String) { self = .name(value) }
  /// A number.
  public init(integerLiteral value: UInt64) { self = .number(value) }
}

/// A generator whose stream follows from its seed alone: the same on every machine, in every process and with every
/// version of Swift. Not for keys or for the noise of differential privacy.
///
/// The generator is xoshiro256** (Blackman and Vigna 2018), its state filled by SplitMix64. Draws that the standard library
/// may implement differently some day (bounded integers, shuffles) are written out here.
public struct SeededGenerator: RandomNumberGenerator, Sendable, Equatable {
  private var s0: UInt64
  private var s1: UInt64
  private var s2: UInt64
  private var s3: UInt64

  /// The stream of a seed.
  public init(seed: UInt64) {
    var state = seed
    s0 = Self.splitMix(&state)
    s1 = Self.splitMix(&state)
    s2 = Self.splitMix(&state)
    s3 = Self.splitMix(&state)
  }

  /// The stream at a path below a seed, independent of the streams at other paths.
  public init(seed: UInt64, _ path: SeedPart...) { self.init(seed: Self.derive(seed, path)) }

  /// The seed at a path below a seed: each part is mixed in with its kind and length, so that no two paths meet but by
  /// chance. Depends on nothing but its arguments.
  public static func derive(_ seed: UInt64, _ path: SeedPart...) -> UInt64 { derive(seed, path) }

  /// As with a path of one part; allocates nothing.
  public static func derive(_ seed: UInt64, _ part: SeedPart) -> UInt64 {
    var state = seed
    mix(part, into: &state)
    return state
  }

  private static func derive(_ seed: UInt64, _ path: [SeedPart]) -> UInt64 {
    var state = seed
    for part in path { mix(part, into: &state) }
    return state
  }

  private static func mix(_ part: SeedPart, into state: inout UInt64) {
    switch part {
    case .number(let value):
      mixWord(1, into: &state)
      mixWord(value, into: &state)
    case .name(let name):
      mixWord(2, into: &state)
      var word: UInt64 = 0
      var count: UInt64 = 0
      for byte in name.utf8 {
        word = word << 8 | UInt64(byte)
        count += 1
        if count % 8 == 0 { mixWord(word, into: &state) }
      }
      mixWord(word, into: &state)
      mixWord(count, into: &state)
    }
  }

  private static func mixWord(_ value: UInt64, into state: inout UInt64) {
    state ^= value
    state = splitMix(&state)
  }

  private static func splitMix(_ state: inout UInt64) -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }

  /// 64 uniform bits.
  public mutating func next() -> UInt64 {
    func rotated(_ value: UInt64, _ count: UInt64) -> UInt64 { value << count | value >> (64 - count) }
    let result = rotated(s1 &* 5, 7) &* 9
    let shifted = s1 << 17
    s2 ^= s0
    s3 ^= s1
    s1 ^= s2
    s0 ^= s3
    s2 ^= shifted
    s3 = rotated(s3, 45)
    return result
  }

  // MARK: Draws

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

  /// Uniform in [0, 1), on a grid of 2⁻²⁴.
  public mutating func uniformFloat() -> Float { Float(next() >> 40) * 0x1p-24 }

  /// Uniform in [0, 1), on a grid of 2⁻⁵³.
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }

  /// Standard normal, from two uniforms (Box and Muller 1958). Keeps nothing for the next call.
  public mutating func normal() -> Double {
    let radius = (-2 * log(1 - uniform())).squareRoot()
    return radius * cos(2 * .pi * uniform())
  }

  /// The logarithm of a Gamma(`shape`, 1) draw (Marsaglia and Tsang 2000). In logarithms, since draws of small shapes are
  /// smaller than any Double.
  public mutating func logGamma(shape: Double) -> Double {
    precondition(shape > 0, "a gamma draw needs a positive shape")
    if shape < 1 { return logGamma(shape: shape + 1) + log(1 - uniform()) / shape }
    let d = shape - 1.0 / 3
    let c = 1 / (9 * d).squareRoot()
    while true {
      let x = normal()
      let v = (1 + c * x) * (1 + c * x) * (1 + c * x)
      if v <= 0 { continue }
      if log(1 - uniform()) < 0.5 * x * x + d - d * v + d * log(v) { return log(d * v) }
    }
  }

  /// A Gamma(`shape`, 1) draw; 0 where it is smaller than any Double.
  public mutating func gamma(shape: Double) -> Double { exp(logGamma(shape: shape)) }

  /// Proportions from a symmetric Dirichlet distribution; they add up to 1.
  public mutating func dirichlet(alpha: Double, count: Int) -> [Double] {
    let logs = (0..<count).map { _ in logGamma(shape: alpha) }
    guard let greatest = logs.max() else { return [] }
    let weights = logs.map { exp($0 - greatest) }
    let sum = weights.reduce(0, +)
    return weights.map { $0 / sum }
  }

  /// A uniform permutation (Fisher and Yates, from the end).
  public mutating func shuffle<Element>(_ items: inout [Element]) {
    for index in stride(from: items.count - 1, to: 0, by: -1) { items.swapAt(index, draw(below: index + 1)) }
  }

  /// The numbers 0 ..< `count` in random order.
  public mutating func permutation(_ count: Int) -> [Int] {
    var order: [Int] = []
    permute(count, &order)
    return order
  }

  /// As `permutation`, in an array whose room is used again.
  mutating func permute(_ count: Int, _ order: inout [Int]) {
    order.removeAll(keepingCapacity: true)
    order.append(contentsOf: 0..<count)
    shuffle(&order)
  }
}
