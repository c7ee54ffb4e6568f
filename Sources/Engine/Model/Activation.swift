import CKernels

/// The function between the two projections of a feed-forward block.
public enum Activation: String, Sendable, CaseIterable {
  /// x Φ(x).
  case gelu
  /// GELU with its tanh in place of Φ: x σ(2u), u = √(2/π) (x + 0.044715 x³).
  case geluTanh = "gelu-tanh"
  /// x σ(x).
  case silu
  /// max(x, 0).
  case relu

  /// The names that a Hugging Face configuration has for each.
  static let names: [String: Activation] = [
    "gelu": .gelu, "gelu_python": .gelu, "gelu_new": .geluTanh, "gelu_fast": .geluTanh, "gelu_pytorch_tanh": .geluTanh,
    "gelu_python_tanh": .geluTanh, "silu": .silu, "swish": .silu, "relu": .relu,
  ]

  /// y = f(x) for `count` values.
  func forward(_ x: UnsafePointer<Float>, to y: UnsafeMutablePointer<Float>, _ count: Int) {
    switch self {
    case .gelu: fl_gelu_forward(x, y, count)
    case .geluTanh: fl_gelu_tanh_forward(x, y, count)
    case .silu: fl_silu_forward(x, y, count)
    case .relu: fl_relu_forward(x, y, count)
    }
  }

  /// Turns the gradient of f(x) into that of x, in place.
  func backward(_ x: UnsafePointer<Float>, _ gradient: UnsafeMutablePointer<Float>, _ count: Int) {
    switch self {
    case .gelu: fl_gelu_backward(x, gradient, gradient, count)
    case .geluTanh: fl_gelu_tanh_backward(x, gradient, gradient, count)
    case .silu: fl_silu_backward(x, gradient, gradient, count)
    case .relu: fl_relu_backward(x, gradient, gradient, count)
    }
  }

  /// y = f(gate) ∘ x.
  func forward(
    gate: UnsafePointer<Float>,
    _ x: UnsafePointer<Float>,
    to y: UnsafeMutablePointer<Float>,
    _ count: Int
  ) {
    switch self {
    case .gelu: fl_gelu_gate_forward(gate, x, y, count)
    case .geluTanh: fl_gelu_tanh_gate_forward(gate, x, y, count)
    case .silu: fl_silu_gate_forward(gate, x, y, count)
    case .relu: fl_relu_gate_forward(gate, x, y, count)
    }
  }

  /// Turns the gradient of f(gate) ∘ x into that of x, in place, and writes that of the gate.
  func backward(
    gate: UnsafePointer<Float>,
    _ x: UnsafePointer<Float>,
    _ gradient: UnsafeMutablePointer<Float>,
    gateGradient: UnsafeMutablePointer<Float>,
    _ count: Int
  ) {
    switch self {
    case .gelu: fl_gelu_gate_backward(gate, x, gradient, gateGradient, gradient, count)
    case .geluTanh: fl_gelu_tanh_gate_backward(gate, x, gradient, gateGradient, gradient, count)
    case .silu: fl_silu_gate_backward(gate, x, gradient, gateGradient, gradient, count)
    case .relu: fl_relu_gate_backward(gate, x, gradient, gateGradient, gradient, count)
    }
  }
}
