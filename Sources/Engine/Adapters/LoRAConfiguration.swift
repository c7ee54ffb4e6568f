/// How LoRA sits on a model: W = W₀ + s · B A with A of r × dIn and B of dOut × r; or VeRA, which trains only scales of
/// frozen random A and B: W = W₀ + diag(b) B diag(d) A.
///
/// Source: Hu et al., "LoRA", 2021; rsLoRA: Kalajdzievski, "A Rank Stabilization Scaling Factor", 2023; Kopiczko et al.,
/// "VeRA: Vector-based Random Matrix Adaptation", 2024.
public struct LoRAConfiguration: Sendable, Equatable {
  /// What is trained of an adapted module.
  public enum Form: Sendable, Equatable {
    /// A and B.
    case lora
    /// Scales d of r and b of dOut; A and B are frozen, follow from `seed`, and are shared by all modules.
    case vera(seed: UInt64)
  }

  /// The scale s.
  public enum Scaling: String, Sendable, CaseIterable, Codable {
    /// s = alpha / rank.
    case lora
    /// s = alpha / √rank.
    case rslora
  }

  /// How A and B start; their product is always zero. For VeRA's scales: d = 0.1 and b = 0, or with `orthonormalB` d = 0
  /// and b = 1.
  public enum Initialisation: String, Sendable, CaseIterable, Codable {
    /// Kaiming uniform with a = √5, as PEFT does it: U(−1/√dIn, 1/√dIn).
    case kaiming
    /// A's rows orthonormal, from the QR of a Gaussian matrix; B zero.
    case orthonormal
    /// B's columns orthonormal in the same way; A zero. For training A while B is held.
    case orthonormalB = "orthonormal-b"
  }

  /// What is trained.
  public let form: Form
  /// The rank r, at least 1.
  public let rank: Int
  /// alpha, positive; VeRA has no use for it.
  public let alpha: Double
  /// Probability with which an element of the adapter's input is dropped in training, in [0, 1).
  public let dropout: Double
  /// The scale rule.
  public let scaling: Scaling
  /// The modules that get an adapter.
  public let targets: TargetModules
  /// How A starts.
  public let initialisation: Initialisation

  /// Checks the ranges.
  /// - Throws: `ModelError.badOption`.
  public init(
    rank: Int,
    alpha: Double,
    dropout: Double = 0,
    scaling: Scaling = .lora,
    targets: TargetModules,
    initialisation: Initialisation = .kaiming,
    form: Form = .lora
  ) throws {
    guard rank >= 1, rank <= 4096 else {
      throw ModelError.badOption(name: "rank", found: "\(rank)", expected: "1 to 4096")
    }
    guard alpha > 0, alpha.isFinite else {
      throw ModelError.badOption(name: "alpha", found: "\(alpha)", expected: "a positive number")
    }
    guard dropout >= 0, dropout < 1 else {
      throw ModelError.badOption(name: "dropout", found: "\(dropout)", expected: "at least 0 and below 1")
    }
    self.form = form
    self.rank = rank
    self.alpha = alpha
    self.dropout = dropout
    self.scaling = scaling
    self.targets = targets
    self.initialisation = initialisation
  }

  /// The scale s; 1 for VeRA, whose scales are trained.
  public var scale: Float {
    guard form == .lora else { return 1 }
    switch scaling {
    case .lora: return Float(alpha / Double(rank))
    case .rslora: return Float(alpha / Double(rank).squareRoot())
    }
  }
}
