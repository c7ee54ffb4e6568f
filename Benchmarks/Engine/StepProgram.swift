import CKernels
import FedLoRAEngine
import FedLoRALinearAlgebra
import Foundation

/// Our engine's side of the benchmark, in a process of its own: makes a step for each line on standard input and answers
/// with its seconds; the end of the input asks for the report.
public struct StepProgram: Sendable {
  private let setting: StepSetting
  private let precision: BasePrecision

  /// Takes the setting and how the base is kept.
  public init(setting: StepSetting, precision: BasePrecision) {
    self.setting = setting
    self.precision = precision
  }

  /// Runs until the input ends.
  /// - Parameter began: when the process began, in seconds since 1970.
  /// - Throws: `ModelError` or `SafetensorsError`.
  public func run(began: Double) async throws {
    let base = try FrozenModel(folder: URL(fileURLWithPath: setting.model), precision: precision)
    let model = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(rank: 8, alpha: 16, targets: .suffixes(setting.targets)),
      head: setting.isCausal ? nil : ClassificationHead(labelCount: 2, pooling: .mean)
    )
    let pool = ComputePool(threadCount: setting.threads)
    defer { pool.shutDown() }
    let runner = ModelRunner(model: model, pool: pool)
    var packed = PackedBatch()
    for (row, length) in setting.sequenceLengths.enumerated() {
      let tokens = (0..<length).map { Int32(1000 + (row * 131 + $0 * 17) % 20_000) }
      if setting.isCausal {
        packed.append(tokens: tokens)
      } else {
        packed.append(tokens: tokens, tokenTypes: [Int32](repeating: 0, count: length), label: row % 2)
      }
    }
    let batch = packed
    let software =
      "fedlora, \(precision.rawValue), \(BLAS.kernelName), \(String(cString: fl_variant()))"
      + (precision != .f32 && fl_has_bf16() != 0 ? " with bf16" : "")
    try await pool.perform {
      var parameters = (0..<model.layout.count).map { Float(sin(Double($0) * 12.9898)) * 0.02 }
      var gradient = [Float](repeating: 0, count: model.layout.count)
      var optimizer = Optimizer(.defaultAdamW, layout: model.layout, trained: .all)
      func step() throws -> Double {
        let start = DispatchTime.now().uptimeNanoseconds
        _ = try runner.gradient(of: batch, parameters: parameters, trained: .all, dropoutKey: nil, into: &gradient)
        optimizer.step(&parameters, gradient: gradient, learningRate: 1e-4, headLearningRate: 1e-4)
        return Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
      }
      let ready = Date().timeIntervalSince1970 - began
      _ = try step()
      let startup = Date().timeIntervalSince1970 - began
      _ = try step()
      StepProgram.say("ready")
      while readLine() != nil { StepProgram.say("{\"seconds\":\(try step())}") }
      var usage = rusage()
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
      let report = StepReport(
        readySeconds: ready,
        startupSeconds: startup,
        peakMemoryMiB: Double(usage.ru_maxrss) / 1024,
        software: software
      )
      StepProgram.say(String(decoding: try JSONEncoder().encode(report), as: UTF8.self))
    }
  }

  /// Prints a line at once, also into a pipe.
  private static func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
}
