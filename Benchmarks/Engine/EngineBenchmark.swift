import FedLoRAEngine
import Foundation

/// Our training step beside PyTorch's, in turns on the same machine: every program waits in a process of its own while the
/// others work, so what else the machine does falls on all alike, and each has its own peak memory.
public struct EngineBenchmark: Sendable {
  /// A way to make the step.
  public enum Way: Sendable, Equatable {
    /// Our engine with the base in a precision.
    case own(BasePrecision)
    /// PyTorch and PEFT with a choice of kernels, as Benchmarks/pytorch_step.py names them.
    case pytorch(kernels: String)

    /// How it is called in tables.
    public var name: String {
      switch self {
      case .own(let precision): "fedlora \(precision.rawValue)"
      case .pytorch(let kernels): "PyTorch \(kernels)"
      }
    }
  }

  /// What one way did in one setting.
  public struct Outcome: Sendable, Encodable {
    /// The way's name.
    public let name: String
    /// Median seconds of a step.
    public let medianSeconds: Double
    /// Sequences a second, by the median step.
    public let examplesPerSecond: Double
    /// How many times as fast our float32 step is: the median over turns; nil for our own.
    public let ownIsFasterBy: Double?
    /// Start-up until the first step is done, memory, versions.
    public let report: StepReport
    enum CodingKeys: String, CodingKey {
      case name
      case medianSeconds = "median_step_s"
      case examplesPerSecond = "examples_per_s"
      case ownIsFasterBy = "own_is_faster_by"
      case report
    }
  }

  /// All ways in one setting; the first is ours in float32.
  public struct Row: Sendable, Encodable {
    /// The model's name.
    public let model: String
    /// The setting.
    public let setting: StepSetting
    /// What each way did.
    public let outcomes: [Outcome]
  }

  /// The program that is our own side, with the arguments before the setting.
  public let ownCommand: [String]
  /// Python and the script of the other side.
  public let pytorchCommand: [String]
  /// Steps that each way makes.
  public let turns: Int

  /// Takes the commands and the number of steps.
  public init(ownCommand: [String], pytorchCommand: [String], turns: Int) {
    self.ownCommand = ownCommand
    self.pytorchCommand = pytorchCommand
    self.turns = turns
  }

  /// Measures one setting. Blocks until all is done.
  /// - Parameters:
  ///   - ways: the first is what the others are compared with.
  ///   - progress: told what is being done.
  /// - Throws: where a program cannot be started or ends early.
  public func measure(_ model: String, _ setting: StepSetting, _ ways: [Way], progress: (String) -> Void) throws -> Row
  {
    // An older BLAS kernel may be pinned by the environment; a benchmark measures the one that fits the processor.
    var environment = ProcessInfo.processInfo.environment
    environment["OPENBLAS_CORETYPE"] = nil
    var processes: [SteppingProcess] = []
    for way in ways {
      progress("starting \(way.name)")
      processes.append(
        try SteppingProcess(name: way.name, command: command(way, setting), environment: environment)
      )
    }
    for turn in 1...max(1, turns) {
      progress("turn \(turn) of \(turns)")
      for process in processes { try process.step() }
    }
    let reference = processes.first?.seconds ?? []
    let outcomes = try processes.enumerated().map { index, process in
      let median = EngineBenchmark.median(process.seconds)
      return Outcome(
        name: process.name,
        medianSeconds: median,
        examplesPerSecond: Double(setting.batch) / median,
        ownIsFasterBy: index == 0 ? nil : EngineBenchmark.median(zip(process.seconds, reference).map { $0 / $1 }),
        report: try process.finish()
      )
    }
    return Row(model: model, setting: setting, outcomes: outcomes)
  }

  private func command(_ way: Way, _ setting: StepSetting) -> [String] {
    switch way {
    case .own(let precision): ownCommand + setting.arguments + ["--precision", precision.rawValue]
    case .pytorch(let kernels): pytorchCommand + setting.arguments + ["--kernels", kernels]
    }
  }

  static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    guard !sorted.isEmpty else { return .nan }
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
