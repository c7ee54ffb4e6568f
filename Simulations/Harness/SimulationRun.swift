import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAFederation
import Foundation
import Logging

/// A whole scenario: baselines and strategies one after the other on the same clients, with a results folder.
public struct SimulationRun: Sendable {
  /// The scenario.
  public let scenario: ScenarioConfiguration
  /// The effective configuration as YAML.
  public let effectiveConfiguration: String
  /// The command that reproduces the run, for the results folder.
  public let command: String
  private let logger: Logger

  /// Takes a scenario and its text.
  public init(
    scenario: ScenarioConfiguration,
    effectiveConfiguration: String,
    command: String,
    logger: Logger = Logger(label: "fedlora.simulation") { _ in SwiftLogNoOpLogHandler() }
  ) {
    self.scenario = scenario
    self.effectiveConfiguration = effectiveConfiguration
    self.command = command
    self.logger = logger
  }

  /// Runs everything.
  /// - Parameter onEvent: called from several tasks.
  /// - Returns: the table's rows, baselines first, and the results folder.
  public func run(
    onEvent: @escaping @Sendable (SimulationEvent) -> Void = { _ in }
  ) async throws -> SimulationReport {
    let scenario = scenario
    let start = ContinuousClock.now
    let results = try ResultsFolder(
      under: URL(fileURLWithPath: scenario.output),
      name: scenario.name,
      configuration: effectiveConfiguration,
      command: command
    )
    // Reading and encoding is blocking work, so it does not run on the cooperative pool.
    let data = try await Blocking.run { try SimulationData.load(scenario) }
    let slots = EngineSlots(
      base: data.base,
      count: scenario.clients.concurrency,
      threadsPerSlot: scenario.clients.threads
    )
    let report: @Sendable (SimulationEvent) -> Void = { event in
      results.record(event)
      onEvent(event)
    }
    report(
      .loaded(
        clients: data.clients.count,
        train: data.train.count,
        test: data.test.count,
        labels: data.labels.count,
        parameters: data.base.parameterCount
      )
    )
    var rows: [ResultRow] = []
    let baselines = Baselines(scenario: scenario, data: data, slots: slots, report: report)
    for baseline in scenario.baselines {
      try Task.checkCancellation()
      rows.append(try await baselines.run(baseline))
    }
    for method in scenario.strategies.compactMap(scenario.method) {
      try Task.checkCancellation()
      let federation = SimulatedFederation(
        scenario: scenario,
        data: data,
        slots: slots,
        method: method,
        folder: results.url.appendingPathComponent(method.name),
        logger: logger,
        report: report
      )
      rows.append(try await federation.run())
    }
    let hostile = scenario.poison.names(among: data.clients.map(\.name), seed: scenario.seed)
    let summary = SimulationReport(
      scenario: scenario.name,
      rows: rows,
      clients: data.clients.map { client in
        SimulationReport.Client(
          name: client.name,
          origin: client.origin,
          trainExamples: client.train.count,
          testExamples: client.test.count,
          labelCounts: Dictionary(uniqueKeysWithValues: zip(data.labels, client.labelCounts)),
          isHostile: hostile.contains(client.name)
        )
      },
      seconds: (ContinuousClock.now - start).seconds,
      peakMemoryMegabytes: SimulationReport.peakMemoryMegabytes(),
      folder: results.url.path
    )
    try results.finish(summary)
    return summary
  }
}

/// Runs blocking work on a thread of its own.
package enum Blocking {
  package static func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      let thread = Thread { continuation.resume(with: Result(catching: body)) }
      thread.stackSize = 8 << 20
      thread.start()
    }
  }
}
