import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: processes of their own", .timeLimit(.minutes(4)), .serialized)
struct EndToEndTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private static let names = ["client-1", "client-2", "client-3"]

  /// A project on disk: authority, run file and one data file for each client, split as the simulation splits.
  private struct Deployment {
    let folder: URL
    let encoder: String
    let labels: String
    let maxLength: Int

    func coordinator(port: Int = 0) throws -> Program {
      try Program(
        ["coordinator", "run.yaml", "--set", "listen.port=\(port)", "--format", "json"],
        in: folder
      )
    }

    func client(_ name: String, port: Int) throws -> Program {
      try Program(
        [
          "client", "--server", "127.0.0.1:\(port)", "--identity", "ca/participants/\(name)", "--model", encoder,
          "--data",
          "\(name).tsv", "--labels", labels, "--state", "state-\(name)", "--max-length", "\(maxLength)", "--format",
          "json",
        ],
        in: folder
      )
    }

    func bytes(_ path: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(path)) }
  }

  /// Keys that simulation and run file share.
  private func shared(rounds: Int, steps: Int, quorum: Int) -> [String] {
    [
      "seed=11", "rounds=\(rounds)", "training.local_steps=\(steps)", "training.batch_size=8", "adapter.rank=4",
      "cohort.min_clients=3", "cohort.clients_per_round=3", "cohort.quorum=\(quorum)", "cohort.deadline_seconds=60",
    ]
  }

  private func scenario(_ strategy: String, _ assignments: [String]) throws -> (ScenarioConfiguration, String) {
    try ScenarioConfiguration.load(
      nil,
      assignments: assignments + [
        "name=twin", "output='\(scratch.url.path)/simulated'", "clients.count=3", "baselines=[]", "overrides={}",
        "strategies=[\(strategy)]",
      ]
    )
  }

  private func deploy(_ strategy: String, _ assignments: [String]) async throws -> Deployment {
    let (scenario, _) = try scenario(strategy, assignments)
    let data = try SimulationData.load(scenario)
    let folder = scratch.appending("project")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let lines = try String(contentsOf: EmbeddedAssets.train, encoding: .utf8).split(separator: "\n")
    for client in data.clients {
      let own = [lines[0]] + client.trainIndices.map { lines[$0 + 1] }
      try Data((own.joined(separator: "\n") + "\n").utf8).write(to: folder.appendingPathComponent("\(client.name).tsv"))
    }
    #expect(data.clients.map(\.name) == Self.names)
    let encoder = try EmbeddedAssets.encoder.path
    var yaml = try LayeredYAML(defaults: RunConfiguration.defaults)
    for assignment in assignments + [
      "name=e2e", "strategy.name=\(strategy)", "labels=[\(data.labels.joined(separator: ", "))]",
      "model.path='\(encoder)'",
      "model.max_length=\(scenario.model.maxLength)", "model.pooling=\(scenario.model.pooling.rawValue)",
    ] { try yaml.set(assignment) }
    try Data(yaml.text().utf8).write(to: folder.appendingPathComponent("run.yaml"))
    #expect(try await Program.run(["ca", "init", "ca"], in: folder).status == 0)
    for name in Self.names { #expect(try await Program.run(["ca", "issue", name], in: folder).status == 0) }
    return Deployment(
      folder: folder,
      encoder: encoder,
      labels: data.labels.joined(separator: ","),
      maxLength: min(scenario.model.maxLength, data.base.spec.maximumPositions)
    )
  }

  private func simulate(_ strategy: String, _ assignments: [String]) async throws -> URL {
    let (scenario, text) = try scenario(strategy, assignments)
    let report = try await SimulationRun(scenario: scenario, effectiveConfiguration: text, command: "").run()
    return URL(fileURLWithPath: report.folder).appendingPathComponent(strategy)
  }

  private func port(of coordinator: Program) async throws -> Int {
    let line = try await coordinator.line("serving run")
    let address = try #require(line.split(separator: " ").first { $0.hasPrefix("127.0.0.1:") })
    return try #require(Int(address.dropFirst("127.0.0.1:".count).prefix { $0.isNumber }))
  }

  private func expectSuccess(_ program: Program) async throws -> [String: Any] {
    let (status, output) = try await program.end()
    #expect(status == 0, "\(program.errors.events.suffix(5))")
    let json = try envelope(output)
    #expect(json["status"] as? String == "ok")
    return try #require(json["data"] as? [String: Any])
  }

  private func expectSameBytes(_ deployment: Deployment, _ strategy: String, simulated: URL, rounds: Int) throws {
    let file = "adapter_model.safetensors"
    for name in Self.names {
      let twin = strategy == "fedsvd" ? "global" : name
      let wanted = try Data(contentsOf: simulated.appendingPathComponent("adapters/\(twin)/\(file)"))
      let isSame = try deployment.bytes("state-\(name)/adapter/\(file)") == wanted
      #expect(isSame, "\(name)")
    }
    if strategy == "fedsvd" {
      let isSame =
        try deployment.bytes("run/adapter/\(file)")
        == Data(contentsOf: simulated.appendingPathComponent("adapters/global/\(file)"))
      #expect(isSame, "the coordinator's adapter")
    }
    for round in 0...rounds {
      let state = "state/round-00000\(round).safetensors"
      let isSame =
        try deployment.bytes("run/\(state)")
        == Data(contentsOf: simulated.appendingPathComponent("coordinator/\(state)"))
      #expect(isSame, "round \(round)")
    }
  }

  @Test("give the same bytes as the simulation", arguments: ["fedsa-lora", "fedsvd"])
  func sameBytes(strategy: String) async throws {
    let keys = shared(rounds: 2, steps: 3, quorum: 3)
    let deployment = try await deploy(strategy, keys)
    let coordinator = try deployment.coordinator()
    defer { coordinator.cleanUp() }
    let port = try await port(of: coordinator)
    let clients = try Self.names.map { try deployment.client($0, port: port) }
    defer { for client in clients { client.cleanUp() } }
    for client in clients {
      let summary = try await expectSuccess(client)
      #expect(summary["rounds_trained"] as? Int == 2)
      #expect(summary["run"] as? String == "e2e")
    }
    let summary = try await expectSuccess(coordinator)
    #expect(summary["rounds"] as? Int == 2)
    try expectSameBytes(deployment, strategy, simulated: try await simulate(strategy, keys), rounds: 2)
  }

  @Test("finish a round without a client that was killed in it, and take it back when it is started again")
  func killedClient() async throws {
    let deployment = try await deploy("fedsvd", shared(rounds: 4, steps: 40, quorum: 2))
    let coordinator = try deployment.coordinator()
    defer { coordinator.cleanUp() }
    let port = try await port(of: coordinator)
    let clients = try Self.names.map { try deployment.client($0, port: port) }
    defer { for client in clients { client.cleanUp() } }
    try await clients[1].line("round 2: training")
    clients[1].kill()
    #expect(try await clients[1].end().status == -9)
    let line = try await coordinator.line("round 2/4")
    #expect(line.contains("2 updates") && line.contains("1 lost"), "\(line)")
    let again = try deployment.client("client-2", port: port)
    defer { again.cleanUp() }
    try await again.line("joined run 'e2e'")
    for client in [clients[0], again, clients[2]] { _ = try await expectSuccess(client) }
    #expect(try await expectSuccess(coordinator)["rounds"] as? Int == 4)
    let adapters = try Self.names.map { try deployment.bytes("state-\($0)/adapter/adapter_model.safetensors") }
    #expect(Set(adapters).count == 1)
  }

  @Test("give the same bytes although coordinator and one client were killed")
  func killedCoordinator() async throws {
    let keys = shared(rounds: 3, steps: 20, quorum: 3)
    let deployment = try await deploy("fedsa-lora", keys)
    let first = try deployment.coordinator()
    defer { first.cleanUp() }
    let port = try await port(of: first)
    let clients = try Self.names.map { try deployment.client($0, port: port) }
    defer { for client in clients { client.cleanUp() } }
    try await first.line("round 1/3")
    try await clients[0].line("round 2: training")
    first.kill()
    clients[2].kill()
    #expect(try await first.end().status == -9)
    #expect(try await clients[2].end().status == -9)
    let second = try deployment.coordinator(port: port)
    defer { second.cleanUp() }
    let again = try deployment.client("client-3", port: port)
    defer { again.cleanUp() }
    for client in [clients[0], clients[1], again] { _ = try await expectSuccess(client) }
    #expect(try await expectSuccess(second)["rounds"] as? Int == 3)
    try expectSameBytes(deployment, "fedsa-lora", simulated: try await simulate("fedsa-lora", keys), rounds: 3)
  }

  @Test("give the same bytes although every process is killed again and again, at random instants")
  func killedAtRandom() async throws {
    let keys = shared(rounds: 9, steps: 40, quorum: 3) + ["cohort.max_attempts=1000"]
    let deployment = try await deploy("fedsvd", keys)
    let first = try deployment.coordinator()
    defer { first.cleanUp() }
    let port = try await port(of: first)
    let seed = UInt64.random(in: 1...1_000_000)
    // Close to the end all are left alone: who is away then may not learn of it.
    let nearEnd = EventLog<Bool>()
    let kills = try await withThrowingTaskGroup(of: Int.self) { group in
      group.addTask {
        try await torment(seed: seed, first: first, nearEnd: nearEnd) { try deployment.coordinator(port: port) }
      }
      for (index, name) in Self.names.enumerated() {
        group.addTask {
          try await torment(seed: seed + UInt64(index) + 1, first: nil, nearEnd: nearEnd) {
            try deployment.client(name, port: port)
          }
        }
      }
      return try await group.reduce(0, +)
    }
    #expect(kills >= 8, "seed \(seed): only \(kills) kills")
    try expectSameBytes(deployment, "fedsvd", simulated: try await simulate("fedsvd", keys), rounds: 9)
  }

  /// Starts a program, kills it after a while, and starts it again, until it ends by itself.
  /// - Returns: how often it was killed.
  private func torment(
    seed: UInt64,
    first: Program?,
    nearEnd: EventLog<Bool>,
    _ start: () throws -> Program
  ) async throws -> Int {
    var random = SeededGenerator(seed: seed)
    var kills = 0
    var program = try first ?? start()
    defer { program.cleanUp() }
    while true {
      let life = kills < 12 ? Int.random(in: 300...1500, using: &random) : .max
      let began = ContinuousClock.now
      while !program.hasEnded, nearEnd.events.isEmpty, ContinuousClock.now - began < .milliseconds(life) {
        try await Task.sleep(for: .milliseconds(20))
        if program.errors.events.contains(where: { $0.contains("round 7/9") }) { nearEnd.record(true) }
      }
      if program.hasEnded || !nearEnd.events.isEmpty {
        _ = try await expectSuccess(program)
        return kills
      }
      program.kill()
      #expect(try await program.end().status == -9)
      kills += 1
      program = try start()
    }
  }

  @Test("are looked after by status, log, stop, resume and abort, and give the same bytes as the simulation")
  func operated() async throws {
    let keys = shared(rounds: 3, steps: 20, quorum: 3)
    let deployment = try await deploy("fedsvd", keys)
    func fedlora(_ arguments: String...) async throws -> (status: Int32, data: [String: Any], errors: String) {
      let result = try await Program.run(arguments + ["--format", "json"], in: deployment.folder)
      return (result.status, try envelope(result.output)["data"] as? [String: Any] ?? [:], result.errors)
    }
    func run() async throws -> [String: Any] {
      try #require((try await fedlora("status", "run.yaml").data["runs"] as? [[String: Any]])?.first)
    }
    #expect(try await fedlora("resume", "run.yaml").status == 65)
    #expect(try await fedlora("status", "run.yaml").status == 65)
    let first = try deployment.coordinator()
    defer { first.cleanUp() }
    let port = try await port(of: first)
    #expect(try await run()["state"] as? String == "pending")
    let clients = try Self.names.map { try deployment.client($0, port: port) }
    defer { for client in clients { client.cleanUp() } }
    try await clients[0].line("round 1: training")
    #expect(try await run()["state"] as? String == "running")
    #expect((try await run()["live"] as? [String: Any])?["round"] as? Int == 1)
    let stop = try await fedlora("stop", "run.yaml", "--reason", "night")
    #expect(stop.status == 0 && stop.data["accepted"] as? Bool == true)
    #expect(try await first.end().status == 75)
    let stopped = try await run()
    #expect(stopped["state"] as? String == "finished:stopped")
    #expect(stopped["resumable"] as? Bool == true)
    #expect(stopped["reason"] as? String == "stopped by the operator: night")
    let between = try #require(stopped["rounds"] as? Int)
    #expect((1..<3).contains(between))
    #expect(try await fedlora("stop", "run.yaml").status == 69)
    let second = try Program(
      ["resume", "run.yaml", "--set", "listen.port=\(port)", "--format", "json"],
      in: deployment.folder
    )
    defer { second.cleanUp() }
    for client in clients { _ = try await expectSuccess(client) }
    #expect(try await expectSuccess(second)["rounds"] as? Int == 3)
    #expect(try await run()["state"] as? String == "finished:completed")
    #expect(try await fedlora("resume", "run.yaml").status == 65)
    try expectSameBytes(deployment, "fedsvd", simulated: try await simulate("fedsvd", keys), rounds: 3)
    let log = try await Program.run(["log", "run", "--event", "round-committed", "--follow"], in: deployment.folder)
    #expect(String(decoding: log.output, as: UTF8.self).split(separator: "\n").count == 3)
    #expect(try await fedlora("abort", "run.yaml").status == 69)
    #expect(try await fedlora("log", "nowhere").status == 65)
  }

  @Test("lose nothing when the coordinator's disk is full: the run stops, and goes on once there is room")
  func fullDisk() async throws {
    let keys = shared(rounds: 3, steps: 10, quorum: 3)
    let deployment = try await deploy("fedsvd", keys)
    guard let disk = try SmallDisk(at: deployment.folder.appendingPathComponent("run"), megabytes: 16) else { return }
    defer { disk.unmount() }
    let first = try deployment.coordinator()
    defer { first.cleanUp() }
    let port = try await port(of: first)
    let clients = try Self.names.map { try deployment.client($0, port: port) }
    defer { for client in clients { client.cleanUp() } }
    try await first.line("round 1/3")
    try disk.fill()
    let (status, output) = try await first.end()
    let message = (try envelope(output)["error"] as? [String: Any])?["message"] as? String ?? ""
    #expect(status == 75 && message.contains("nothing that was acknowledged is lost"), "\(status): \(message)")
    // While there is no room it does not start, and says why.
    let second = try await Program.run(
      ["coordinator", "run.yaml", "--set", "listen.port=\(port)"],
      in: deployment.folder
    )
    #expect(second.status == 74 || second.status == 75, "\(second)")
    try disk.empty()
    let third = try deployment.coordinator(port: port)
    defer { third.cleanUp() }
    for client in clients { _ = try await expectSuccess(client) }
    #expect(try await expectSuccess(third)["rounds"] as? Int == 3)
    try expectSameBytes(deployment, "fedsvd", simulated: try await simulate("fedsvd", keys), rounds: 3)
  }

  @Test("name a folder that is read-only or too small (74), and a damaged file in it (65)")
  func damagedFolders() async throws {
    let deployment = try await deploy("fedsvd", shared(rounds: 1, steps: 1, quorum: 3))
    let run = deployment.folder.appendingPathComponent("run")
    func start() async throws -> (status: Int32, output: Data, errors: String) {
      try await Program.run(["coordinator", "run.yaml", "--set", "listen.port=0"], in: deployment.folder)
    }
    if let disk = try SmallDisk(at: run, megabytes: 1) {
      try disk.fill()
      let full = try await start()
      #expect(full.status == 74 && full.errors.contains(run.path), "\(full.errors)")
      try disk.empty()
      try disk.makeReadOnly()
      let readOnly = try await start()
      #expect(readOnly.status == 74 && readOnly.errors.contains(run.path), "\(readOnly.errors)")
      disk.unmount()
    }
    let coordinator = try deployment.coordinator()
    _ = try await port(of: coordinator)
    coordinator.kill()
    #expect(try await coordinator.end().status == -9)
    let state = run.appendingPathComponent("state/round-000000.safetensors")
    try Data([1, 2, 3]).write(to: state)
    let damaged = try await start()
    #expect(damaged.status == 65 && damaged.errors.contains(state.path), "\(damaged.errors)")
  }

  @Test("refuse what does not belong together, with 69 and a reason")
  func refusals() async throws {
    let deployment = try await deploy("fedsa-lora", shared(rounds: 1, steps: 1, quorum: 3))
    let coordinator = try deployment.coordinator()
    defer { coordinator.cleanUp() }
    let port = try await port(of: coordinator)
    #expect(try await Program.run(["ca", "init", "other"], in: deployment.folder).status == 0)
    #expect(try await Program.run(["ca", "issue", "client-1", "--ca", "other"], in: deployment.folder).status == 0)
    func client(_ identity: String, labels: String) async throws -> (status: Int32, message: String) {
      let result = try await Program.run(
        [
          "client", "--server", "127.0.0.1:\(port)", "--identity", identity, "--model", deployment.encoder, "--data",
          "client-1.tsv", "--labels", labels, "--state", "refused", "--max-length", "\(deployment.maxLength)",
          "--format", "json",
        ],
        in: deployment.folder
      )
      return (result.status, (try envelope(result.output)["error"] as? [String: Any])?["message"] as? String ?? "")
    }
    let stranger = try await client("other/participants/client-1", labels: deployment.labels)
    #expect(stranger.status == 69, "\(stranger.message)")
    let reversed = deployment.labels.split(separator: ",").reversed().joined(separator: ",")
    let mislabelled = try await client("ca/participants/client-1", labels: reversed)
    #expect(mislabelled.status == 69)
    #expect(mislabelled.message.contains("wrong-labels"), "\(mislabelled.message)")
    // A second coordinator finds the folder in use.
    let second = try deployment.coordinator()
    defer { second.cleanUp() }
    #expect(try await second.end().status == 65)
    #expect(second.errors.events.contains { $0.contains("is open in another coordinator") })
  }
}
