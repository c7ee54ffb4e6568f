import CKernels
import FedLoRAEngine
import FedLoRALinearAlgebra
import Foundation

/// Times one LoRA training step of our engine and prints one JSON line a thread count.
///
/// usage: lora-step MODEL [--batch 32] [--length 128] [--threads 1,2] [--steps 20]
@main struct LoRAStepBenchmark {
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
    let steps = Int(option("steps", "20")) ?? 20
    guard let folder = arguments.first else {
      FileHandle.standardError.write(
        Data("usage: lora-step MODEL [--batch N] [--length N] [--threads 1,2] [--steps N]\n".utf8)
      )
      exit(64)
    }
    let base = try FrozenModel(folder: URL(fileURLWithPath: folder))
    for count in threads { try await measure(base, threads: count, batch: batch, length: length, steps: steps) }
  }

  private static func measure(_ base: FrozenModel, threads: Int, batch: Int, length: Int, steps: Int) async throws {
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 8, alpha: 16, targets: .suffixes(["query", "value"])),
      head: ClassificationHead(labelCount: 2, pooling: .mean)
    )
    let pool = ComputePool(threadCount: threads)
    let runner = ModelRunner(model: model, pool: pool)
    var packed = PackedBatch()
    for row in 0..<batch {
      packed.append(
        tokens: (0..<length).map { Int32(1000 + (row * 131 + $0 * 17) % 20_000) },
        tokenTypes: [Int32](repeating: 0, count: length),
        label: row % 2
      )
    }
    let input = packed
    let seconds = try await pool.perform {
      var parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 12.9898)) * 0.02 }
      var gradient = [Float](repeating: 0, count: model.layout.count)
      var optimizer = Optimizer(.defaultAdamW, layout: model.layout, trained: .all)
      var times: [Double] = []
      for step in 0..<(steps + 3) {
        let start = DispatchTime.now().uptimeNanoseconds
        _ = try runner.gradient(
          of: input,
          parameters: parameters,
          trained: .all,
          dropoutKey: nil,
          into: &gradient
        )
        optimizer.step(&parameters, gradient: gradient, learningRate: 1e-4, headLearningRate: 1e-4)
        if step >= 3 { times.append(Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9) }
      }
      return times.sorted()
    }
    pool.shutDown()
    let median = seconds[seconds.count / 2]
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    print(
      String(
        format:
          "{\"engine\":\"fedlora\",\"threads\":%d,\"batch\":%d,\"length\":%d,\"median_step_seconds\":%.5f,"
          + "\"min_step_seconds\":%.5f,\"examples_per_second\":%.2f,\"peak_rss_mb\":%.1f,\"blas_kernel\":\"%@\",\"kernels\":\"%@\"}",
        threads,
        batch,
        length,
        median,
        seconds[0],
        Double(batch) / median,
        Double(usage.ru_maxrss) / 1024,
        BLAS.kernelName as NSString,
        String(cString: fl_variant()) as NSString
      )
    )
  }
}
