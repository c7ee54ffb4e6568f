import FedLoRAClient
import FedLoRAConfiguration
import FedLoRADP
import FedLoRAEngine
import Foundation

/// Attacks private training as it runs, and bounds its ε from below by how often the attack is right.
///
/// White-box, two worlds: a client's records without and with one canary. The attacker is the coordinator, who sees what was
/// uploaded after the steps, and knows everything but the noise and which world it is: both data sets, the start, the
/// optimizer. Every step takes all records, so that nothing hides behind sampling and the claim is that of a Gaussian
/// mechanism with μ = √steps/σ; a bound on μ contradicts it just as one on ε does.
public struct PrivacyAudit: Sendable {
  /// What an audit may be asked for.
  public struct Options: Sendable {
    /// Runs in each of the two worlds of a configuration, 20 or more.
    public var runs = 600
    /// The claimed noise in units of the clipping norm.
    public var noiseMultiplier = 1.5
    /// Noised steps of a run.
    public var steps = 2
    /// The probability with which all bounds of the table hold together.
    public var confidence = 0.95
    /// Nil takes all noise from the system; a seed repeats an audit.
    public var seed: UInt64?
    /// Runs at the same time, one thread each.
    public var concurrency = max(1, ProcessInfo.processInfo.activeProcessorCount)

    /// The defaults.
    public init() {}
  }

  /// What is reported while it runs.
  public enum Event: Sendable {
    /// So much of all runs is done, in [0, 1].
    case progress(Double)
    /// A configuration is done.
    case finished(AuditReport.Row)
  }

  private let subjects: [AuditSubject]
  private let options: Options
  /// Runs of one job on a compute thread.
  private static let runsPerJob = 10

  /// - Parameter subjects: the table's rows.
  /// - Throws: `PrivacyParameterError` for options outside their ranges.
  public init(_ subjects: [AuditSubject], options: Options) throws {
    func check(_ isGood: Bool, _ name: String, _ value: Double, _ expected: String) throws {
      guard isGood else { throw PrivacyParameterError.outOfRange(name, value, expected) }
    }
    try check(options.runs >= 20, "the number of runs", Double(options.runs), "20 or more")
    try check(options.steps >= 1, "the number of steps", Double(options.steps), "1 or more")
    let (sigma, confidence) = (options.noiseMultiplier, options.confidence)
    try check(sigma > 0 && sigma.isFinite, "the noise multiplier", sigma, "above 0 and finite")
    try check(confidence > 0 && confidence < 1, "the confidence", confidence, "above 0 and below 1")
    self.subjects = subjects
    self.options = options
  }

  /// The probability with which one bound of the table may be wrong, such that all of them hold together with the
  /// confidence (Bonferroni): a row has two bounds.
  var significance: Double { (1 - options.confidence) / Double(2 * max(1, subjects.count)) }

  /// Runs everything.
  /// - Parameter onEvent: called from several tasks.
  /// - Throws: what reading the embedded model and data throws, or `CancellationError`.
  public func run(onEvent: @escaping @Sendable (Event) -> Void = { _ in }) async throws -> AuditReport {
    let start = ContinuousClock.now
    let (sigma, steps) = (options.noiseMultiplier, options.steps)
    let preparation = try await Blocking.run { try AuditPreparation(noiseMultiplier: sigma, steps: steps) }
    let slots = EngineSlots(base: preparation.data.base, count: options.concurrency, threadsPerSlot: 1)
    var rows: [AuditReport.Row] = []
    for (number, subject) in subjects.enumerated() {
      let setting = try await setting(subject, preparation, slots)
      let total = Double(subjects.count)
      let scores = try await scores(setting, slots) { onEvent(.progress((Double(number) + $0) / total)) }
      let row = try row(setting, scores)
      onEvent(.finished(row))
      rows.append(row)
    }
    return AuditReport(
      rows: rows,
      runs: options.runs,
      steps: options.steps,
      noiseMultiplier: options.noiseMultiplier,
      delta: preparation.scenario.privacy.delta,
      confidence: options.confidence,
      significance: significance,
      isSeeded: options.seed != nil,
      seconds: (ContinuousClock.now - start).seconds
    )
  }

  private func setting(_ subject: AuditSubject, _ preparation: AuditPreparation, _ slots: EngineSlots) async throws
    -> AuditSetting
  {
    let (terms, privacy) = try preparation.terms(subject)
    return try await slots.withRunner(adapter: terms.adapter, head: terms.head) { runner in
      try preparation.setting(subject, terms, privacy, runner)
    }
  }

  /// The scores of all runs, the world without the canary first.
  private func scores(
    _ setting: AuditSetting,
    _ slots: EngineSlots,
    progress: (Double) -> Void
  ) async throws -> [[Double]] {
    let (runs, seed) = (options.runs, options.seed)
    let jobs = [false, true].flatMap { hasCanary in
      stride(from: 0, to: runs, by: PrivacyAudit.runsPerJob).map {
        (hasCanary, $0..<min($0 + PrivacyAudit.runsPerJob, runs))
      }
    }
    let flag = StopFlag()
    return try await withTaskCancellationHandler {
      try await withThrowingTaskGroup(of: (Bool, Range<Int>, [Double]).self) { group in
        for (hasCanary, range) in jobs {
          group.addTask {
            let found = try await slots.withRunner(adapter: setting.terms.adapter, head: setting.terms.head) { runner in
              try range.map { try setting.play(runner, hasCanary: hasCanary, run: $0, seed: seed, stop: flag) }
            }
            return (hasCanary, range, found)
          }
        }
        var scores = [[Double]](repeating: [Double](repeating: 0, count: runs), count: 2)
        var done = 0
        for try await (hasCanary, range, found) in group {
          scores[hasCanary ? 1 : 0].replaceSubrange(range, with: found)
          done += range.count
          progress(Double(done) / Double(2 * runs))
        }
        return scores
      }
    } onCancel: {
      flag.raise()
    }
  }

  private func row(_ setting: AuditSetting, _ scores: [[Double]]) throws -> AuditReport.Row {
    let bound = try AuditBound.twoWorlds(
      without: scores[0],
      with: scores[1],
      delta: setting.privacy.delta,
      significance: significance
    )
    return AuditReport.Row(
      name: setting.subject.name,
      isBroken: setting.subject.isBroken,
      claimed: setting.claimed,
      generalBound: bound.epsilon,
      gaussianBound: bound.gaussianEpsilon
    )
  }
}

extension AuditSetting {
  /// One run in one world, with noise of its own, and its score.
  package func play(_ runner: ModelRunner, hasCanary: Bool, run: Int, seed: UInt64?, stop: StopFlag) throws -> Double {
    let randomness =
      seed.map {
        SecretRandomness.seeded($0, context: ["audit", subject.name, hasCanary ? "with" : "without", "\(run)"])
      } ?? .system()
    var parameters = start
    try mechanism.train(
      runner,
      parameters: &parameters,
      examples: hasCanary ? records + [canary] : records,
      randomness: randomness
    ) { _ in try stop.check() }
    return score(parameters)
  }
}
