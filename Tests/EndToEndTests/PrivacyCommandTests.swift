import FedLoRADP
import FedLoRATestSupport
import Foundation
#if canImport(FoundationXML)
  import FoundationXML
#endif
import Testing

@Suite("EndToEnd: fedlora privacy", .timeLimit(.minutes(2)))
struct PrivacyCommandTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func fedlora(_ arguments: [String]) async throws -> (status: Int32, output: Data, errors: String) {
    try await Program.run(arguments, in: scratch.url)
  }

  private func data(_ output: Data) throws -> [String: Any] {
    let json = try #require(try JSONSerialization.jsonObject(with: output) as? [String: Any])
    return try #require(json["data"] as? [String: Any])
  }

  private static let common = ["privacy", "plan", "--sampling-rate", "0.01", "--delta", "1e-5"]

  @Test("plan answers with the third of steps, noise and epsilon, and the three answers agree")
  func plan() async throws {
    let calibrated = try await fedlora(
      Self.common + ["--steps", "500", "--epsilon", "3", "--plot", "plan.svg", "--format", "json"]
    )
    #expect(calibrated.status == 0)
    let noise = try #require(try data(calibrated.output)["noise_multiplier"] as? Double)
    #expect(try #require(try data(calibrated.output)["epsilon"] as? Double) <= 3)
    let spent = try await fedlora(Self.common + ["--steps", "500", "--noise-multiplier", "\(noise)", "--format=json"])
    let epsilon = try #require(try data(spent.output)["epsilon"] as? Double)
    #expect(epsilon <= 3 && epsilon > 2.9999)
    let fits = try await fedlora(Self.common + ["--noise-multiplier", "\(noise)", "--epsilon", "3", "--format=json"])
    #expect(try data(fits.output)["steps"] as? Int == 500)
    let rows = try #require(try data(spent.output)["trade_off"] as? [[String: Any]])
    #expect(rows.count > 5)
    let svg = try String(contentsOf: scratch.appending("plan.svg"), encoding: .utf8)
    #expect(svg.hasPrefix("<svg") && svg.contains("</svg>"))
    #expect(XMLParser(data: Data(svg.utf8)).parse())
    let text = try await fedlora(Self.common + ["--steps", "500", "--epsilon", "3"])
    #expect(String(decoding: text.output, as: UTF8.self).contains("<- this plan"))
  }

  @Test(
    "plan refuses what cannot be planned with status 64",
    arguments: [
      [], ["--steps", "5"], ["--steps", "5", "--noise-multiplier", "1", "--epsilon", "2"],
      ["--steps", "0", "--noise-multiplier", "1"], ["--steps", "5", "--noise-multiplier", "0"],
      ["--steps", "5", "--epsilon", "-1"], ["--steps", "5", "--noise-multiplier", "nan"],
      ["--steps", "5", "--noise-multiplier", "1", "--sampling", "fixed-size", "--relation", "zero-out"],
    ]
  )
  func refusals(arguments: [String]) async throws {
    let refused = try await fedlora(Self.common + arguments)
    #expect(refused.status == 64)
    #expect(!refused.errors.isEmpty)
    #expect(refused.output.isEmpty)
    let rate = try await fedlora([
      "privacy", "plan", "--sampling-rate", "1.5", "--steps", "5", "--delta", "1e-5", "--epsilon", "1",
    ])
    #expect(rate.status == 64)
  }

  @Test("report reads one ledger, or all of a folder, and names what is damaged")
  func report() async throws {
    let file = scratch.appending("state/ledgers/ledger-0011223344556677.jsonl")
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    do {
      let ledger = try PrivacyLedger(
        at: file,
        dataset: String(repeating: "0123456789abcdef", count: 4),
        relation: .addOrRemoveOne
      )
      for round in 1...3 {
        try ledger.charge(
          LedgerCharge(
            runID: "trial",
            client: "clinic-a",
            round: round,
            phase: PrivatePhase(sampling: .poisson(rate: 0.01), noiseMultiplier: 1, steps: 10),
            clippingNorm: 2,
            strategy: "fedsvd",
            seeded: false
          )
        )
      }
    }
    let json = try await fedlora(["privacy", "report", "state", "--epsilon", "8", "--format", "json"])
    #expect(json.status == 0)
    let entry = try #require((try data(json.output)["ledgers"] as? [[String: Any]])?.first)
    #expect((entry["ledger"] as? String)?.hasSuffix("ledger-0011223344556677.jsonl") == true)
    let run = try #require((entry["runs"] as? [[String: Any]])?.first)
    #expect(run["rounds"] as? Int == 3)
    #expect(run["steps"] as? Int == 30)
    let expected = try PrivacyAccountant(relation: .addOrRemoveOne).epsilon(
      of: [PrivatePhase(sampling: .poisson(rate: 0.01), noiseMultiplier: 1, steps: 30)],
      delta: 1e-5
    )
    #expect(entry["epsilon"] as? Double == expected.epsilon)
    let text = try await fedlora(["privacy", "report", file.path])
    #expect(String(decoding: text.output, as: UTF8.self).contains("trial"))
    var bytes = try Data(contentsOf: file)
    bytes[bytes.count / 2] ^= 1
    try bytes.write(to: file)
    let damaged = try await fedlora(["privacy", "report", file.path])
    #expect(damaged.status == 65)
    #expect(damaged.errors.contains("ledger-0011223344556677.jsonl"))
    #expect(try await fedlora(["privacy", "report", "nowhere"]).status == 65)
    #expect(try await fedlora(["privacy", "report", "state", "--delta", "2"]).status == 64)
  }

  @Test("the standard policy is a policy file, and an odd one is refused by its key")
  func policy() async throws {
    let printed = try await fedlora(["privacy", "policy"])
    #expect(printed.status == 0)
    #expect(String(decoding: printed.output, as: UTF8.self).contains("max_epsilon"))
  }
}
