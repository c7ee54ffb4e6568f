import Foundation

/// What a step is made of: the same for our engine and for those beside it.
public struct StepSetting: Sendable, Equatable, Codable {
  /// Model folder.
  public var model: String
  /// Whether tokens are predicted (causal LM) rather than a class.
  public var isCausal: Bool
  /// Suffixes of the modules with an adapter.
  public var targets: [String]
  /// Sequences of a step.
  public var batch: Int
  /// Tokens of the sequences, taken in turn.
  public var lengths: [Int]
  /// Compute threads.
  public var threads: Int

  /// Takes all parts.
  public init(model: String, isCausal: Bool, targets: [String], batch: Int, lengths: [Int], threads: Int) {
    self.model = model
    self.isCausal = isCausal
    self.targets = targets
    self.batch = batch
    self.lengths = lengths
    self.threads = threads
  }

  /// Tokens of each sequence.
  public var sequenceLengths: [Int] { (0..<batch).map { lengths[$0 % max(lengths.count, 1)] } }
  /// Tokens of a step, without padding.
  public var tokens: Int { sequenceLengths.reduce(0, +) }

  /// Options of the programs that make a step for each line that they are sent.
  var arguments: [String] {
    [
      model, "--batch", "\(batch)", "--threads", "\(threads)", "--targets", targets.joined(separator: ","), "--lengths",
      lengths.map(String.init).joined(separator: ","),
    ] + (isCausal ? ["--causal"] : [])
  }
}

/// What a program says of itself when it has made its steps.
public struct StepReport: Sendable, Equatable, Codable {
  /// Seconds from the start of the process until its first step began: programs, libraries and the model are loaded.
  public var readySeconds: Double
  /// Seconds from the start of the process until its first step was done.
  public var startupSeconds: Double
  /// Largest resident memory, in MiB.
  public var peakMemoryMiB: Double
  /// Versions and kernels, for people.
  public var software: String
  enum CodingKeys: String, CodingKey {
    case readySeconds = "ready_s"
    case startupSeconds = "startup_s"
    case peakMemoryMiB = "peak_rss_mib"
    case software
  }
}
