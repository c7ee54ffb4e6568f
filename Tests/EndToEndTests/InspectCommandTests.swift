import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: fedlora inspect", .timeLimit(.minutes(2)))
struct InspectCommandTests {
  private let scratch: ScratchFolder
  private static let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("EngineTests/Fixtures")

  init() throws { scratch = try ScratchFolder() }

  private func inspect(_ folder: String, _ more: String...) async throws -> (
    status: Int32, output: Data, errors: String
  ) {
    let path = Self.fixtures.appendingPathComponent("\(folder)/model").path
    return try await Program.run(["inspect", path] + more, in: scratch.url)
  }

  @Test("tells architecture, parameters, memory, modules and the adapter's size")
  func answers() async throws {
    let told = try await inspect("decoders/gpt2", "--rank", "2", "--format", "json")
    #expect(told.status == 0)
    let json = try #require(try JSONSerialization.jsonObject(with: told.output) as? [String: Any])
    let data = try #require(json["data"] as? [String: Any])
    let architecture = try #require(data["architecture"] as? [String: Any])
    #expect(architecture["family"] as? String == "gpt2" && architecture["layers"] as? Int == 2)
    #expect(architecture["activation"] as? String == "gelu-tanh" && architecture["context"] as? Int == 32)
    // By hand: words 60 · 16, places 32 · 16; a layer 16 · 48 + 48, 16 · 16 + 16, 16 · 24 + 24, 24 · 16 + 16, two norms of 32; 32.
    let parameters = try #require(data["parameters"] as? [String: Any])
    #expect(parameters["total"] as? Int == 1472 + 2 * (816 + 272 + 408 + 400 + 64) + 32)
    #expect(parameters["embeddings"] as? Int == 1472 && parameters["is_tied"] as? Bool == true)
    let modules = try #require(data["modules"] as? [[String: Any]])
    #expect(modules.count == 4 && modules.contains { $0["path"] as? String == "transformer.h.*.attn.c_attn" })
    let adapter = try #require(data["adapter"] as? [String: Any])
    #expect(adapter["target_modules"] as? [String] == ["c_attn"])
    let sizes = try #require(adapter["sizes"] as? [[String: Any]])
    #expect(sizes.count == 1 && sizes[0]["bytes"] as? Int == 4 * 2 * 2 * (16 + 48))
    #expect(sizes[0]["fedsa_shared_bytes"] as? Int == 4 * 2 * 2 * 16)

    let text = try await inspect("decoders/gemma2", "--target-modules", "q_proj, down_proj")
    #expect(text.status == 0)
    let lines = String(decoding: text.output, as: UTF8.self)
    #expect(lines.contains("gemma2, decoder") && lines.contains("before and after each block"))
    #expect(lines.contains("window of 4 in some layers") && lines.contains("adapter on q_proj, down_proj: 6 modules"))
    #expect(lines.contains("tied with the language head") && lines.contains("nf4"))
    let encoder = try await inspect("bert/bare")
    #expect(String(decoding: encoder.output, as: UTF8.self).contains("bert, encoder"))
  }

  @Test("refuses bad folders with 65 and wrong usage with 64")
  func refusals() async throws {
    let nowhere = try await Program.run(["inspect", "nowhere"], in: scratch.url)
    #expect(nowhere.status == 65 && nowhere.errors.contains("config.json"))
    try Data("{\"model_type\": \"t5\"}".utf8).write(to: scratch.appending("config.json"))
    let unknown = try await Program.run(["inspect", ".", "--format", "json"], in: scratch.url)
    #expect(unknown.status == 65 && unknown.errors.contains("'model_type' is 't5'"))
    #expect(String(decoding: unknown.output, as: UTF8.self).contains("bad-data"))
    let noSuch = try await inspect("decoders/neox", "--target-modules", "q_proj")
    #expect(noSuch.status == 65 && noSuch.errors.contains("query_key_value"))
    #expect(try await inspect("decoders/neox", "--rank", "0").status == 64)
    let tooWide = try await inspect("decoders/neox", "--rank", "17")
    #expect(tooWide.status == 64 && tooWide.errors.contains("at most 16"))
    #expect(try await inspect("decoders/neox", "--target-modules", ",").status == 64)
  }
}
