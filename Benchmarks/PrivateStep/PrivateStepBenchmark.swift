import FedLoRAEngine
import Foundation

/// Times the step of a private round beside a plain step of the same model, batch and threads, taking turns.
///
///     private-step MODEL [--batch 32] [--length 128 | --lengths FILE] [--threads 1,2] [--steps 12]
///                        [--targets query,value] [--trained fedsvd,fedsa] [--noise 0.7] [--on-request]
///
/// A plain step is gradient and AdamW. A private step is what a client does once the records are drawn: sums set to zero,
/// clipped gradients added, Gaussian noise from the system's secret bits, division by a public constant, AdamW. LoRA has
/// r = 8 and alpha = 16; there is a linear head on the mean. `fedsvd` trains B and the head, `fedsa` A, B and the head.
/// FILE holds token counts of sequences, divided by white space and taken in turn; without it all have the same length.
///
/// Prints one JSON object a line for each setting:
///
///     engine, trained, threads, batch, tokens (in the batch), coordinates (trained elements), noise_multiplier,
///     plain_median_s, plain_best_s, private_median_s, private_best_s, noise_median_s (drawing alone),
///     ratio (median over pairs of neighbouring steps, private / plain), ratio_cpu (the same of processor time),
///     ratio_best (best / best),
///     plain_examples_per_s, private_examples_per_s (by the medians),
///     peak_rss_mb (of the process until then, so of the largest setting so far), blas_kernel, kernels
///
/// With `--on-request` a pair of steps is made for each line on standard input and answered by a line with its times, so
/// that several programs can take turns; the end of the input asks for the report.
@main struct PrivateStepBenchmark {
  static func main() async throws {
    var arguments = Array(CommandLine.arguments.dropFirst())
    func option(_ name: String, _ fallback: String) -> String {
      guard let at = arguments.firstIndex(of: "--\(name)"), at + 1 < arguments.count else { return fallback }
      defer { arguments.removeSubrange(at...(at + 1)) }
      return arguments[at + 1]
    }
    func numbers(_ text: String) -> [Int] { text.split { $0 == "," || $0.isWhitespace }.compactMap { Int($0) } }
    let isOnRequest = arguments.contains("--on-request")
    arguments.removeAll { $0 == "--on-request" }
    let batchSize = Int(option("batch", "32")) ?? 32
    let length = Int(option("length", "128")) ?? 128
    let lengthsFile = option("lengths", "")
    let threads = numbers(option("threads", "1,2"))
    let steps = max(1, Int(option("steps", "12")) ?? 12)
    let targets = option("targets", "query,value").split(separator: ",").map(String.init)
    let trained = option("trained", "fedsvd,fedsa").split(separator: ",").map(String.init)
    let noiseMultiplier = Double(option("noise", "0.7")) ?? 0.7
    guard arguments.count == 1, let folder = arguments.first else {
      FileHandle.standardError.write(
        Data("usage: private-step MODEL [--OPTION VALUE]...; see the file's comment\n".utf8)
      )
      exit(64)
    }
    let lengths = lengthsFile.isEmpty ? [length] : numbers(try String(contentsOfFile: lengthsFile, encoding: .utf8))
    let base = try FrozenModel(folder: URL(fileURLWithPath: folder))
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 8, alpha: 16, targets: .suffixes(targets)),
      head: ClassificationHead(labelCount: 2, pooling: .mean)
    )
    let batch = makeBatch(batchSize, lengths: lengths.isEmpty ? [length] : lengths)
    for count in threads {
      for name in trained {
        let comparison = StepComparison(
          model: model,
          batch: batch,
          trained: name == "fedsa" ? .all : [.loraB, .head],
          threads: count,
          noiseMultiplier: noiseMultiplier,
          report: { plain, secret in
            guard isOnRequest else { return }
            say(
              "{\"plain_s\":\(plain.wall),\"plain_cpu_s\":\(plain.processor),"
                + "\"private_s\":\(secret.wall),\"private_cpu_s\":\(secret.processor)}"
            )
          }
        )
        let report = try await comparison.measure { step in
          guard isOnRequest else { return step < steps }
          if step == 0 { say("ready") }
          return readLine() != nil
        }
        say(try report.json(name: name))
      }
    }
  }

  /// Prints a line at once, also into a pipe.
  private static func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

  /// Sequences of made-up tokens.
  private static func makeBatch(_ count: Int, lengths: [Int]) -> PackedBatch {
    var batch = PackedBatch()
    for row in 0..<count {
      let length = lengths[row % lengths.count]
      batch.append(
        tokens: (0..<length).map { Int32(1000 + (row * 131 + $0 * 17) % 20_000) },
        tokenTypes: [Int32](repeating: 0, count: length),
        label: row % 2
      )
    }
    return batch
  }
}
