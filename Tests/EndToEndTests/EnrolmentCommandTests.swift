import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAProtocol
import FedLoRASimulation
import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: identities", .timeLimit(.minutes(3)), .serialized)
struct EnrolmentCommandTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func fedlora(_ arguments: String...) async throws -> (status: Int32, data: [String: Any], message: String) {
    let result = try await Program.run(arguments + ["--format", "json"], in: scratch.url)
    let json = try envelope(result.output)
    let message = (json["error"] as? [String: Any])?["message"] as? String ?? result.errors
    return (result.status, json["data"] as? [String: Any] ?? [:], message)
  }

  private func port(in line: String) throws -> Int {
    let address = try #require(line.split(separator: " ").first { $0.hasPrefix("127.0.0.1:") })
    return try #require(Int(address.dropFirst("127.0.0.1:".count).prefix { $0.isNumber }))
  }

  /// A run of the embedded encoder that waits for one client, with its data.
  private func prepare(rounds: Int) throws -> (encoder: String, labels: String, maxLength: Int) {
    let keys = ["clients.count=1", "training.local_steps=2", "training.batch_size=8", "adapter.rank=4"]
    let (scenario, _) = try ScenarioConfiguration.load(
      nil,
      assignments: keys + [
        "cohort.min_clients=1", "cohort.clients_per_round=1", "cohort.quorum=1", "strategies=[fedsa-lora]",
        "overrides={}",
      ]
    )
    let data = try SimulationData.load(scenario)
    try Data(contentsOf: EmbeddedAssets.train).write(to: scratch.appending("mine.tsv"))
    let encoder = try EmbeddedAssets.encoder.path
    var yaml = try LayeredYAML(defaults: RunConfiguration.defaults)
    for assignment in [
      "name=enrolled", "rounds=\(rounds)", "labels=[\(data.labels.joined(separator: ", "))]", "model.path='\(encoder)'",
      "model.max_length=\(scenario.model.maxLength)", "model.pooling=\(scenario.model.pooling.rawValue)",
      "training.local_steps=2", "training.batch_size=8", "adapter.rank=4", "cohort.min_clients=1",
      "cohort.clients_per_round=1", "cohort.quorum=1", "listen.port=0", "enrolment.ca=ca", "enrolment.port=0",
    ] { try yaml.set(assignment) }
    try Data(yaml.text().utf8).write(to: scratch.appending("run.yaml"))
    let length = min(scenario.model.maxLength, data.base.spec.maximumPositions)
    return (encoder, data.labels.joined(separator: ","), length)
  }

  @Test("a client comes from nothing into a run with a token in two steps, and is out of it when it is revoked")
  func twoSteps() async throws {
    let (encoder, labels, maxLength) = try prepare(rounds: 1000)
    #expect(try await fedlora("ca", "init", "ca").status == 0)
    let coordinator = try Program(["coordinator", "run.yaml", "--format", "json"], in: scratch.url)
    defer { coordinator.cleanUp() }
    let enrolmentPort = try port(in: try await coordinator.line("serving enrolment"))
    let runPort = try port(in: try await coordinator.line("serving run"))
    let made = try await fedlora("ca", "token", "clinic-a", "--server", "127.0.0.1:\(enrolmentPort)", "--valid", "5m")
    let token = try #require(made.data["token"] as? String, "\(made.message)")

    // Step 1.
    let enrolled = try await fedlora("enroll", "--token", token)
    #expect(enrolled.status == 0 && enrolled.data["name"] as? String == "clinic-a", "\(enrolled.message)")
    // Step 2.
    let client = try Program(
      [
        "client", "--server", "127.0.0.1:\(runPort)", "--identity", "clinic-a", "--model", encoder, "--data",
        "mine.tsv", "--labels", labels, "--state", "state", "--max-length", "\(maxLength)",
      ],
      in: scratch.url
    )
    defer { client.cleanUp() }
    try await client.line("joined run 'enrolled'")
    try await coordinator.line("round 1/1000")

    let key = scratch.appending("clinic-a/key.pem")
    #expect(try FileManager.default.attributesOfItem(atPath: key.path)[.posixPermissions] as? Int == 0o600)
    let again = try await fedlora("enroll", "--token", token, "--output", "thief")
    #expect(again.status == 69 && again.message.contains("used-token"), "\(again.message)")
    #expect(try await fedlora("enroll", "--token", token).status == 65)
    let listed = try await fedlora("ca", "list")
    let rows = try #require(listed.data["certificates"] as? [[String: Any]])
    #expect(rows.map { $0["name"] as? String } == ["(coordinator)", "clinic-a"])
    #expect(rows.map { $0["state"] as? String } == ["valid", "valid"])

    // A new key and certificate by hand, over the identity that there is.
    let early = try await fedlora("enroll", "--renew", "--output", "clinic-a")
    #expect(early.status == 0 && early.data["is_new"] as? Bool == false, "\(early.message)")
    let renewed = try await fedlora("enroll", "--renew", "--force", "--output", "clinic-a")
    #expect(renewed.status == 0 && renewed.data["is_new"] as? Bool == true, "\(renewed.message)")
    #expect(renewed.data["serial"] as? String != enrolled.data["serial"] as? String)

    // The coordinator's own certificate, while the client trains.
    #expect(try await fedlora("ca", "renew-coordinator", "--days", "200").status == 0)
    try await coordinator.line("identity-reloaded")
    let reloaded = try await fedlora("reload", "run.yaml")
    #expect(reloaded.status == 0 && reloaded.data["accepted"] as? Bool == true, "\(reloaded.message)")

    // And out.
    let revoked = try await fedlora("ca", "revoke", "clinic-a", "--reason", "it is over")
    #expect(revoked.status == 0 && (revoked.data["revoked"] as? [String])?.count == 2, "\(revoked.message)")
    #expect(try await client.end().status == 69)
    #expect(client.errors.events.contains { $0.contains("revoked") }, "\(client.errors.events.suffix(5))")
    try await coordinator.line("revoked")
    let refused = try await fedlora("enroll", "--renew", "--force", "--output", "clinic-a")
    #expect(refused.status == 69, "\(refused.message)")
    #expect(try await fedlora("abort", "run.yaml").status == 0)
    #expect(try await coordinator.end().status == 75)
  }

  @Test("an authority can serve enrolment by itself, and its verbs say what is wrong")
  func serve() async throws {
    #expect(try await fedlora("ca", "init", "ca").status == 0)
    let server = try Program(["ca", "serve", "--port", "0"], in: scratch.url)
    defer { server.cleanUp() }
    let address = "127.0.0.1:\(try port(in: try await server.line("serving enrolment")))"
    let text = try await Program.run(["ca", "token", "a", "--server", address], in: scratch.url)
    let token = String(decoding: text.output, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    #expect(token.hasPrefix("fl1.") && !token.contains("\n"))
    let ed = try await fedlora("enroll", "--token", token, "--key", "ed25519", "--output", "here/it/is")
    #expect(ed.status == 0, "\(ed.message)")
    #expect(try TLSIdentity.load(from: scratch.appending("here/it/is")).keyKind == .ed25519)
    try await server.line("certificate given")
    for (arguments, status) in [
      (["enroll", "--token", String(token.dropLast(3))], 65), (["enroll", "--token", "fl1.nonsense"], 65),
      (["enroll"], 64), (["enroll", "--renew"], 64), (["enroll", "--renew", "--output", "nowhere"], 65),
      (["ca", "token", "a", "--valid", "soon"], 64), (["ca", "token", "../a"], 65),
      (["ca", "token", "a", "--ca", "no"], 65),
      (["ca", "revoke"], 64), (["ca", "revoke", "nobody"], 65), (["ca", "revoke", "--serial", "xyz"], 65),
      (["ca", "renew-coordinator", "--days", "-1"], 64), (["ca", "list", "--ca", "no"], 65),
      (["reload", "nowhere"], 65),
    ] as [([String], Int32)] {
      let result = try await Program.run(arguments, in: scratch.url)
      #expect(result.status == status, "\(arguments): \(result.status) \(result.errors)")
    }
  }
}
