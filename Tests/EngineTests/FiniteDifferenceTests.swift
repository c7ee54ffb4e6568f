import FedLoRAEngine
import Foundation
import Testing

/// Gradients against central differences of the loss, for every placement of adapters.
@Suite struct FiniteDifferenceTests {
  static let placements: [[String]] = [
    ["query", "value"], ["key"], ["attention.output.dense"], ["intermediate.dense"], ["output.dense"],
    ["query", "key", "value", "dense"], ["layer.1.attention.self.query"],
  ]

  @Test(arguments: placements, Pooling.allCases)
  func everyGradientIsTheSlopeOfTheLoss(targets: [String], pooling: Pooling) throws {
    guard let oracle = OracleFolder.encoder(for: pooling) else {
      Issue.record("no model fixture found")
      return
    }
    let base = try FrozenModel(folder: oracle.url.appendingPathComponent("model"))
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 3, alpha: 6, dropout: 0.2, targets: .suffixes(targets)),
      head: ClassificationHead(labelCount: 3, pooling: pooling)
    )
    let parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 1.3) * 0.15) }
    let (batch, _) = try oracle.batch(0)
    let runner = ModelRunner(model: model, pool: ComputePool(threadCount: 2), tokensPerSlice: 8)
    defer { runner.pool.shutDown() }
    var gradient = [Float](repeating: 0, count: model.layout.count)
    // The same dropout key gives the same mask, so the loss with dropout has a slope as well.
    for key: UInt64? in [nil, 77] {
      _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: key, into: &gradient)
      var scratch = gradient
      func loss(_ values: [Float]) throws -> Double {
        try runner.gradient(of: batch, parameters: values, trained: [], dropoutKey: key, into: &scratch).meanLoss
      }
      for entry in model.layout.entries {
        // Along the gradient itself the slope is the gradient's norm; a random direction catches the rest.
        for direction in 0..<2 {
          var step = [Float](repeating: 0, count: model.layout.count)
          for index in entry.range {
            step[index] = direction == 0 ? gradient[index] : Float(cos(Double(index * index) * 0.7))
          }
          let length = step.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
          if length < 1e-7 { continue }
          func difference(_ h: Double) throws -> Double {
            let ahead = zip(parameters, step).map { $0 + Float(h / length) * $1 }
            let behind = zip(parameters, step).map { $0 - Float(h / length) * $1 }
            return (try loss(ahead) - loss(behind)) / (2 * h)
          }
          // Richardson's combination cancels the third derivative's share.
          let slope = (4 * (try difference(1e-2)) - (try difference(2e-2))) / 3
          let expected = zip(gradient, step).reduce(0.0) { $0 + Double($1.0) * Double($1.1) } / length
          #expect(
            abs(slope - expected) < 5e-3 * max(0.05, abs(expected)),
            "\(entry.name) direction \(direction), dropout \(key != nil): slope \(slope), gradient \(expected)"
          )
        }
      }
    }
  }
}
