import FedLoRAEngine
import FedLoRATestSupport
import Foundation
import Testing

@Suite("EndToEnd: fedlora generate", .timeLimit(.minutes(2)))
struct GenerateCommandTests {
  private let scratch: ScratchFolder
  private let fixtures: URL

  private struct Expected: Decodable {
    struct Text: Decodable {
      let text: String
      let ids, tokens: [Int32]
      let adapter: Bool
    }
    let texts: [Text]
  }

  init() throws {
    scratch = try ScratchFolder()
    fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("EngineTests/Fixtures/generation")
  }

  private func generate(_ arguments: [String]) async throws -> (status: Int32, output: String, errors: String) {
    let found = try await Program.run(
      ["generate", fixtures.appendingPathComponent("tiny").path] + arguments,
      in: scratch.url
    )
    return (found.status, String(decoding: found.output, as: UTF8.self), found.errors)
  }

  private var adapter: [String] { ["--adapter", fixtures.appendingPathComponent("tiny/adapter").path] }

  /// What transformers and peft generate, as text.
  private func expected(_ text: String, adapter: Bool) throws -> String {
    let all = try JSONDecoder().decode(
      Expected.self,
      from: Data(contentsOf: fixtures.appendingPathComponent("tiny.json"))
    )
    let found = try #require(all.texts.first { $0.text == text && $0.adapter == adapter })
    let tokenizer = try Tokenizer.load(from: fixtures.appendingPathComponent("tiny"))
    let whole = tokenizer.decode(found.ids + found.tokens).unicodeScalars
    return String(String.UnicodeScalarView(whole.dropFirst(tokenizer.decode(found.ids).unicodeScalars.count)))
  }

  @Test("streams the text that transformers makes, with an adapter that peft saved and without")
  func texts() async throws {
    let text = "the cat sat on the mat"
    let plain = try await generate(["--prompt", text, "--max-new-tokens", "24"])
    #expect(plain.status == 0)
    #expect(try plain.output == expected(text, adapter: false) + "\n")
    #expect(plain.errors.contains("tokens a second"))
    let adapted = try await generate(["--prompt", text, "--max-new-tokens", "24", "--merge-adapter"] + adapter)
    #expect(try adapted.output == expected(text, adapter: true) + "\n")
    #expect(adapted.output != plain.output)
  }

  @Test("answers a file of prompts and conversations line by line, and as JSON")
  func prompts() async throws {
    let file = scratch.appending("prompts.jsonl")
    let lines = [
      "{\"prompt\": \"the cat sat on the mat\"}", "", "{\"messages\": [{\"role\": \"user\", \"content\": \"the\"}]}",
      "{\"prompt\": \"a\"}",
    ]
    try Data(lines.joined(separator: "\n").utf8).write(to: file)
    let arguments = ["--prompts", file.path, "--max-new-tokens", "24"] + adapter
    let found = try await generate(arguments)
    #expect(found.status == 0, "\(found.errors)")
    let objects = try found.output.split(separator: "\n").map {
      try #require(JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(objects.count == 3)
    #expect(objects.first?["text"] as? String == (try expected("the cat sat on the mat", adapter: true)))
    #expect(objects.last?["text"] as? String == (try expected("a", adapter: true)))
    // The chat's line is what --chat makes of the same words.
    let chat = try await generate(["--chat", "--prompt", "the", "--max-new-tokens", "24"] + adapter)
    #expect(chat.output == "\(objects[1]["text"] as? String ?? "")\n")
    let json = try envelope(Data(try await generate(arguments + ["--format", "json"]).output.utf8))
    let data = try #require(json["data"] as? [String: Any])
    #expect((data["texts"] as? [Any])?.count == 3 && data["tokens_per_second"] is Double)
  }

  @Test("draws the same text for the same seed")
  func seeds() async throws {
    let arguments = [
      "--prompt", "a", "--temperature", "1.3", "--top-k", "40", "--top-p", "0.9", "--max-new-tokens", "20",
    ]
    let first = try await generate(arguments + ["--seed", "5"])
    #expect(first.status == 0 && first.output.count > 1)
    #expect(try await generate(arguments + ["--seed", "5"]).output == first.output)
    #expect(try await generate(arguments + ["--seed", "6"]).output != first.output)
  }

  @Test("refuses what it cannot do, with the documented status")
  func refusals() async throws {
    for arguments in [
      [], ["--prompt", "a", "--prompts", "b"], ["--prompt", "a", "--temperature", "-1"],
      ["--prompt", "a", "--top-p", "0"], ["--prompt", "a", "--max-new-tokens", "0"],
      ["--prompt", "a", "--system", "b"],
    ] {
      #expect(try await generate(arguments).status == 64, "\(arguments)")
    }
    let long = try await generate(["--prompt", String(repeating: "a ", count: 200)])
    #expect(long.status == 65 && long.errors.contains("96 positions"))
    let file = scratch.appending("bad.jsonl")
    try Data("{\"prompt\": \"a\"}\n{\"text\": 1}\n".utf8).write(to: file)
    let bad = try await generate(["--prompts", file.path])
    #expect(bad.status == 65 && bad.errors.contains("bad.jsonl, line 2"))
    let stranger = try await generate(["--prompt", "a", "--adapter", fixtures.path])
    #expect(stranger.status == 65 && stranger.errors.contains("adapter_config.json"))
    let missing = try await Program.run(["generate", scratch.url.path, "--prompt", "a"], in: scratch.url)
    #expect(missing.status == 65 && missing.errors.contains("config.json"))
  }
}
