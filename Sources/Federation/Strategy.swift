import FedLoRACheckpoint

/// The federated strategies by the names that run files and manifests use.
public enum StrategyName: String, Codable, CaseIterable, Sendable {
  /// FedIT (FedAvg of both factors; Zhang et al. 2024). The mean of factors is not the mean of products.
  case fedit = "fedit"
  /// FFA-LoRA (Sun et al. 2024): A stays at its random start, B is averaged.
  case ffaLoRA = "ffa-lora"
  /// FedSA-LoRA (Guo et al. 2025): A is averaged, every client keeps its own B.
  case fedsaLoRA = "fedsa-lora"
  /// FedSA-LoRA with the rank-stabilised scale α/√r.
  case fedsaRSLoRA = "fedsa-rslora"
  /// FedSA with VeRA: frozen A and B from the seed, d is averaged, every client keeps its own b.
  case fedsaVeRA = "fedsa-vera"
  /// FedSVD (Lee et al. 2025): B is averaged, the coordinator re-factorises the product and serves a new A.
  case fedsvd = "fedsvd"

  /// Whether clients share the input side of their adapters and keep the output side and, as a rule, the head.
  public var isFedSA: Bool {
    switch self {
    case .fedsaLoRA, .fedsaRSLoRA, .fedsaVeRA: true
    case .fedit, .ffaLoRA, .fedsvd: false
    }
  }
}

/// What becomes of the head, that is of every trained tensor that is not a LoRA factor.
public enum HeadRole: String, Codable, Sendable, CaseIterable {
  /// Kept as the base model or the seed made it.
  case frozen
  /// Trained by each client for itself.
  case personal
  /// Trained and averaged.
  case shared
}

/// What one tensor is in a run: who trains it and whether it travels.
public enum TensorRole: String, Sendable, CaseIterable {
  /// Trained, uploaded, averaged and sent down.
  case shared
  /// Trained; never leaves the client.
  case personal
  /// Not trained by clients; set by the coordinator and sent down (FedSVD's A).
  case served
  /// Not trained and never sent; everybody derives it from the seed or the base model (FFA-LoRA's A).
  case frozen
}

/// A federated strategy as data: the role of every tensor, and what the coordinator does after the mean.
public struct Strategy: Sendable, Equatable {
  /// Which strategy.
  public let name: StrategyName
  /// What becomes of the head.
  public let head: HeadRole
  /// FedSVD re-factorises after every round whose number this divides; 1 for every other strategy.
  public let refactoriseEvery: Int

  /// - Throws: `StrategyError` when the period is less than 1, or given to a strategy that never re-factorises.
  public init(name: StrategyName, head: HeadRole, refactoriseEvery: Int = 1) throws {
    guard refactoriseEvery >= 1 else { throw StrategyError.periodTooSmall(refactoriseEvery) }
    guard name == .fedsvd || refactoriseEvery == 1 else {
      throw StrategyError.periodWithoutRefactorisation(name, refactoriseEvery)
    }
    self.name = name
    self.head = head
    self.refactoriseEvery = refactoriseEvery
  }

  /// The role of the tensor of this name.
  public func role(of tensorName: String) -> TensorRole {
    switch (AdapterPart(tensorName), name) {
    case (.a, .fedit), (.a, .fedsaLoRA), (.a, .fedsaRSLoRA), (.a, .fedsaVeRA): .shared
    case (.a, .ffaLoRA): .frozen
    case (.a, .fedsvd): .served
    case (.b, .fedit), (.b, .ffaLoRA), (.b, .fedsvd): .shared
    case (.b, .fedsaLoRA), (.b, .fedsaRSLoRA), (.b, .fedsaVeRA): .personal
    case (.head, _):
      switch head {
      case .frozen: .frozen
      case .personal: .personal
      case .shared: .shared
      }
    }
  }

  /// Whether clients train this tensor.
  public func isTrained(_ tensorName: String) -> Bool {
    switch role(of: tensorName) {
    case .shared, .personal: true
    case .served, .frozen: false
    }
  }

  /// Whether this tensor is part of an update.
  public func isUploaded(_ tensorName: String) -> Bool { role(of: tensorName) == .shared }

  /// Whether this tensor is part of the state that the coordinator sends.
  public func isSentDown(_ tensorName: String) -> Bool {
    switch role(of: tensorName) {
    case .shared, .served: true
    case .personal, .frozen: false
    }
  }

  /// Whether the mean of the factors gives exactly the mean of the clients' products.
  public var isExact: Bool { name == .ffaLoRA || name == .fedsvd }

  /// The factor s of W₀ + s·B·A: α/√r for the rank-stabilised strategy, 1 for VeRA, else α/r.
  /// - Precondition: `rank` is at least 1.
  public func scale(alpha: Double, rank: Int) -> Double {
    precondition(rank >= 1, "a LoRA rank is at least 1")
    switch name {
    case .fedsaRSLoRA: return alpha / Double(rank).squareRoot()
    case .fedsaVeRA: return 1
    case .fedit, .ffaLoRA, .fedsaLoRA, .fedsvd: return alpha / Double(rank)
    }
  }

  /// The names and shapes that an update must have, given the state that was sent.
  public func uploadLayout(state: TensorSet) -> TensorLayout { TensorLayout(of: state.filter(isUploaded)) }

  /// The coordinator's step: the state of the next round from the state that was sent and the mean of the updates.
  ///
  /// All strategies replace the shared tensors by their mean. FedSVD then, after every `refactoriseEvery`-th round,
  /// turns each module's B and A into factors of the same product with A's rows orthonormal (`Refactorisation`).
  /// - Parameters:
  ///   - round: the round that the updates belong to, counted from 1.
  ///   - previous: shared and served tensors as sent in this round.
  ///   - mean: the weighted mean of the updates.
  /// - Throws: `LayoutError` when `mean` is not what `previous` asks for; `RefactorisationError`.
  public func nextState(round: Int, previous: TensorSet, mean: TensorSet) throws -> TensorSet {
    try uploadLayout(state: previous).check(mean)
    var next = previous.filter(isSentDown).merging(mean)
    guard name == .fedsvd, round.isMultiple(of: refactoriseEvery) else { return next }
    for nameOfA in next.names where AdapterPart.isFactorA(nameOfA) {
      let nameOfB = AdapterPart.partner(ofA: nameOfA)
      guard let a = next[nameOfA], let b = next[nameOfB] else { throw LayoutError.missing(nameOfB) }
      let factors = try Refactorisation(module: AdapterPart.module(of: nameOfA), a: a, b: b)
      next[nameOfA] = factors.a
      next[nameOfB] = factors.b
    }
    return next
  }
}

/// Which part of an adapted model a tensor is, by its PEFT name.
enum AdapterPart: Equatable {
  /// LoRA's A or VeRA's d.
  case a
  /// LoRA's B or VeRA's b.
  case b
  case head

  private static let suffixOfA = ".lora_A.weight"
  private static let suffixOfB = ".lora_B.weight"

  init(_ tensorName: String) {
    if tensorName.hasSuffix(AdapterPart.suffixOfA) || tensorName.hasSuffix(".vera_lambda_d") {
      self = .a
    } else if tensorName.hasSuffix(AdapterPart.suffixOfB) || tensorName.hasSuffix(".vera_lambda_b") {
      self = .b
    } else {
      self = .head
    }
  }

  static func isFactorA(_ tensorName: String) -> Bool { tensorName.hasSuffix(suffixOfA) }

  static func module(of nameOfA: String) -> String { String(nameOfA.dropLast(suffixOfA.count)) }
  static func partner(ofA nameOfA: String) -> String { module(of: nameOfA) + suffixOfB }
}

/// Why a strategy's settings were refused.
public enum StrategyError: Error, Equatable, CustomStringConvertible {
  /// The period of re-factorisation is below 1.
  case periodTooSmall(Int)
  /// A period was set for a strategy that has no re-factorisation.
  case periodWithoutRefactorisation(StrategyName, Int)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .periodTooSmall(let period): "refactorise_every is \(period); it counts rounds and must be at least 1"
    case .periodWithoutRefactorisation(let name, let period):
      "refactorise_every is \(period), but strategy \(name.rawValue) never re-factorises; leave it out or use fedsvd"
    }
  }
}
