import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: fedlora privacy audit", .timeLimit(.minutes(2)))
struct PrivacyAuditCommandTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func audit(_ arguments: String...) async throws -> (status: Int32, output: Data, errors: String) {
    try await Program.run(["privacy", "audit", "--runs", "20", "--seed", "1"] + arguments, in: scratch.url)
  }

  @Test("prints a table with claims, bounds and verdicts, and says what they mean")
  func table() async throws {
    let done = try await audit("--strategy", "ffa-lora", "--break", "noise-off", "--noise-multiplier", "6")
    #expect(done.status == 0)
    let text = String(decoding: done.output, as: UTF8.self)
    #expect(text.contains("claimed epsilon") && text.contains("lower bound") && text.contains("BROKEN: caught"))
    #expect(text.contains("ffa-lora") && text.contains("sound") && text.contains("proves nothing"))
    #expect(done.errors.contains("noise-off: epsilon"))
  }

  @Test("ends with 1 where a broken configuration is not caught, and prints the table all the same")
  func failure() async throws {
    let failed = try await audit(
      "--strategy",
      "ffa-lora",
      "--break",
      "noise-off",
      "--noise-multiplier",
      "0.3",
      "--format",
      "json"
    )
    #expect(failed.status == 1)
    let json = try envelope(failed.output)
    #expect(json["status"] as? String == "failed" && json["exit_code"] as? Int == 1)
    let data = try #require(json["data"] as? [String: Any])
    #expect(data["seeded"] as? Bool == true && data["runs_per_world"] as? Int == 20)
    let rows = try #require(data["rows"] as? [[String: Any]])
    #expect(rows.compactMap { $0["name"] as? String } == ["ffa-lora", "noise-off"])
    #expect(rows.compactMap { $0["verdict"] as? String } == ["sound", "missed"])
    #expect(failed.errors.contains("not caught"))
  }

  @Test(
    "answers options outside their ranges with 64",
    arguments: [["--runs", "19"], ["--steps", "0"], ["--break", "x"]]
  )
  func usage(arguments: [String]) async throws {
    #expect(try await Program.run(["privacy", "audit"] + arguments, in: scratch.url).status == 64)
  }
}
