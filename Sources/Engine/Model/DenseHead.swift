import Foundation

/// The layer that some families' own classifiers have between the first token's vector and the logits. It is trained
/// with the head: PEFT saves both.
struct DenseHead: Sendable {
  /// What follows the layer.
  private enum Function {
    case tanh
    case activation(Activation)
  }

  /// Names of the layer and of the projection to the logits, as transformers has them.
  let dense, output: String
  private let function: Function

  /// Of a family; nil where its classifier has no such layer.
  static func of(_ family: String) -> DenseHead? {
    switch family {
    case "roberta", "xlm-roberta":
      DenseHead(dense: "classifier.dense", output: "classifier.out_proj", function: .tanh)
    case "electra":
      DenseHead(dense: "classifier.dense", output: "classifier.out_proj", function: .activation(.gelu))
    case "distilbert": DenseHead(dense: "pre_classifier", output: "classifier", function: .activation(.relu))
    default: nil
    }
  }

  /// y = f(x) for `count` values.
  func forward(_ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, _ count: Int) {
    switch function {
    case .tanh: for index in 0..<count { y[index] = tanhf(x[index]) }
    case .activation(let activation): activation.forward(x, to: y, count)
    }
  }

  /// Turns the gradient of y = f(x) into that of x, in place.
  func backward(
    _ x: UnsafePointer<Float>,
    _ y: UnsafePointer<Float>,
    _ gradient: UnsafeMutablePointer<Float>,
    _ count: Int
  ) {
    switch function {
    case .tanh: for index in 0..<count { gradient[index] *= 1 - y[index] * y[index] }
    case .activation(let activation): activation.backward(x, gradient, count)
    }
  }
}
