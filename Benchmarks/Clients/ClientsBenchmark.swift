import ArgumentParser
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAEngineBenchmark
import Foundation

/// How much of a simulation with many clients is training.
@main
struct ClientsBenchmark: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clients-benchmark",
    abstract: "Measures rounds of many clients in one process beside their local steps alone.",
    discussion: """
      A real simulation: one coordinator, clients with certificates of their own, TLS over TCP on the loopback interface, all
      state durable. Before each round, while the coordinator waits, the very same local steps run back to back on the same
      number of cores, with no federation around them: the pure compute bound is their core time over the number of cores.
      Texts are random tokens; clients differ in how long theirs are.

        clients-benchmark --clients 10 --rounds 5
        clients-benchmark --clients 1000 --cohort 100
        clients-benchmark --clients 1000 --steps 2 --batch 4 --rounds 2
      """
  )

  @Option(help: "Clients, divided by commas: one simulation each.")
  var clients = "10,100"
  @Option(help: "Clients of a round; 0 takes all.")
  var cohort = 0
  @Option(help: "Optimizer steps of a client in a round.")
  var steps = 5
  @Option(help: "Sequences of a step.")
  var batch = 8
  @Option(help: "Mean tokens of a sequence.")
  var tokens = 45
  @Option(help: "How many times as long as the shortest writer's the longest writer's texts are.")
  var spread = 3.0
  @Option(help: "Rounds, of which the first is not counted.")
  var rounds = 4
  @Option(help: "Cores that train.")
  var cores = ProcessInfo.processInfo.activeProcessorCount
  @Option(help: "clients.threads of the scenario.")
  var threads = 1
  @Option(help: "Strategy.")
  var strategy = "fedsa-lora"
  @Flag(help: "Trains with differential privacy at level record, with noise from the run's seed.")
  var privacy = false
  @Option(help: "A model folder (BERT); without it random weights of MiniLM-L6's shape.")
  var model: String?
  @Option(help: "Folder for what the runs keep; it should lie on a real disk.")
  var scratch = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-clients-benchmark").path

  func run() async throws {
    let folder: URL
    if let model {
      folder = URL(fileURLWithPath: model)
    } else {
      folder = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-shapes/minilm")
      try ModelShape.miniLM.write(to: folder)
    }
    let base = try FrozenModel(folder: folder)
    var results: [RoundsMeasured] = []
    for word in clients.split(separator: ",") {
      guard let count = Int(word), count > 0 else { throw ValidationError("--clients holds '\(word)'") }
      let crowd = BenchmarkCrowd(
        clients: count,
        cohort: cohort == 0 ? count : min(cohort, count),
        steps: steps,
        batch: batch,
        tokens: tokens,
        spread: spread,
        rounds: rounds,
        cores: cores,
        threads: threads,
        strategy: strategy,
        isPrivate: privacy
      )
      let place = URL(fileURLWithPath: scratch).appendingPathComponent(UUID().uuidString)
      defer { try? FileManager.default.removeItem(at: place) }
      results.append(try await crowd.measure(base: base, folder: place))
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    print(String(decoding: try encoder.encode(results), as: UTF8.self))
  }
}
