import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAObservability
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: what operators see", .timeLimit(.minutes(2)), .serialized)
struct ObservedCommandTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  /// A run of the embedded encoder that waits for clients.
  private func prepare() async throws {
    let (scenario, _) = try ScenarioConfiguration.load(nil, assignments: ["overrides={}"])
    let data = try SimulationData.load(scenario)
    let encoder = try EmbeddedAssets.encoder.path
    var yaml = try LayeredYAML(defaults: RunConfiguration.defaults)
    for assignment in [
      "name=watched", "labels=[\(data.labels.joined(separator: ", "))]", "model.path='\(encoder)'",
      "model.max_length=\(scenario.model.maxLength)", "model.pooling=\(scenario.model.pooling.rawValue)",
      "listen.port=0",
    ] { try yaml.set(assignment) }
    try Data(yaml.text().utf8).write(to: scratch.appending("run.yaml"))
    #expect(try await Program.run(["ca", "init", "ca"], in: scratch.url).status == 0)
  }

  @Test("metrics and health over HTTP, a log of JSON lines and nothing else, and the event log while it grows")
  func watched() async throws {
    try await prepare()
    // A port that was free just now.
    let probe = try await MetricsServer.bind(host: "127.0.0.1", port: 0, routes: [:])
    let port = probe.port
    let taken = try await Program.run(
      ["coordinator", "run.yaml", "--set", "metrics.port=\(port)", "--format", "json"],
      in: scratch.url
    )
    #expect(taken.status == 69 && taken.errors.contains("metrics cannot be served on 127.0.0.1:\(port)"))
    await probe.close()
    let bad = try await Program.run(["coordinator", "run.yaml", "--set", "metrics.port=70000"], in: scratch.url)
    #expect(bad.status == 65 && bad.errors.contains("metrics.port"), "\(bad.errors)")

    let coordinator = try Program(
      ["coordinator", "run.yaml", "--set", "metrics.port=\(port)", "--format", "json", "--log-format", "json"],
      in: scratch.url
    )
    defer { coordinator.cleanUp() }
    try await coordinator.line("metrics on http://127.0.0.1:\(port)/metrics")
    let follower = try Program(["log", "run", "--follow"], in: scratch.url)
    defer { follower.cleanUp() }
    let scrape = try Scrape(try await HTTPProbe.get("/metrics", port: port).body)
    #expect(scrape["fedlora_run_over"] == 0 && scrape["fedlora_clients_ready"] == 0)
    #expect(try #require(scrape["process_resident_memory_bytes"]) > 1_000_000)
    #expect(try await HTTPProbe.get("/healthz", port: port).status == 200)
    #expect(!follower.hasEnded)
    #expect(try await Program.run(["abort", "run.yaml"], in: scratch.url).status == 0)
    #expect(try await coordinator.end().status == 75)
    for line in coordinator.errors.events {
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      let metadata = try #require(object?["metadata"] as? [String: Any], "\(line)")
      #expect(metadata["run"] as? String == "watched", "\(line)")
      #expect(object?["time"] != nil && object?["level"] != nil && object?["label"] != nil)
    }
    #expect(coordinator.errors.events.contains { $0.contains("\"level\":\"error\"") && $0.contains("the run failed") })
    // It ends by itself, with what was added after it began.
    let told = String(decoding: try await follower.end().output, as: UTF8.self).split(separator: "\n")
    #expect(told.first?.contains("coordinator-started") == true)
    #expect(told.last?.contains("finished") == true, "\(told)")
  }

  @Test("levels and formats that there are not, are wrong usage")
  func badOptions() async throws {
    for options in [["--log-level", "loud"], ["--log-format", "xml"]] {
      for verb in [["coordinator", "run.yaml"], ["resume", "run.yaml"], ["client"]] {
        #expect(try await Program.run(verb + options, in: scratch.url).status == 64)
      }
    }
  }
}
