import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Testing

/// VeRA against LoRA with the factors that its scales amount to (LoRA itself is held against PEFT), and against slopes.
@Suite struct VeRATests {
  private struct Pair {
    let vera: AdaptedModel
    let lora: AdaptedModel
    /// VeRA's parameters, and LoRA's for the same function: A as the projection has it, B = diag(b) P diag(d).
    let parameters: [Float]
    let folded: [Float]
    let batch: PackedBatch
  }

  private static let targets: [[String]] = [["query", "value"], ["query", "key", "value", "dense"]]

  private func pair(_ targets: [String], _ pooling: Pooling, rank: Int = 5) throws -> Pair {
    let oracle = try #require(OracleFolder.encoder(for: pooling))
    let base = try FrozenModel(folder: oracle.url.appendingPathComponent("model"))
    let head = ClassificationHead(labelCount: 3, pooling: pooling)
    let vera = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: rank, alpha: 9, targets: .suffixes(targets), form: .vera(seed: 4)),
      head: head
    )
    let lora = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: rank, alpha: Double(rank), targets: .suffixes(targets)),
      head: head
    )
    let parameters = (0..<vera.layout.count).map { Float(sin(Double($0) * 1.3) * 0.3) }
    let own = vera.layout.tensors(from: parameters)
    let projections = vera.frozenAdapterTensors
    let a = try #require(projections["vera_A"])
    let b = try #require(projections["vera_B"])
    var tensors = own.filter { $0.hasPrefix("classifier") }
    for entry in lora.layout.entries where entry.kind != .head {
      if entry.kind == .loraA {
        let width = entry.shape[1]
        let values = (0..<rank).flatMap { a.values[($0 * a.shape[1])..<($0 * a.shape[1] + width)] }
        tensors[entry.name] = try Tensor(shape: entry.shape, values: values)
      } else {
        let module = String(entry.name.dropLast(".lora_B.weight".count))
        let d = try #require(own[module + ".vera_lambda_d"]).values
        let scale = try #require(own[module + ".vera_lambda_b"]).values
        let values = (0..<entry.shape[0]).flatMap { row in
          (0..<rank).map { scale[row] * b.values[row * rank + $0] * d[$0] }
        }
        tensors[entry.name] = try Tensor(shape: entry.shape, values: values)
      }
    }
    var folded = [Float](repeating: 0, count: lora.layout.count)
    try lora.layout.assign(tensors, to: &folded)
    var batch = PackedBatch()
    for length in [1, 4, 7] {
      batch.append(
        tokens: (0..<length).map { Int32((length * 7 + $0 * 3) % base.spec.vocabularySize) },
        tokenTypes: [Int32](repeating: 0, count: length),
        label: length % 3
      )
    }
    return Pair(vera: vera, lora: lora, parameters: parameters, folded: folded, batch: batch)
  }

  @Test(arguments: targets, Pooling.allCases)
  func lossAndGradientsAreThoseOfTheFoldedFactors(targets: [String], pooling: Pooling) throws {
    let pair = try pair(targets, pooling)
    let pool = ComputePool(threadCount: 2)
    defer { pool.shutDown() }
    func gradient(_ model: AdaptedModel, _ values: [Float]) throws -> (TensorSet, Double) {
      var result = [Float](repeating: 0, count: model.layout.count)
      let runner = ModelRunner(model: model, pool: pool, tokensPerSlice: 6)
      let summary = try runner.gradient(
        of: pair.batch,
        parameters: values,
        trained: .all,
        dropoutKey: nil,
        into: &result
      )
      return (model.layout.tensors(from: result), summary.meanLoss)
    }
    let (vera, loss) = try gradient(pair.vera, pair.parameters)
    let (lora, foldedLoss) = try gradient(pair.lora, pair.folded)
    #expect(abs(loss - foldedLoss) < 1e-6)
    let own = pair.vera.layout.tensors(from: pair.parameters)
    let projection = try #require(pair.vera.frozenAdapterTensors["vera_B"])
    let rank = pair.vera.adapter.rank
    for entry in pair.vera.layout.entries {
      let found = try #require(vera[entry.name]).values
      let expected: [Double]
      if entry.kind == .head {
        expected = try #require(lora[entry.name]).values.map(Double.init)
      } else {
        let module = entry.name.replacing(".vera_lambda_d", with: "").replacing(".vera_lambda_b", with: "")
        let gradB = try #require(lora[module + ".lora_B.weight"])
        let d = try #require(own[module + ".vera_lambda_d"]).values.map(Double.init)
        let b = try #require(own[module + ".vera_lambda_b"]).values.map(Double.init)
        var sums = [Double](repeating: 0, count: entry.count)
        for row in 0..<gradB.shape[0] {
          for column in 0..<rank {
            let product = Double(gradB.values[row * rank + column]) * Double(projection.values[row * rank + column])
            if entry.kind == .loraA { sums[column] += product * b[row] } else { sums[row] += product * d[column] }
          }
        }
        expected = sums
      }
      let size = expected.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let difference = zip(found, expected).reduce(0.0) { $0 + (Double($1.0) - $1.1) * (Double($1.0) - $1.1) }
        .squareRoot()
      #expect(size > 1e-6, "\(entry.name)")
      #expect(difference < 1e-5 * size, "\(entry.name): \(difference) of \(size)")
    }
  }

  @Test(arguments: [TrainedKinds.all, .loraA, .loraB, [.loraB, .head]], Pooling.allCases)
  func examplesHaveTheirOwnGradients(trained: TrainedKinds, pooling: Pooling) throws {
    let pair = try pair(["query", "key", "value", "dense"], pooling)
    let pool = ComputePool(threadCount: 2)
    defer { pool.shutDown() }
    let runner = ModelRunner(model: pair.vera, pool: pool)
    let each = try runner.exampleGradients(pair.batch, parameters: pair.parameters, trained: trained)
    for index in 0..<pair.batch.count {
      var one = PackedBatch()
      let range = pair.batch.offsets[index]..<pair.batch.offsets[index + 1]
      one.append(
        tokens: Array(pair.batch.tokens[range]),
        tokenTypes: Array(pair.batch.tokenTypes[range]),
        label: pair.batch.labels[index]
      )
      var gradient = [Float](repeating: 0, count: pair.vera.layout.count)
      _ = try runner.gradient(
        of: one,
        parameters: pair.parameters,
        trained: trained,
        dropoutKey: nil,
        into: &gradient
      )
      let expected = runner.trainedRanges(trained).flatMap { gradient[$0] }
      let size = expected.reduce(0.0) { $0 + Double($1 * $1) }.squareRoot()
      let difference = zip(each[index], expected).reduce(0.0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }
        .squareRoot()
      #expect(size > 0)
      #expect(difference <= 1e-5 * size)
    }
  }

  @Test func withDropoutTheGradientIsTheSlope() throws {
    let oracle = try #require(OracleFolder.all.first)
    let base = try FrozenModel(folder: oracle.url.appendingPathComponent("model"))
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(
        rank: 40,
        alpha: 1,
        dropout: 0.2,
        targets: .suffixes(["query", "dense"]),
        form: .vera(seed: 9)
      ),
      head: ClassificationHead(labelCount: 3, pooling: .mean)
    )
    let parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 1.3) * 0.15) }
    let (batch, _) = try oracle.batch(0)
    let pool = ComputePool(threadCount: 1)
    defer { pool.shutDown() }
    let runner = ModelRunner(model: model, pool: pool)
    var gradient = [Float](repeating: 0, count: model.layout.count)
    _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: 5, into: &gradient)
    for entry in model.layout.entries {
      let length = gradient[entry.range].reduce(0.0) { $0 + Double($1 * $1) }.squareRoot()
      guard length > 1e-6 else { continue }
      func loss(_ h: Double) throws -> Double {
        var moved = parameters
        for index in entry.range { moved[index] += Float(h / length) * gradient[index] }
        var scratch = gradient
        return try runner.gradient(of: batch, parameters: moved, trained: [], dropoutKey: 5, into: &scratch).meanLoss
      }
      let slope = try (4 * (loss(1e-2) - loss(-1e-2)) / 2e-2 - (loss(2e-2) - loss(-2e-2)) / 4e-2) / 3
      #expect(abs(slope - length) < 5e-3 * max(0.05, length), "\(entry.name): slope \(slope), gradient \(length)")
    }
  }

  @Test func startsAsTheBaseModelAndFollowsFromTheSeed() throws {
    let pair = try pair(["query", "value"], .mean)
    let start = try AdapterInitialisation.parameters(of: pair.vera, seed: 3)
    for entry in pair.vera.layout.entries where entry.kind != .head {
      #expect(start[entry.range].allSatisfy { $0 == (entry.kind == .loraA ? 0.1 : 0) })
    }
    let held = try AdaptedModel(
      base: pair.vera.base,
      adapter: LoRAConfiguration(
        rank: 5,
        alpha: 1,
        targets: .suffixes(["query"]),
        initialisation: .orthonormalB,
        form: .vera(seed: 4)
      ),
      head: pair.vera.head
    )
    let heldStart = try AdapterInitialisation.parameters(of: held, seed: 3)
    for entry in held.layout.entries where entry.kind != .head {
      #expect(heldStart[entry.range].allSatisfy { $0 == (entry.kind == .loraA ? 0 : 1) })
    }
    #expect(held.frozenAdapterTensors == pair.vera.frozenAdapterTensors)
    let other = try AdaptedModel(
      base: pair.vera.base,
      adapter: LoRAConfiguration(rank: 5, alpha: 1, targets: .suffixes(["query"]), form: .vera(seed: 5)),
      head: pair.vera.head
    )
    #expect(other.frozenAdapterTensors != pair.vera.frozenAdapterTensors)
    #expect(pair.lora.frozenAdapterTensors.isEmpty)
    // Kaiming's bound over the rank, and A's mean square at a third of the square of its own.
    let b = try #require(other.frozenAdapterTensors["vera_B"])
    #expect(b.values.allSatisfy { abs($0) <= Float((6.0 / 5).squareRoot()) })
    let a = try #require(other.frozenAdapterTensors["vera_A"])
    let square = a.values.reduce(0.0) { $0 + Double($1 * $1) } / Double(a.values.count)
    #expect(abs(square * Double(a.shape[1]) / 2 - 1) < 0.3)
  }

  @Test("A VeRA folder that peft saved is read with its projections: the same logits, and a clear refusal without them")
  func peftFolder() throws {
    let fixtures = OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures")
    let adapter = fixtures.appendingPathComponent("vera/adapter")
    let base = fixtures.appendingPathComponent("decoders/llama/model")
    let loaded = try LanguageModel(folder: base, adapter: adapter)
    let expected = try SafetensorsFile(opening: fixtures.appendingPathComponent("vera/expected.safetensors"))
    let tokens = try expected.integers("input_ids").map { Int32($0) }
    var batch = PackedBatch()
    batch.append(tokens: tokens)
    let runner = ModelRunner(model: loaded.model, pool: ComputePool(threadCount: 1))
    let found = try runner.tokenLogits(batch, parameters: loaded.parameters)
    let logits = try expected.floats("logits")
    #expect(found.count == logits.count)
    #expect(zip(found, logits).allSatisfy { abs($0 - $1) < 2e-5 })
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("vera-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: scratch) }
    var folder = try PEFTAdapterFolder(reading: adapter)
    folder.tensors = folder.tensors.filter { $0 != "vera_B" }
    try folder.write(to: scratch)
    #expect { try LanguageModel(folder: base, adapter: scratch) } throws: { "\($0)".contains("vera_B") }
  }
}
