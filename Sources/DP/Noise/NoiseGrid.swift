import Foundation

/// The integer grid on which a clipped, noised sum is released.
///
/// Floating-point noise betrays the sum in its low bits (Mironov 2012; Haney et al. 2022), so sums are integers: a caller
/// clips each vector to `clippingLimit`, divides by `step`, rounds each coordinate to the nearest integer and adds up. The step
/// is chosen so that the noise has a standard deviation of exactly 2ᵐ units and the clipping norm C is 2²² to 2²³ of them.
///
/// To an integer n the release adds ⌊2ᵐ·z⌋ with an exactly standard normal z (`RoundedGaussian`). As n is an integer that is
/// ⌊n + 2ᵐ·z⌋: the Gaussian mechanism on the sum, rounded afterwards. Rounding is post-processing, so every statement about the
/// Gaussian mechanism with this noise multiplier holds for it, at no cost but `deltaCost`. The value of n is (n + ½)·step,
/// since the floor takes away half a unit in the mean.
public struct NoiseGrid: Sendable, Equatable {
  /// One unit of the grid.
  public let step: Double
  /// m: the noise has a standard deviation of 2ᵐ units; nil without noise.
  public let noiseExponent: Int?
  /// The norm to which a vector is clipped before it is rounded.
  ///
  /// A vector whose norm, computed in floating point, is at most this, and whose coordinates are then divided by `step` and
  /// rounded to the nearest integer, has an integer norm of at most C/step for certain: rounding adds √d/2 units at most, and
  /// what floating point does to the vector may be 2⁻²⁰ of its norm.
  public let clippingLimit: Double
  /// C: the norm of the integer vectors in units of the grid, times `step`.
  public let clippingNorm: Double
  /// σ: the standard deviation of the noise in units of C.
  public let noiseMultiplier: Double
  /// d: the number of coordinates.
  public let dimension: Int

  /// - Parameters:
  ///   - clippingNorm: C, above 0; the most that one example's vector adds to the sum, as ℓ₂ norm.
  ///   - noiseMultiplier: σ, 0 or more. The noise has a standard deviation of σ·C.
  ///   - dimension: the number of coordinates of a vector, at least 1.
  /// - Throws: `PrivacyParameterError` when one is out of range, when σ·C is too small or large for a `Double` grid, or when
  ///   the dimension is so large that rounding alone could exceed C.
  public init(clippingNorm: Double, noiseMultiplier: Double, dimension: Int) throws {
    guard clippingNorm > 0, clippingNorm.isFinite else {
      throw PrivacyParameterError.outOfRange("the clipping norm", clippingNorm, "above 0 and finite")
    }
    guard noiseMultiplier >= 0, noiseMultiplier.isFinite else {
      throw PrivacyParameterError.outOfRange("the noise multiplier", noiseMultiplier, "0 or more and finite")
    }
    guard dimension >= 1 else {
      throw PrivacyParameterError.outOfRange("the number of coordinates", Double(dimension), "1 or more")
    }
    // C/step: 2²² without noise, else 2ᵐ/σ, rounded down.
    let norm: Double
    if noiseMultiplier == 0 {
      noiseExponent = nil
      norm = 0x1p22
      step = clippingNorm * 0x1p-22
    } else {
      let wanted = Int(noiseMultiplier.exponent) + (noiseMultiplier.significand == 1 ? 22 : 23)
      let exponent = min(wanted, RoundedGaussian.maximumExponent)
      noiseExponent = exponent
      // σ/2ᵐ is exact; its inverse and the product with C are rounded.
      let share = scalbn(noiseMultiplier, -exponent)
      norm = (1 / share).nextDown
      step = share * clippingNorm
    }
    guard step.isNormal, norm > 0 else {
      throw PrivacyParameterError.outOfRange(
        "the product of noise multiplier and clipping norm",
        noiseMultiplier * clippingNorm,
        "such that a grid of 2^-23 of it can be told apart in double precision"
      )
    }
    let rounding = Double(dimension).squareRoot().nextUp / 2
    let limit = (norm - rounding) * (1 - 0x1p-20) * step
    guard limit > 0, limit.isNormal else {
      throw PrivacyParameterError.outOfRange(
        "the number of coordinates",
        Double(dimension),
        "below \(4 * norm * norm), where rounding each to the grid cannot exceed the clipping norm"
      )
    }
    clippingLimit = limit
    self.clippingNorm = clippingNorm
    self.noiseMultiplier = noiseMultiplier
    self.dimension = dimension
  }

  /// The value of a released integer: (n + ½)·step with noise, n·step without.
  public func value(_ n: Int64) -> Double { (Double(n) + (noiseExponent == nil ? 0 : 0.5)) * step }

  /// The values of released integers.
  public func values(_ sums: [Int64]) -> [Double] { sums.map(value) }

  // MARK: Release

  /// The purpose of the noise's streams.
  public static let streamPurpose = "gaussian noise"
  /// Coordinates with one stream, so that the result does not depend on the number of threads.
  package static let blockSize = 32768

  /// Adds the noise of one step to the sums of all its examples; without noise it does nothing.
  ///
  /// Every coordinate gets noise whatever the data, also when no example was drawn. Takes about 6 ns a coordinate and thread.
  /// The calling thread works too and is blocked until the end.
  /// - Parameters:
  ///   - sums: `dimension` integers in units of the grid.
  ///   - randomness: the root of this private stretch.
  ///   - step: the number of the step; under one root each number gives the same noise again, so it is used once.
  ///   - threads: at most so many threads work; the result does not depend on it.
  ///   - spread: calls its second argument with each number below its first, on the caller's threads; nil takes the
  ///     system's.
  public func release(
    _ sums: inout [Int64],
    randomness: SecretRandomness,
    step: Int,
    threads: Int = 1,
    spread: ((Int, @escaping @Sendable (Int) -> Void) -> Void)? = nil
  ) {
    sums.withUnsafeMutableBufferPointer {
      release($0, randomness: randomness, step: step, threads: threads, spread: spread)
    }
  }

  /// As `release(_:randomness:step:threads:spread:)` on memory of the caller.
  public func release(
    _ sums: UnsafeMutableBufferPointer<Int64>,
    randomness: SecretRandomness,
    step: Int,
    threads: Int = 1,
    spread: ((Int, @escaping @Sendable (Int) -> Void) -> Void)? = nil
  ) {
    precondition(sums.count == dimension, "a grid for \(dimension) coordinates was given \(sums.count)")
    guard let noiseExponent, let base = sums.baseAddress else { return }
    let count = sums.count
    let blocks = (count + Self.blockSize - 1) / Self.blockSize
    // Each block is touched by one thread only.
    nonisolated(unsafe) let target = base
    @Sendable func addNoise(block: Int) {
      let start = block * Self.blockSize
      var stream = randomness.stream(Self.streamPurpose, step: step, part: block)
      RoundedGaussian.add(
        to: target + start,
        count: min(Self.blockSize, count - start),
        exponent: noiseExponent,
        stream: &stream
      )
    }
    let workers = max(1, min(threads, blocks))
    if workers == 1 {
      for block in 0..<blocks { addNoise(block: block) }
    } else {
      @Sendable func work(_ worker: Int) {
        for block in stride(from: worker, to: blocks, by: workers) { addNoise(block: block) }
      }
      if let spread {
        spread(workers, work)
      } else {
        DispatchQueue.concurrentPerform(iterations: workers, execute: work)
      }
    }
  }

  /// What drawing the noise with finitely many digits adds to δ: (1 + exp(ε)) times the total variation distance between
  /// the noise of all steps and its ideal, 2⁻¹¹⁷ a coordinate and step. It is 1.4e-18 for 10⁷ coordinates, 10⁶ steps and ε = 10.
  /// (That the key stream is not truly random is a matter of AES and comes on top for those who can tell.)
  public static func deltaCost(coordinates: Int, steps: Int, epsilon: Double) -> Double {
    min(1, (1 + exp(epsilon)) * Double(coordinates) * Double(steps) * RoundedGaussian.distancePerDraw)
  }
}
