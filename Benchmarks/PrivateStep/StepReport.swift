import CKernels
import FedLoRAEngine
import FedLoRALinearAlgebra
import Foundation

/// What a setting's times say, as one line of JSON.
struct StepReport {
  let comparison: StepComparison
  let coordinates: Int
  let times: StepComparison.Times

  private struct Line: Encodable {
    let engine = "fedlora"
    let trained: String
    let threads: Int
    let batch: Int
    let tokens: Int
    let coordinates: Int
    let noise_multiplier: Double
    let plain_median_s: Double
    let plain_best_s: Double
    let private_median_s: Double
    let private_best_s: Double
    let noise_median_s: Double
    let ratio: Double
    let ratio_cpu: Double
    let ratio_best: Double
    let plain_examples_per_s: Double
    let private_examples_per_s: Double
    let peak_rss_mb: Double
    let blas_kernel: String
    let kernels: String
  }

  func json(name: String) throws -> String {
    let (plain, secret) = (Self.median(times.plain.map(\.wall)), Self.median(times.secret.map(\.wall)))
    let plainBest = times.plain.map(\.wall).min() ?? .nan
    let secretBest = times.secret.map(\.wall).min() ?? .nan
    let count = Double(comparison.batch.count)
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let line = Line(
      trained: name,
      threads: comparison.threads,
      batch: comparison.batch.count,
      tokens: comparison.batch.tokens.count,
      coordinates: coordinates,
      noise_multiplier: comparison.noiseMultiplier,
      plain_median_s: plain,
      plain_best_s: plainBest,
      private_median_s: secret,
      private_best_s: secretBest,
      noise_median_s: Self.median(times.noise),
      ratio: Self.median(zip(times.secret, times.plain).map { $0.wall / $1.wall }),
      ratio_cpu: Self.median(zip(times.secret, times.plain).map { $0.processor / $1.processor }),
      ratio_best: secretBest / plainBest,
      plain_examples_per_s: count / plain,
      private_examples_per_s: count / secret,
      peak_rss_mb: Double(usage.ru_maxrss) / 1024,
      blas_kernel: BLAS.kernelName,
      kernels: String(cString: fl_variant())
    )
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return String(decoding: try encoder.encode(line), as: UTF8.self)
  }

  private static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return .nan }
    let half = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2
  }
}
