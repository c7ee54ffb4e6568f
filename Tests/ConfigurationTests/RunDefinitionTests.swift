import FedLoRACheckpoint
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("A run that follows from its configuration")
struct RunDefinitionTests {
  private static let model = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("EngineTests/Fixtures/bert/mean/model")
  private let base: FrozenModel
  private let scratch: ScratchFolder

  init() throws {
    base = try FrozenModel(folder: Self.model)
    scratch = try ScratchFolder()
  }

  private func definition(_ assignments: [String]) throws -> RunDefinition {
    let url = scratch.appending("run.yaml")
    try Data(
      "labels: [no, yes]\nmodel: { max_length: 24 }\nadapter: { rank: 2, target_modules: [query, value] }\n".utf8
    ).write(to: url)
    return try RunDefinition(try RunConfiguration.load(url, assignments: assignments).0, base: base)
  }

  @Test("refuses sequences that are longer than the model's positions")
  func positions() throws { #expect(fault(["model.max_length=25"]) == "model.max_length") }

  private func fault(_ assignments: [String]) -> String? {
    do {
      _ = try definition(assignments)
      return nil
    } catch let error as ConfigurationError {
      return error.key
    } catch { return "\(type(of: error))" }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let strategy: StrategyName
    let head: HeadRole
    /// What is sent down and what comes up, of A, B and the head.
    let state: Set<String>
    let update: Set<String>
    var testDescription: String { "\(strategy.rawValue), \(head.rawValue) head" }
  }

  static let cases: [Case] = StrategyName.allCases.flatMap { strategy in
    [HeadRole.frozen, .personal, .shared].map { head in
      let (down, up): (Set<String>, Set<String>) =
        switch strategy {
        case .fedit: (["A", "B"], ["A", "B"])
        case .ffaLoRA: (["B"], ["B"])
        case .fedsaLoRA, .fedsaRSLoRA, .fedsaVeRA: (["A"], ["A"])
        case .fedsvd: (["A", "B"], ["B"])
        }
      let heads: Set<String> = head == .shared ? ["head"] : []
      return Case(strategy: strategy, head: head, state: down.union(heads), update: up.union(heads))
    }
  }

  @Test("declares the tensors that its strategy sends down and takes up", arguments: cases)
  func declarations(wanted: Case) throws {
    let made = try definition(["strategy.name=\(wanted.strategy.rawValue)", "strategy.head=\(wanted.head.rawValue)"])
    func kinds(_ declarations: [WireTensorDeclaration]) -> Set<String> {
      Set(
        declarations.map {
          $0.name.hasSuffix("lora_A.weight") || $0.name.hasSuffix("vera_lambda_d")
            ? "A" : $0.name.hasSuffix("lora_B.weight") ? "B" : "head"
        }
      )
    }
    #expect(kinds(made.manifest.state) == wanted.state)
    #expect(kinds(made.manifest.update) == wanted.update)
    #expect(made.initialState.names == made.manifest.state.map(\.name))
    for declaration in made.manifest.state {
      #expect(made.initialState[declaration.name]?.shape == declaration.shape.map(Int.init))
      #expect(declaration.dataType == .f32)
    }
    // Two layers with query and value each; the head has weight and bias.
    let count = { (kinds: Set<String>) in kinds.reduce(0) { $0 + ($1 == "head" ? 2 : 4) } }
    #expect(made.manifest.state.count == count(wanted.state))
    #expect(made.manifest.update.count == count(wanted.update))
    #expect(Array(made.manifest.model.fingerprint) == base.fingerprint)
  }

  @Test("resolves the head's role and the scale from the strategy")
  func resolution() throws {
    for strategy in StrategyName.allCases {
      let manifest = try definition(["strategy.name=\(strategy.rawValue)"]).manifest
      #expect(manifest.strategy.head == (strategy.isFedSA ? "personal" : "shared"))
      #expect(manifest.adapter.form == (strategy == .fedsaVeRA ? "vera" : "lora"))
      #expect(manifest.adapter.scaling == (strategy == .fedsaRSLoRA ? "rslora" : "lora"))
    }
    #expect(try definition(["adapter.scaling=rslora"]).manifest.adapter.scaling == "rslora")
    #expect(fault(["strategy.name=fedsa-rslora", "adapter.scaling=lora"]) == "adapter.scaling")
    #expect(fault(["strategy.name=fedsa-rslora", "adapter.scaling=rslora"]) == nil)
    #expect(try definition(["strategy.name=ffa-lora", "adapter.form=vera"]).manifest.adapter.form == "vera")
    for refused in [("fedsvd", "vera"), ("fedsa-lora", "vera"), ("fedsa-vera", "lora"), ("fedit", "dora")] {
      #expect(fault(["strategy.name=\(refused.0)", "adapter.form=\(refused.1)"]) == "adapter.form")
    }
  }

  @Test("follows from the seed alone")
  func seed() throws {
    let (one, same, other) = (
      try definition(["seed=1"]), try definition(["seed=1", "name=x"]), try definition(["seed=2"])
    )
    #expect(one.initialState == same.initialState)
    #expect(one.initialState != other.initialState)
    #expect(same.manifest.runID == "x")
  }

  @Test(
    "is refused with the key that makes it impossible",
    arguments: [
      ("labels=[a]", "labels"), ("strategy.weighting=exampels", "strategy.weighting"),
      ("strategy.head=mine", "strategy.head"),
      ("adapter.scaling=big", "adapter.scaling"), ("rounds=0", "rounds"), ("rounds=5000000000", "rounds"),
      ("cohort.quorum=0", "cohort.quorum"), ("cohort.quorum=4", "cohort.quorum"),
      ("cohort.deadline_seconds=-1", "cohort.deadline_seconds"),
      ("cohort.deadline_seconds=.inf", "cohort.deadline_seconds"),
      ("cohort.deadline_seconds=.nan", "cohort.deadline_seconds"),
      ("training.local_steps=0", "training.local_steps"),
      ("training.head_learning_rate=.nan", "training.head_learning_rate"),
      ("training.weight_decay=-1", "training.weight_decay"), ("training.momentum=1", "training.momentum"),
      ("training.max_gradient_norm=.nan", "training.max_gradient_norm"), ("labels=[a, a]", "labels"),
      ("name=''", "name"),
    ]
  )
  func refusals(assignment: String, key: String) { #expect(fault([assignment]) == key) }
}
