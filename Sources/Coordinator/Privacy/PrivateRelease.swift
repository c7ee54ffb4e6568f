import FedLoRACheckpoint
import FedLoRADP
import FedLoRAFederation
import Foundation

/// One private release: the clipped sum of a round's updates and, where the clipping norm adapts, of their bits, with noise.
///
/// One value holds clipping, grid, noise and divisor, so they cannot disagree. It noises every coordinate, whatever was
/// folded; an empty cohort is released like any other.
public struct PrivateRelease: Sendable {
  /// The terms.
  public let terms: ClientLevelPrivacy
  /// S of this round.
  public let clippingNorm: Double
  /// How many updates were folded that held NaN or infinity and counted as zero.
  public var discardedCount: Int { sum.discardedCount }

  /// How far the clipping norm may wander from its start, either way: the noise of the bits must not take it out of
  /// the range of the grid.
  static let largestDrift = 1e6

  private let grid: NoiseGrid
  private let bitGrid: NoiseGrid?
  private var sum: PrivateSum
  private var bits: Int64 = 0

  /// What a round's updates come to.
  public struct Outcome: Sendable, Equatable {
    /// The noised mean difference, one number for each element of the layout.
    public let differences: [Double]
    /// S of the next round.
    public let nextClippingNorm: Double
  }

  /// A release to which nobody has contributed yet.
  /// - Parameters:
  ///   - layout: what each update must consist of.
  ///   - clippingNorm: S of this round.
  /// - Throws: `PrivacyParameterError` or `PrivateSumError` where no grid can hold these terms.
  public init(terms: ClientLevelPrivacy, layout: TensorLayout, clippingNorm: Double) throws {
    self.terms = terms
    self.clippingNorm = clippingNorm
    // Noise is stated in units of S; the sum of weighted vectors needs it in units of S·w.
    grid = try NoiseGrid(
      clippingNorm: clippingNorm,
      noiseMultiplier: terms.updateNoiseMultiplier * Double(terms.largestWeight) * (1 + 0x1p-52),
      dimension: layout.elementCount
    )
    sum = try PrivateSum(
      layout: layout,
      clippingLimit: grid.clippingLimit,
      step: grid.step,
      largestWeight: terms.largestWeight
    )
    // A bit moves its sum by ½, so noise of σ_b is 2σ_b times that.
    bitGrid = try terms.adaptiveClipping.map {
      try NoiseGrid(clippingNorm: 0.5, noiseMultiplier: 2 * $0.noise, dimension: 1)
    }
  }

  /// Adds one client's update; one that holds NaN or infinity adds zero, and no bit.
  /// - Parameter sent: the shared tensors as the round sent them.
  /// - Throws: `LayoutError` or `PrivateSumError`; nothing is then added.
  public mutating func fold(_ update: TensorSet, sent: TensorSet, examples: Int) throws {
    let norm = try sum.fold(update, sent: sent, weight: terms.weighting.weight(examples: examples))
    guard let norm, let bitGrid else { return }
    let unit = Int64((bitGrid.clippingLimit / bitGrid.step).rounded(.down))
    bits += norm <= clippingNorm ? unit : -unit
  }

  /// Adds the noise and divides by the public divisor. To be called once: what was folded is gone afterwards.
  ///
  /// The updates' noise and the bits' come from roots of their own.
  public consuming func release(round: Int) -> Outcome {
    var sums = sum.sums
    grid.release(
      &sums,
      randomness: terms.randomness("updates", round: round),
      step: 0,
      threads: ProcessInfo.processInfo.activeProcessorCount
    )
    let divisor = terms.divisor * Double(terms.largestWeight)
    let differences = sums.map { grid.value($0) / divisor }
    var next = clippingNorm
    if let bitGrid, let adaptive = terms.adaptiveClipping {
      var noisy = [bits]
      bitGrid.release(&noisy, randomness: terms.randomness("quantile bits", round: round), step: 0)
      let share = 0.5 + bitGrid.value(noisy[0]) / terms.divisor
      next *= exp(-adaptive.learningRate * (share - adaptive.quantile))
      next = min(
        max(next, terms.clippingNorm / PrivateRelease.largestDrift),
        terms.clippingNorm * PrivateRelease.largestDrift
      )
    }
    return Outcome(differences: differences, nextClippingNorm: next)
  }
}
