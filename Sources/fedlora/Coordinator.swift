import ArgumentParser
import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRACoordinator
import FedLoRAEngine
import FedLoRAObservability
import FedLoRAProtocol
import Foundation
import Logging

/// `fedlora coordinator RUN.yaml`.
struct Coordinator: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Open a run and serve it over mutual TLS.",
    discussion: """
      The run file names base model, classes, strategy, rounds and cohort; every key has a default
      (fedlora coordinator --print-config shows them all). Clients join with fedlora client.

        fedlora ca init my-ca
        fedlora coordinator run.yaml --set listen.host=0.0.0.0 --set enrolment.ca=my-ca
        fedlora coordinator run.yaml --set metrics.port=9464 --log-format json
      """
  )

  @Argument(help: "The run file (YAML).")
  var run: String?
  @Option(name: .customLong("set"), help: "Change one key: rounds=20. May be repeated.")
  var assignments: [String] = []
  @Flag(help: "Print the effective configuration and stop.")
  var printConfig = false
  @OptionGroup var log: LogOptions
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let configuration: RunConfiguration
    let effective: String
    if let run {
      (configuration, effective) = try RunConfiguration.load(URL(fileURLWithPath: run), assignments: assignments)
    } else if printConfig {
      return Output.write(RunConfiguration.defaults)
    } else {
      throw ValidationError("Missing expected argument '<run>': the run file")
    }
    if printConfig { return Output.write(effective.trimmingCharacters(in: .newlines)) }
    let logger = log.logger("fedlora.coordinator", run: configuration.name)
    let base = try FrozenModel(folder: URL(fileURLWithPath: configuration.model.path))
    let definition = try RunDefinition(configuration, base: base)
    let identity = try TLSIdentity.load(from: URL(fileURLWithPath: configuration.identity))
    CoordinatorProcess.prepare()
    let (progress, isJSON) = (Progress(), log.isJSON)
    progress.begin(configuration.name, rounds: configuration.rounds)
    let registry = PrometheusRegistry(CoordinatorMetric.descriptions + ProcessMetrics.descriptions)
    let server = try await CoordinatorServer.start(
      manifest: definition.manifest,
      initialState: definition.initialState,
      directory: URL(fileURLWithPath: configuration.directory),
      identity: identity,
      identityFolder: URL(fileURLWithPath: configuration.identity),
      host: configuration.listen.host,
      port: configuration.listen.port,
      configuration: configuration.limits.transport,
      logger: logger,
      metrics: registry
    ) { if !isJSON { progress.show($0) } }
    progress.line(
      "serving run '\(configuration.name)' on \(configuration.listen.host):\(server.port); waiting for "
        + "\(configuration.cohort.minClients) clients"
    )
    let enrolment = try await enrolment(configuration, progress)
    let metrics = try await metrics(configuration, registry, server, logger, progress)
    let result = try await Interrupt.cancelling(
      notice: "stopping; run the same command again to resume from \(configuration.directory)"
    ) {
      // Whoever comes to be enrolled can join the run while it is served.
      async let _: Void? = enrolment?.run()
      defer { enrolment?.shutdown() }
      return try await server.run()
    }
    await metrics?.close()
    try finish(result, configuration, definition, base)
  }

  /// Shows metrics, where the run file says so.
  private func metrics(
    _ configuration: RunConfiguration,
    _ registry: PrometheusRegistry,
    _ coordinator: CoordinatorServer,
    _ logger: Logger,
    _ progress: Progress
  ) async throws -> MetricsServer? {
    guard configuration.metrics.port != 0 else { return nil }
    let process = ProcessMetrics(registry)
    let host = configuration.metrics.host
    let server = try await MetricsServer.bind(
      host: host,
      port: configuration.metrics.port,
      logger: logger,
      routes: coordinator.metricsRoutes(registry) { process.sample() }
    )
    let name = host.contains(":") ? "[\(host)]" : host
    progress.line("metrics on http://\(name):\(server.port)/metrics")
    return server
  }

  /// Listens for participants without a certificate, where the run file says so.
  private func enrolment(_ configuration: RunConfiguration, _ progress: Progress) async throws -> EnrolmentServer? {
    guard !configuration.enrolment.ca.isEmpty else { return nil }
    let host = configuration.listen.host
    let server = try await EnrolmentServer.bind(
      AuthorityFolder.open(URL(fileURLWithPath: configuration.enrolment.ca)),
      host: host,
      port: configuration.enrolment.port,
      logger: log.logger("fedlora.enrolment", level: .notice)
    )
    progress.line("serving enrolment for \(configuration.enrolment.ca) on \(host):\(server.port)")
    return server
  }

  private func finish(
    _ result: CoordinatorResult,
    _ configuration: RunConfiguration,
    _ definition: RunDefinition,
    _ base: FrozenModel
  ) throws {
    let folder = URL(fileURLWithPath: configuration.directory).appendingPathComponent("adapter")
    switch result.outcome {
    case .completed: break
    case .failed(let reason): throw CommandFailure(status: .runFailed, description: "the run failed: \(reason)")
    // The state after the last committed round stands.
    case .budgetSpent(let reason): Output.note("the run ended early: \(reason)")
    case .stopped(let reason): throw CommandFailure(status: .runFailed, description: "the run was stopped: \(reason)")
    }
    let terms = try RunTerms(definition.manifest)
    // What no client shares (a personal B, say) stands at its common start.
    let adapted = try AdaptedModel(base: base, adapter: terms.adapter, head: terms.head)
    let start = try AdapterInitialisation.parameters(of: adapted, seed: definition.manifest.seed)
    let adapter = PEFTAdapterFolder(
      configuration: terms.adapter.peft(
        baseModel: configuration.model.path,
        spec: base.spec,
        task: terms.task,
        pooling: terms.head?.pooling
      ),
      tensors: adapted.layout.tensors(from: start).merging(result.finalState).merging(adapted.frozenAdapterTensors)
    )
    try adapter.write(to: folder)
    struct Summary: Encodable {
      let run: String
      let rounds: Int
      let bytes_sent: Int
      let bytes_received: Int
      let adapter: String
    }
    let summary = Summary(
      run: configuration.name,
      rounds: result.roundsCommitted,
      bytes_sent: result.traffic.sent,
      bytes_received: result.traffic.received,
      adapter: folder.path
    )
    if format == .json { return try Output.printJSON(summary) }
    Output.write(
      "run '\(summary.run)' completed after \(summary.rounds) rounds; sent \(summary.bytes_sent) and received "
        + "\(summary.bytes_received) bytes; shared adapter (PEFT): \(summary.adapter)"
    )
  }
}
