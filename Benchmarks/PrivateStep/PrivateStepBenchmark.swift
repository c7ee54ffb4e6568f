import CKernels
import FedLoRAEngine
import FedLoRALinearAlgebra
import Foundation

/// Times a DP-SGD step beside a plain step of the same model, batch and threads, in turns, and prints one JSON line a
/// case with the ratio.
///
/// usage: private-step MODEL [--batch 32] [--length 128] [--threads 1,2] [--steps 12]
@main struct PrivateStepBenchmark {
  static func main() async throws {
    var arguments = Array(CommandLine.arguments.dropFirst())
    func option(_ name: String, _ fallback: String) -> String {
      guard let at = arguments.firstIndex(of: "--\(name)"), at + 1 < arguments.count else { return fallback }
      defer { arguments.removeSubrange(at...(at + 1)) }
      return arguments[at + 1]
    }
    let batch = Int(option("batch", "32")) ?? 32
    let length = Int(option("length", "128")) ?? 128
    let threads = option("threads", "1,2").split(separator: ",").compactMap { Int($0) }
    let steps = Int(option("steps", "12")) ?? 12
    let targets = option("targets", "query,value").split(separator: ",").map(String.init)
    guard let folder = arguments.first else {
      FileHandle.standardError.write(
        Data("usage: private-step MODEL [--batch N] [--length N] [--threads 1,2] [--steps N] [--targets query,value]\n".utf8)
      )
      exit(64)
    }
    let base = try FrozenModel(folder: URL(fileURLWithPath: folder))
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 8, alpha: 16, targets: .suffixes(targets)),
      head: ClassificationHead(labelCount: 2, pooling: .mean)
    )
    var packed = PackedBatch()
    for row in 0..<batch {
      packed.append(
        tokens: (0..<length).map { Int32(1000 + (row * 131 + $0 * 17) % 20_000) },
        tokenTypes: [Int32](repeating: 0, count: length),
        label: row % 2
      )
    }
    for count in threads {
      for (name, trained) in [("fedsvd (B)", [.loraB, .head] as TrainedKinds), ("fedsa (A and B)", .all)] {
        try await measure(model, packed, name: name, trained: trained, threads: count, steps: steps)
      }
    }
  }

  private static func measure(
    _ model: AdaptedModel,
    _ batch: PackedBatch,
    name: String,
    trained: TrainedKinds,
    threads: Int,
    steps: Int
  ) async throws {
    let pool = ComputePool(threadCount: threads)
    let runner = ModelRunner(model: model, pool: pool)
    let (plain, clipped) = try await pool.perform {
      var parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 12.9898)) * 0.02 }
      var gradient = [Float](repeating: 0, count: model.layout.count)
      var optimizer = Optimizer(.defaultAdamW, layout: model.layout, trained: trained)
      let clipping = try ExampleClipping(rule: .flat, bound: 1, step: 1 / 6_000_000)
      var times: (plain: [Double], clipped: [Double]) = ([], [])
      func seconds(_ body: () throws -> Void) rethrows -> Double {
        let start = DispatchTime.now().uptimeNanoseconds
        try body()
        return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
      }
      for step in 0..<(steps + 2) {
        let plain = try seconds {
          _ = try runner.gradient(of: batch, parameters: parameters, trained: trained, dropoutKey: nil, into: &gradient)
          optimizer.step(&parameters, gradient: gradient, learningRate: 1e-4, headLearningRate: 1e-4)
        }
        let clipped = try seconds {
          var sums = [Int64](repeating: 0, count: runner.trainedCount(trained))
          _ = try runner.addClipped(
            batch,
            parameters: parameters,
            trained: trained,
            dropoutKey: nil,
            clipping: clipping,
            to: &sums
          )
          optimizer.step(&parameters, gradient: gradient, learningRate: 1e-4, headLearningRate: 1e-4)
        }
        if step >= 2 {
          times.plain.append(plain)
          times.clipped.append(clipped)
        }
      }
      return (times.plain.sorted(), times.clipped.sorted())
    }
    pool.shutDown()
    print(name, threads, "plain", plain[plain.count / 2], "clipped", clipped[clipped.count / 2],
      "ratio", clipped[clipped.count / 2] / plain[plain.count / 2], "min ratio", clipped[0] / plain[0])
  }
}
