import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAFederation

/// One row of an audit: a configuration that a run file can have, or one that is broken on purpose.
public enum AuditSubject: Sendable, Equatable {
  /// The client's own private training, under a strategy and a form of personal tensors.
  case sound(StrategyName, PersonalForm)
  /// A loop of the audit's own that makes a known mistake; the product has no such configuration.
  case broken(BrokenForm)

  /// The mistakes that an audit worth running must see.
  public enum BrokenForm: String, Sendable, CaseIterable {
    /// No noise is added, though a noise multiplier is claimed.
    case noiseOff = "noise-off"
    /// Every tensor is clipped to C for itself, though the noise is for a joint norm of C.
    case perTensorClipping = "per-tensor-clipping"
    /// FedSA's personal B and head learn without noise in the very steps whose noised gradients of A leave the client.
    case unsoundFedSA = "unsound-fedsa"
  }

  /// All configurations that can be asked for, by strategy.
  public static func sound(_ strategies: [StrategyName]) -> [AuditSubject] {
    strategies.flatMap { strategy -> [AuditSubject] in
      let hasPersonalTensors = strategy == .fedsaLoRA || strategy == .fedsaRSLoRA
      return (hasPersonalTensors ? PersonalForm.allCases : [.joint]).map { .sound(strategy, $0) }
    }
  }

  /// The strategies of an audit that names none.
  public static let standardStrategies: [StrategyName] = [.fedsvd, .ffaLoRA, .fedit, .fedsaLoRA]

  /// Its name in tables.
  public var name: String {
    switch self {
    case .sound(let strategy, let personal):
      strategy == .fedsaLoRA || strategy == .fedsaRSLoRA
        ? "\(strategy.rawValue) \(personal.rawValue)" : strategy.rawValue
    case .broken(let form): form.rawValue
    }
  }

  /// Whether the mechanism makes a mistake on purpose.
  public var isBroken: Bool { if case .broken = self { true } else { false } }

  /// The strategy whose terms are claimed.
  var strategy: StrategyName {
    switch self {
    case .sound(let strategy, _): strategy
    case .broken(.unsoundFedSA): .fedsaLoRA
    case .broken: .fedit
    }
  }

  /// The form of personal tensors that is claimed.
  var personal: PersonalForm { if case .sound(_, let personal) = self { personal } else { .joint } }
}
