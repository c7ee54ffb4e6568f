import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: the command line", .timeLimit(.minutes(2)))
struct CommandLineTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func fedlora(_ arguments: String...) async throws -> (status: Int32, output: Data, errors: String) {
    try await Program.run(arguments, in: scratch.url)
  }

  private func write(_ text: String, to name: String) throws {
    try Data(text.utf8).write(to: scratch.appending(name))
  }

  @Test("makes an authority and identities, and overwrites nothing")
  func authority() async throws {
    let made = try await fedlora("ca", "init", "my-ca", "--format", "json")
    #expect(made.status == 0)
    let json = try envelope(made.output)
    #expect(json["schema_version"] as? Int == 1)
    #expect(json["status"] as? String == "ok")
    #expect(json["exit_code"] as? Int == 0)
    let data = try #require(json["data"] as? [String: Any])
    #expect((data["fingerprint"] as? String)?.count == 64)
    let issued = try await fedlora("ca", "issue", "clinic-a", "--ca", "my-ca", "--format=json")
    #expect(issued.status == 0)
    let key = scratch.appending("my-ca/participants/clinic-a/key.pem")
    let mode = try FileManager.default.attributesOfItem(atPath: key.path)[.posixPermissions] as? Int
    #expect(mode == 0o600)
    let before = try contents(of: scratch.url)
    let again = try await fedlora("ca", "init", "my-ca", "--format", "json")
    #expect(again.status == 65)
    let failure = try envelope(again.output)
    #expect(failure["status"] as? String == "bad-data")
    #expect(failure["exit_code"] as? Int == 65)
    #expect(((failure["error"] as? [String: Any])?["message"] as? String)?.contains("my-ca") == true)
    #expect(try await fedlora("ca", "issue", "clinic-a", "--ca", "my-ca").status == 65)
    #expect(try await fedlora("ca", "issue", "../evil", "--ca", "my-ca").status == 65)
    #expect(try contents(of: scratch.url) == before)
  }

  @Test(
    "answers wrong usage with 64, in JSON where asked",
    arguments: [
      ["frobnicate"], ["simulate", "--nope"], ["coordinator"], ["client"], ["ca", "issue"],
      ["client", "--server", "nowhere", "--identity", "x", "--model", "m", "--data", "d"],
    ]
  )
  func usage(arguments: [String]) async throws {
    let plain = try await Program.run(arguments, in: scratch.url)
    #expect(plain.status == 64)
    #expect(plain.output.isEmpty)
    #expect(!plain.errors.isEmpty)
    let json = try await Program.run(arguments + ["--format", "json"], in: scratch.url)
    #expect(json.status == 64)
    #expect(try envelope(json.output)["status"] as? String == "usage")
  }

  @Test("prints help and version to standard output")
  func help() async throws {
    for arguments in [["--help"], ["simulate", "--help"], ["--version"]] {
      let result = try await Program.run(arguments, in: scratch.url)
      #expect(result.status == 0)
      #expect(!result.output.isEmpty)
    }
  }

  @Test("answers a bad run file with 65, the file, the key and the nearest key")
  func badConfiguration() async throws {
    try write("labels: [a, b]\ntraining:\n  batchsize: 3\n", to: "run.yaml")
    let typo = try await fedlora("coordinator", "run.yaml")
    #expect(typo.status == 65)
    #expect(typo.errors.contains("run.yaml") && typo.errors.contains("'training.batchsize'"))
    #expect(typo.errors.contains("did you mean 'batch_size'"))
    try write("labels: [a, b]\ncohort: { quorum: 7 }\n", to: "run.yaml")
    let range = try await fedlora("coordinator", "run.yaml", "--format", "json")
    #expect(range.status == 65)
    let message = try #require((try envelope(range.output)["error"] as? [String: Any])?["message"] as? String)
    #expect(message.contains("run.yaml") && message.contains("'cohort.quorum'"))
    #expect(try await fedlora("coordinator", "missing.yaml").status == 65)
    let assigned = try await fedlora("simulate", "--set", "clients.cuont=3")
    #expect(assigned.status == 65)
    #expect(assigned.errors.contains("did you mean 'count'"))
    #expect(try await fedlora("simulate", "no-such-scenario").status == 65)
    #expect(try await fedlora("simulate", "--model", "no-such-folder", "--output", "out").status == 65)
  }

  @Test("prints a configuration that can be run, and lists the scenarios")
  func configuration() async throws {
    let printed = try await fedlora("simulate", "--print-config", "--set", "rounds=77")
    #expect(printed.status == 0)
    try printed.output.write(to: scratch.appending("mine.yaml"))
    let again = try await fedlora("simulate", "mine.yaml", "--print-config")
    #expect(again.status == 0)
    #expect(again.output == printed.output)
    #expect(String(decoding: again.output, as: UTF8.self).contains("rounds: 77"))
    let run = try await fedlora("coordinator", "--print-config")
    #expect(run.status == 0)
    let list = try await fedlora("simulate", "--list", "--format", "json")
    let names = (try envelope(list.output)["data"] as? [[String: Any]])?.compactMap { $0["name"] as? String } ?? []
    #expect(names.contains("hundred-clients"))
    #expect(names == names.sorted())
    #expect(names.allSatisfy { String(decoding: list.output, as: UTF8.self).contains($0) })
  }
}
