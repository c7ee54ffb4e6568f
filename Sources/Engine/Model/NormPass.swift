import CKernels

/// The frozen norms of a model, forward and backward. A norm that shifts is a layer norm; else it is an RMSNorm, which has no
/// mean.
extension SlicePass {
  /// y = norm(x) by row.
  func forwardNorm(
    _ norm: FrozenModel.Norm,
    _ x: UnsafePointer<Float>,
    to y: UnsafeMutablePointer<Float>,
    _ mean: UnsafeMutablePointer<Float>,
    _ scale: UnsafeMutablePointer<Float>,
    _ rows: Int
  ) {
    let spec = model.base.spec
    if let beta = norm.beta {
      fl_layernorm_forward(x, norm.gamma, beta, spec.normEpsilon, y, mean, scale, rows, norm.width)
    } else {
      fl_rmsnorm_forward(x, norm.gamma, spec.normEpsilon, y, scale, rows, norm.width)
    }
  }

  /// x += residual, y = norm(x).
  func addAndNorm(
    _ norm: FrozenModel.Norm,
    _ x: UnsafeMutablePointer<Float>,
    _ residual: UnsafePointer<Float>,
    to y: UnsafeMutablePointer<Float>,
    _ mean: UnsafeMutablePointer<Float>,
    _ scale: UnsafeMutablePointer<Float>,
    _ rows: Int
  ) {
    let spec = model.base.spec
    if let beta = norm.beta {
      fl_add_layernorm_forward(
        x,
        residual,
        norm.gamma,
        beta,
        spec.normEpsilon,
        x,
        y,
        mean,
        scale,
        rows,
        norm.width
      )
    } else {
      fl_add(x, residual, rows * norm.width)
      fl_rmsnorm_forward(x, norm.gamma, spec.normEpsilon, y, scale, rows, norm.width)
    }
  }

  /// Turns the gradient of a norm's output into that of its input, in place.
  func backwardNorm(
    _ norm: FrozenModel.Norm,
    _ gradient: UnsafeMutablePointer<Float>,
    input x: UnsafePointer<Float>,
    _ mean: UnsafePointer<Float>,
    _ scale: UnsafePointer<Float>,
    _ rows: Int
  ) {
    if norm.beta == nil {
      fl_rmsnorm_backward(gradient, x, scale, norm.gamma, gradient, rows, norm.width)
    } else {
      fl_layernorm_backward(gradient, x, mean, scale, norm.gamma, gradient, rows, norm.width)
    }
  }
}
