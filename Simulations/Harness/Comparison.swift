import Crypto
import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import Foundation
import Logging

/// Plays every method of a scenario at every ε, under every attack, with every seed, and keeps each result in a file of its own, so that a
/// comparison that was stopped goes on where it was.
///
/// Methods are paired: with one seed all have the same partition, start, cohorts and batches. Where learning rates are
/// tuned, each method and ε tries factors on a seed of its own first.
public struct Comparison: Sendable {
  /// The scenario.
  public let scenario: ScenarioConfiguration
  private let logger: Logger
  private let folder: URL

  /// One run of one method.
  struct Cell: Sendable, Equatable {
    let method: String
    /// Nil takes the scenario's own privacy section; 0 is without privacy.
    let epsilon: Double?
    /// Nil takes the scenario's own section of hostile clients; `none` is without.
    var attack: String?
    let seed: UInt64
    let factor: Double
    let isTuning: Bool

    var name: String {
      let privacy = epsilon.map { $0 == 0 ? "-none" : "-eps\(Comparison.short($0))" } ?? ""
      let hostile = attack.map { $0 == "none" ? "-honest" : "-\($0)" } ?? ""
      let tuning = isTuning ? "-tuning\(Comparison.short(factor))" : ""
      return "\(method)\(privacy)\(hostile)-seed\(seed)\(tuning)"
    }
  }

  /// A cell's file: what was played, and what came out.
  struct Result: Codable {
    let terms: String
    let factor: Double
    let row: ResultRow
  }

  /// Results go to `OUTPUT/NAME-compare`, the same folder every time.
  public init(
    scenario: ScenarioConfiguration,
    logger: Logger = Logger(label: "fedlora.comparison") { _ in SwiftLogNoOpLogHandler() }
  ) {
    self.scenario = scenario
    self.logger = logger
    folder = URL(fileURLWithPath: scenario.output).appendingPathComponent("\(scenario.name)-compare")
  }

  /// Runs what has no result yet; the table of what is done so far is always in `comparison.txt`.
  /// - Parameter onEvent: called from several tasks.
  public func run(onEvent: @escaping @Sendable (SimulationEvent) -> Void = { _ in }) async throws -> ComparisonReport {
    try FileManager.default.createDirectory(
      at: folder.appendingPathComponent("cells"),
      withIntermediateDirectories: true
    )
    var player = CellPlayer(scenario: scenario, folder: folder, logger: logger, report: onEvent)
    let epsilons: [Double?] = scenario.compare.epsilons.isEmpty ? [nil] : scenario.compare.epsilons
    let attacks: [String?] = scenario.compare.attacks.isEmpty ? [nil] : scenario.compare.attacks
    var factors: [String: Double] = [:]
    let isTuned = scenario.compare.tuningFactors.count > 1
    var total = epsilons.count * attacks.count * scenario.strategies.count * scenario.compare.seeds.count
    if isTuned { total += epsilons.count * scenario.strategies.count * scenario.compare.tuningFactors.count }
    player.total = total
    if isTuned {
      for epsilon in epsilons {
        for method in scenario.strategies {
          factors[key(method, epsilon)] = try await tune(method, epsilon, &player)
        }
      }
    }
    var results: [ComparisonReport.Run] = []
    var report = ComparisonReport(scenario: scenario.name, runs: [], folder: folder.path)
    for seed in scenario.compare.seeds {
      for epsilon in epsilons {
        for attack in attacks {
          for method in scenario.strategies {
            let factor = factors[key(method, epsilon)] ?? 1
            let cell = Cell(
              method: method,
              epsilon: epsilon,
              attack: attack,
              seed: seed,
              factor: factor,
              isTuning: false
            )
            let row = try await player.play(cell)
            results.append(
              .init(method: method, epsilon: epsilon, attack: attack, seed: seed, factor: factor, row: row)
            )
            // Hours may lie between the first cell and the last: what is known so far can be read at any time.
            report = try write(results)
          }
        }
      }
    }
    return report
  }

  /// `comparison.json` and `comparison.txt` of the runs that are done.
  private func write(_ runs: [ComparisonReport.Run]) throws -> ComparisonReport {
    let report = ComparisonReport(scenario: scenario.name, runs: runs, folder: folder.path)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try DurableFile.write(try encoder.encode(report), to: folder.appendingPathComponent("comparison.json"))
    let tables = [report.table, report.measuresTable].compactMap { $0 }.joined(separator: "\n\n")
    try DurableFile.write(Data((tables + "\n").utf8), to: folder.appendingPathComponent("comparison.txt"))
    return report
  }

  /// The factor whose tuning run, without hostile clients where the comparison chooses them, ends with the best mean accuracy, or perplexity,
  /// over clients; the smallest among equals.
  private func tune(_ method: String, _ epsilon: Double?, _ player: inout CellPlayer) async throws -> Double {
    var best: (factor: Double, merit: Double)?
    for factor in scenario.compare.tuningFactors.sorted() {
      let cell = Cell(
        method: method,
        epsilon: epsilon,
        attack: scenario.compare.attacks.isEmpty ? nil : "none",
        seed: scenario.compare.tuningSeed,
        factor: factor,
        isTuning: true
      )
      let merit = try await player.play(cell).merit ?? -.infinity
      if best.map({ merit > $0.merit }) ?? true { best = (factor, merit) }
    }
    return best?.factor ?? 1
  }

  private func key(_ method: String, _ epsilon: Double?) -> String { "\(method)/\(epsilon ?? -1)" }

  static func short(_ value: Double) -> String { String(format: "%g", value) }
}

/// Plays cells one after the other; data of a seed are read once while the seed stays the same.
struct CellPlayer {
  let scenario: ScenarioConfiguration
  let folder: URL
  let logger: Logger
  let report: @Sendable (SimulationEvent) -> Void
  var total = 0
  private var done = 0
  private var loaded: (seed: UInt64, data: SimulationData, slots: EngineSlots)?

  init(
    scenario: ScenarioConfiguration,
    folder: URL,
    logger: Logger,
    report: @escaping @Sendable (SimulationEvent) -> Void
  ) {
    self.scenario = scenario
    self.folder = folder
    self.logger = logger
    self.report = report
  }

  /// The cell's result, from its file where the same terms were played before.
  mutating func play(_ cell: Comparison.Cell) async throws -> ResultRow {
    try Task.checkCancellation()
    done += 1
    let (own, method) = try terms(of: cell)
    let file = folder.appendingPathComponent("cells/\(cell.name).json")
    let hash = try CellPlayer.hash(own, method)
    if let data = try? Data(contentsOf: file),
      let known = try? JSONDecoder().decode(Comparison.Result.self, from: data),
      known.terms == hash
    {
      return known.row
    }
    let (data, slots) = try await load(own)
    let work = folder.appendingPathComponent("work/\(cell.name)")
    // What a killed process left is not resumed: clients, coordinator and certificates begin anew.
    try? FileManager.default.removeItem(at: work)
    report(.cell(name: cell.name, number: done, of: total))
    let federation = SimulatedFederation(
      scenario: own,
      data: data,
      slots: slots,
      method: method,
      folder: work,
      logger: logger,
      report: report
    )
    let row = try await federation.run()
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let result = Comparison.Result(terms: hash, factor: cell.factor, row: row)
    try DurableFile.write(try encoder.encode(result), to: file)
    try? FileManager.default.removeItem(at: work)
    return row
  }

  private func terms(of cell: Comparison.Cell) throws -> (ScenarioConfiguration, ScenarioConfiguration.Method) {
    var own = scenario
    own.seed = cell.seed
    guard var method = own.method(cell.method) else {
      throw ConfigurationError(source: scenario.name, key: "strategies", reason: "has no method '\(cell.method)'")
    }
    if let epsilon = cell.epsilon {
      method.privacy.epsilon = epsilon
      method.privacy.noiseMultiplier = 0
      if epsilon == 0 {
        method.privacy.level = .none
      } else if method.privacy.level == .none {
        method.privacy.level = .record
      }
    }
    switch cell.attack {
    case nil: break
    case "none"?: own.poison.clients = 0
    case let attack?:
      guard let known = PoisonSection.Attack(rawValue: attack) else {
        throw ConfigurationError(source: scenario.name, key: "compare.attacks", reason: "names no attack '\(attack)'")
      }
      own.poison.attack = known
    }
    if cell.isTuning, own.compare.tuningRounds > 0 {
      // A shorter run would be calibrated to less noise; a rate is to be chosen under that of the runs it is for.
      if let noise = try own.calibratedNoise(of: method) {
        method.privacy.noiseMultiplier = noise
        method.privacy.epsilon = 0
      }
      own.rounds = min(own.rounds, own.compare.tuningRounds)
    }
    method.training.learningRate *= cell.factor
    method.training.headLearningRate *= cell.factor
    return (own, method)
  }

  /// Everything that decides a cell's outcome, so that a changed scenario plays its cells again.
  private static func hash(_ own: ScenarioConfiguration, _ method: ScenarioConfiguration.Method) throws -> String {
    struct Terms: Encodable {
      let seed: UInt64
      let rounds: Int
      let model: ModelSection
      let data: ScenarioConfiguration.DataSection
      let clients: ScenarioConfiguration.ClientsSection
      let cohort: CohortSection
      let strategy: StrategySection
      let adapter: AdapterSection
      let training: TrainingSection
      let privacy: PrivacySection
      // Nil where there is nothing of the kind, so that results from before they existed are still known.
      let aggregation: AggregationSection?
      let poison: PoisonSection?
      let evaluation: EvaluationSection?
    }
    var clients = own.clients
    // How many train at a time changes nothing but the time.
    clients.concurrency = 1
    clients.threads = 1
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let bytes = try encoder.encode(
      Terms(
        seed: own.seed,
        rounds: own.rounds,
        model: own.model,
        data: own.data,
        clients: clients,
        cohort: own.cohort,
        strategy: method.strategy,
        adapter: method.adapter,
        training: method.training,
        privacy: method.privacy,
        aggregation: method.aggregation == .mean ? nil : method.aggregation,
        poison: own.poison.clients == 0 ? nil : own.poison,
        evaluation: own.evaluation == .standard ? nil : own.evaluation
      )
    )
    return SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
  }

  private mutating func load(_ own: ScenarioConfiguration) async throws -> (SimulationData, EngineSlots) {
    if let loaded, loaded.seed == own.seed { return (loaded.data, loaded.slots) }
    loaded = nil
    let data = try await Blocking.run { try SimulationData.load(own) }
    let slots = EngineSlots(
      base: data.base,
      count: own.clients.concurrency,
      threadsPerSlot: own.clients.threads
    )
    loaded = (own.seed, data, slots)
    report(
      .loaded(
        clients: data.clients.count,
        train: data.train.count,
        test: data.test.count,
        labels: data.labels.count,
        parameters: data.base.parameterCount
      )
    )
    return (data, slots)
  }
}
