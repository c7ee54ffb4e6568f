import CKernels
import Foundation

/// What an optimizer does with a gradient.
public enum OptimizerRule: Sendable, Equatable {
  /// buffer ← momentum · buffer + g + decay · p; p ← p − lr · buffer.
  case sgd(momentum: Float, weightDecay: Float)
  /// Decoupled weight decay: p ← p (1 − lr · decay) − lr m̂ / (√v̂ + ε).
  /// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
  case adamW(beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float)

  /// PyTorch's defaults.
  public static let defaultAdamW = OptimizerRule.adamW(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01)
}

/// An optimizer with its state over a flat parameter vector.
///
/// Parameters of a kind that is not trained are never touched, not even by weight decay.
public struct Optimizer: Sendable {
  /// The rule.
  public let rule: OptimizerRule
  private let layout: ParameterLayout
  private let trained: TrainedKinds
  private var first: [Float]
  private var second: [Float]
  private var stepCount = 0

  /// Starts with empty state.
  public init(_ rule: OptimizerRule, layout: ParameterLayout, trained: TrainedKinds) {
    self.rule = rule
    self.layout = layout
    self.trained = trained
    first = [Float](repeating: 0, count: layout.count)
    if case .adamW = rule { second = first } else { second = [] }
  }

  /// One step.
  /// - Parameters:
  ///   - parameters: flat vector in the layout; changed in place.
  ///   - gradient: flat vector in the layout.
  ///   - learningRate: for LoRA's A and B.
  ///   - headLearningRate: for the head.
  public mutating func step(
    _ parameters: inout [Float],
    gradient: [Float],
    learningRate: Float,
    headLearningRate: Float
  ) {
    precondition(parameters.count == layout.count && gradient.count == layout.count, "vectors must fit the layout")
    stepCount += 1
    let isFirst: Int32 = stepCount == 1 ? 1 : 0
    let (layout, trained, rule) = (layout, trained, rule)
    let correction = (1 - pow(rule.decay1, Double(stepCount)), 1 - pow(rule.decay2, Double(stepCount)))
    parameters.withUnsafeMutableBufferPointer { p in
      gradient.withUnsafeBufferPointer { g in
        first.withUnsafeMutableBufferPointer { m in
          second.withUnsafeMutableBufferPointer { v in
            guard let p = p.baseAddress, let g = g.baseAddress, let m = m.baseAddress else { return }
            for entry in layout.entries where trained.includes(entry.kind) {
              let rate = entry.kind == .head ? headLearningRate : learningRate
              let at = entry.offset
              switch rule {
              case .sgd(let momentum, let decay):
                fl_sgd_step(p + at, g + at, m + at, entry.count, rate, momentum, decay, isFirst)
              case .adamW(let beta1, let beta2, let epsilon, let decay):
                guard let v = v.baseAddress else { return }
                fl_adamw_step(
                  p + at,
                  g + at,
                  m + at,
                  v + at,
                  entry.count,
                  rate,
                  beta1,
                  beta2,
                  epsilon,
                  decay,
                  correction.0,
                  correction.1
                )
              }
            }
          }
        }
      }
    }
  }
}

extension OptimizerRule {
  /// β1, and 0 where the rule has none.
  fileprivate var decay1: Double { if case .adamW(let beta1, _, _, _) = self { Double(beta1) } else { 0 } }
  /// β2, and 0 where the rule has none.
  fileprivate var decay2: Double { if case .adamW(_, let beta2, _, _) = self { Double(beta2) } else { 0 } }
}

/// Scales a gradient so that its norm stays within a bound.
public enum GradientNorm {
  /// Joint L2 norm over all values, summed in Double.
  public static func norm(_ gradient: [Float]) -> Double {
    gradient.withUnsafeBufferPointer { values in
      values.baseAddress.map { fl_sum_squares($0, values.count).squareRoot() } ?? 0
    }
  }

  /// Multiplies `gradient` by min(1, bound / (norm + 1e-6)), as PyTorch's `clip_grad_norm_` does.
  /// - Returns: the norm before clipping.
  @discardableResult
  public static func clip(_ gradient: inout [Float], to bound: Double) -> Double {
    let norm = norm(gradient)
    let factor = bound / (norm + 1e-6)
    if factor < 1 {
      gradient.withUnsafeMutableBufferPointer { values in
        if let start = values.baseAddress { fl_scale(Float(factor), start, values.count) }
      }
    }
    return norm
  }
}
