import FedLoRACheckpoint
import FedLoRAFederation
import FedLoRALinearAlgebra
import Testing

@Suite("Strategies")
struct StrategyTests {
  @Test("roles: who trains A, B and the head, and what travels")
  func roles() throws {
    let a = nameOfA
    let b = nameOfB
    let expected: [(StrategyName, TensorRole, TensorRole)] = [
      (.fedit, .shared, .shared), (.ffaLoRA, .frozen, .shared), (.fedsaLoRA, .shared, .personal),
      (.fedsaRSLoRA, .shared, .personal), (.fedsaVeRA, .shared, .personal), (.fedsvd, .served, .shared),
    ]
    #expect(expected.map(\.0) == StrategyName.allCases)
    for (name, roleOfA, roleOfB) in expected {
      for (head, roleOfHead) in zip(HeadRole.allCases, [TensorRole.frozen, .personal, .shared]) {
        let strategy = try Strategy(name: name, head: head)
        #expect(strategy.role(of: a) == roleOfA)
        #expect(strategy.role(of: b) == roleOfB)
        #expect(strategy.role(of: "classifier.weight") == roleOfHead)
        #expect(strategy.role(of: "classifier.bias") == roleOfHead)
        for tensor in [a, b, "classifier.weight"] {
          let role = strategy.role(of: tensor)
          #expect(strategy.isTrained(tensor) == (role == .shared || role == .personal))
          #expect(strategy.isUploaded(tensor) == (role == .shared))
          #expect(strategy.isSentDown(tensor) == (role == .shared || role == .served))
        }
      }
    }
    #expect(try Strategy(name: .fedsaRSLoRA, head: .frozen).scale(alpha: 16, rank: 16) == 4)
    #expect(try Strategy(name: .fedsaLoRA, head: .frozen).scale(alpha: 16, rank: 16) == 1)
    #expect(try Strategy(name: .fedsaVeRA, head: .frozen).scale(alpha: 16, rank: 4) == 1)
  }

  @Test("VeRA's scales have the roles of A and B")
  func scales() throws {
    let (d, b) = ("m.query.vera_lambda_d", "m.query.vera_lambda_b")
    for name in StrategyName.allCases {
      let strategy = try Strategy(name: name, head: .shared)
      #expect(strategy.role(of: d) == strategy.role(of: nameOfA))
      #expect(strategy.role(of: b) == strategy.role(of: nameOfB))
    }
    let strategy = try Strategy(name: .fedsaVeRA, head: .personal)
    let sent = TensorSet([d: try Tensor(shape: [2], values: [0.1, 0.1])])
    let mean = TensorSet([d: try Tensor(shape: [2], values: [0.3, -0.1])])
    #expect(try strategy.nextState(round: 1, previous: sent, mean: mean) == mean)
  }

  @Test("a period of re-factorisation is for FedSVD alone and at least 1")
  func periods() throws {
    #expect(throws: StrategyError.periodTooSmall(0)) {
      try Strategy(name: .fedsvd, head: .frozen, refactoriseEvery: 0)
    }
    #expect(throws: StrategyError.periodWithoutRefactorisation(.fedit, 2)) {
      try Strategy(name: .fedit, head: .frozen, refactoriseEvery: 2)
    }
    #expect(try Strategy(name: .fedsvd, head: .frozen, refactoriseEvery: 5).refactoriseEvery == 5)
  }

  @Test(
    "the mean of the factors is the mean of the products where the rule is exact, and only there",
    arguments: 1...100 as ClosedRange<UInt64>
  )
  func meanOfProducts(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let rank = Int.random(in: 1...8, using: &generator)
    let dIn = rank + Int.random(in: 1...60, using: &generator)
    let dOut = rank + Int.random(in: 1...60, using: &generator)
    let clients = Int.random(in: 2...9, using: &generator)
    let weighting: Weighting = [.uniform, .examples, .capped(50)][Int.random(in: 0..<3, using: &generator)]
    let weights = (0..<clients).map { _ in weighting.weight(examples: Int.random(in: 0...5000, using: &generator)) }
    let sent = TensorSet([
      nameOfA: try randomTensor([rank, dIn], &generator), nameOfB: try randomTensor([dOut, rank], &generator),
      "classifier.bias": try randomTensor([3], &generator),
    ])
    for name in StrategyName.allCases {
      let strategy = try Strategy(name: name, head: .shared)
      // What each client holds after training: what is trained differs, what is not is as sent.
      let held = try (0..<clients).map { _ in
        var state = sent
        for entry in sent.entries where strategy.isTrained(entry.name) {
          state[entry.name] = try randomTensor(entry.tensor.shape, &generator)
        }
        return state
      }
      let state = sent.filter(strategy.isSentDown)
      var sum = ExactSum(layout: strategy.uploadLayout(state: state))
      for (client, weight) in zip(held, weights) { try sum.fold(client.filter(strategy.isUploaded), weight: weight) }
      let next = try strategy.nextState(round: 1, previous: state, mean: sum.mean())
      #expect(next.names == state.names, "seed \(seed)")

      let meanOfProducts = try weightedMean(held.map { try denseProduct(b: $0[nameOfB], a: $0[nameOfA]) }, weights)
      switch name {
      case .ffaLoRA:
        let product = try denseProduct(b: next[nameOfB], a: sent[nameOfA])
        #expect(relativeDifference(product, meanOfProducts) <= 1e-6, "seed \(seed)")
      case .fedsvd:
        let product = try denseProduct(b: next[nameOfB], a: next[nameOfA])
        #expect(relativeDifference(product, meanOfProducts) <= 1e-6, "seed \(seed)")
        #expect(try orthonormalityError(next[nameOfA]) <= 1e-6, "seed \(seed)")
      case .fedit:
        let product = try denseProduct(b: next[nameOfB], a: next[nameOfA])
        #expect(relativeDifference(product, meanOfProducts) > 1e-3, "seed \(seed)")
        let meanA = weightedMean(try held.map { try matrix($0[nameOfA]) }, weights)
        let meanB = weightedMean(try held.map { try matrix($0[nameOfB]) }, weights)
        #expect(relativeDifference(product, try Matrix.product(meanB, meanA)) <= 1e-6, "seed \(seed)")
      case .fedsaLoRA, .fedsaRSLoRA, .fedsaVeRA:
        // Client k's adapter is its own B with the mean A; B is not in the state at all.
        #expect(next[nameOfB] == nil, "seed \(seed)")
        let meanA = weightedMean(try held.map { try matrix($0[nameOfA]) }, weights)
        for client in held {
          let product = try denseProduct(b: client[nameOfB], a: next[nameOfA])
          #expect(
            relativeDifference(product, try Matrix.product(matrix(client[nameOfB]), meanA)) <= 1e-6,
            "seed \(seed)"
          )
        }
      }
      let head = weightedMean(
        try held.map { try Matrix(rows: 1, columns: 3, floats: $0["classifier.bias"]?.values ?? []) },
        weights
      )
      let found = try Matrix(rows: 1, columns: 3, floats: next["classifier.bias"]?.values ?? [])
      #expect(relativeDifference(found, head) <= 1e-6, "seed \(seed)")
      #expect(strategy.isExact == (name == .ffaLoRA || name == .fedsvd))
    }
  }

  @Test("between re-factorisations FedSVD averages B and leaves A alone")
  func period() throws {
    var generator = SeededGenerator(seed: 1)
    let strategy = try Strategy(name: .fedsvd, head: .frozen, refactoriseEvery: 3)
    var state = TensorSet([nameOfA: try randomTensor([2, 9], &generator), nameOfB: Tensor(zeros: [7, 2])])
    for round in 1...7 {
      let mean = TensorSet([nameOfB: try randomTensor([7, 2], &generator)])
      let next = try strategy.nextState(round: round, previous: state, mean: mean)
      #expect((next[nameOfA] == state[nameOfA]) == (round % 3 != 0), "round \(round)")
      #expect((next[nameOfB] == mean[nameOfB]) == (round % 3 != 0), "round \(round)")
      state = next
    }
  }

  @Test("a mean that is not what the state asks for is refused by name")
  func layoutErrors() throws {
    let strategy = try Strategy(name: .fedsvd, head: .frozen)
    let state = TensorSet([nameOfA: Tensor(zeros: [2, 9]), nameOfB: Tensor(zeros: [7, 2])])
    #expect(throws: LayoutError.missing(nameOfB)) {
      try strategy.nextState(round: 1, previous: state, mean: TensorSet())
    }
    #expect(throws: LayoutError.unexpected(nameOfA)) {
      try strategy.nextState(round: 1, previous: state, mean: state)
    }
    #expect(throws: LayoutError.shape(nameOfB, found: [2, 7], expected: [7, 2])) {
      try strategy.nextState(round: 1, previous: state, mean: TensorSet([nameOfB: Tensor(zeros: [2, 7])]))
    }
    #expect(throws: LayoutError.missing(nameOfB)) {
      try strategy.nextState(round: 1, previous: state.filter { $0 == nameOfA }, mean: TensorSet())
    }
  }

  @Test("weights: uniform, by examples, capped, never below 1")
  func weights() {
    #expect(Weighting.uniform.weight(examples: 90) == 1)
    #expect(Weighting.examples.weight(examples: 90) == 90)
    #expect(Weighting.examples.weight(examples: 0) == 1)
    #expect(Weighting.examples.weight(examples: -5) == 1)
    #expect(Weighting.capped(50).weight(examples: 90) == 50)
    #expect(Weighting.capped(50).weight(examples: 9) == 9)
    #expect(Weighting.capped(0).weight(examples: 9) == 1)
    #expect(Weighting.capped(50).largestWeight == 50 && Weighting.examples.largestWeight == nil)
  }
}
