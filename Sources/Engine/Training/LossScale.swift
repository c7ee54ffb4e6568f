/// By what the losses of a slice are weighted in their gradient.
///
/// A unit of loss is a labelled sequence of a classifier, and a token with a target of a language model.
enum LossScale: Equatable {
  /// No gradient is wanted.
  case none
  /// Every unit alike: one over the units of the whole batch gives the gradient of its mean loss.
  case each(Float)
  /// Every sequence alike, whatever units it has: each sequence has the gradient of its own mean loss.
  case ownMean

  /// The weight of each unit of a sequence with so many of them.
  func factor(units: Int) -> Float {
    switch self {
    case .none: 0
    case .each(let factor): factor
    case .ownMean: units == 0 ? 0 : 1 / Float(units)
    }
  }
}
