import Foundation

/// The factor on the learning rate over the steps of a run, with the meaning of Hugging Face's schedules.
public struct LearningRateSchedule: Sendable, Equatable {
  /// The curve after the warm-up.
  public enum Shape: String, Sendable, CaseIterable, Codable {
    /// Always 1.
    case constant
    /// Straight down to 0 at the last step.
    case linear
    /// Half a cosine down to 0 at the last step.
    case cosine
  }

  /// The curve after the warm-up.
  public let shape: Shape
  /// Steps over which the factor climbs from 0 to 1.
  public let warmupSteps: Int
  /// Steps of the whole run.
  public let totalSteps: Int

  /// Takes the curve, the warm-up and the length.
  public init(shape: Shape, warmupSteps: Int = 0, totalSteps: Int) {
    self.shape = shape
    self.warmupSteps = max(0, warmupSteps)
    self.totalSteps = max(1, totalSteps)
  }

  /// The factor of step `step`, counted from 0.
  public func factor(at step: Int) -> Double {
    if step < warmupSteps { return Double(step) / Double(max(1, warmupSteps)) }
    let progress = Double(step - warmupSteps) / Double(max(1, totalSteps - warmupSteps))
    switch shape {
    case .constant: return 1
    case .linear: return max(0, 1 - progress)
    case .cosine: return max(0, 0.5 * (1 + cos(Double.pi * min(1, progress))))
    }
  }
}
