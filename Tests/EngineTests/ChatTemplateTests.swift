import FedLoRAEngine
import Foundation
import Testing

/// Chat templates against transformers' Jinja (Tests/Oracles/make_template_fixtures.py).
@Suite("Chat templates")
struct ChatTemplateTests {
  private static let fixtures: JSONNode? = {
    let url = OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/templates.json")
    return (try? Data(contentsOf: url)).flatMap { try? JSONNode(parsing: Array($0)) }
  }()

  private func list(_ node: JSONNode?) -> [JSONNode] {
    if case .array(let items) = node { items } else { [] }
  }

  private func text(_ node: JSONNode?) -> String? {
    if case .string(let text) = node { text } else { nil }
  }

  private func values(_ node: JSONNode?) -> [(name: String, value: JSONNode)] {
    if case .object(let members) = node { members.map { ($0.key, $0.value) } } else { [] }
  }

  private func clock(_ format: String) -> String? { ["%d %b %Y": "04 Jul 2025", "%Y-%m": "2025-07"][format] }

  @Test("write every conversation as transformers does, or refuse it where that refuses")
  func families() throws {
    let fixtures = try #require(Self.fixtures)
    let families = list(fixtures["families"])
    let conversations = list(fixtures["conversations"])
    #expect(families.count == 11)
    var written = 0
    for family in families {
      let name = text(family["name"]) ?? ""
      let template = try ChatTemplate(text: try #require(text(family["template"])))
      for each in list(family["cases"]) {
        guard case .integer(let number) = each["conversation"] else { continue }
        let comment: Comment = "\(name): conversation \(number)"
        let found = Result {
          try template.text(
            of: conversations[number],
            values: values(family["tokens"]) + values(each["values"]),
            clock: clock
          )
        }
        if let wanted = text(each["output"]) {
          written += 1
          #expect(throws: Never.self, comment) { try found.get() }
          if let found = try? found.get() { #expect(found.utf8.elementsEqual(wanted.utf8), "\(comment) \(found)") }
        } else {
          #expect(throws: TemplateError.self, comment) { try found.get() }
        }
      }
    }
    #expect(written > 350)
  }

  @Test("mean what Jinja means, piece by piece")
  func snippets() throws {
    let fixtures = try #require(Self.fixtures)
    let snippets = list(fixtures["snippets"])
    #expect(snippets.count > 150)
    for snippet in snippets {
      let source = try #require(text(snippet["template"]))
      let comment: Comment = "\(source)"
      let found = Result {
        try ChatTemplate(text: source).text(of: .array([]), values: values(fixtures["values"]), clock: clock)
      }
      if let wanted = text(snippet["output"]) {
        #expect(throws: Never.self, comment) { try found.get() }
        if let found = try? found.get() {
          #expect(found.utf8.elementsEqual(wanted.utf8), "\(source)\n\(found)\n\(wanted)")
        }
      } else {
        #expect(throws: TemplateError.self, comment) { try found.get() }
      }
    }
  }

  @Test(
    "refuse what is not built, and say where",
    arguments: [
      ("a\n  {% include 'x' %}", "the statement 'include'", 2, 6),
      ("{% raw %}{% endraw %}", "the statement 'raw'", 1, 4),
      ("{{ x | wordcount }}", "the filter 'wordcount'", 1, 6), ("{{ 1 is sameas(1) }}", "the test 'sameas'", 1, 6),
      ("{{ 'a'.format(1) }}", "the method 'format'", 1, 14), ("{{ 'a%s' % 1 }}", "formatting a string", 1, 10),
      ("{% for i in [] recursive %}{% endfor %}", "recursive", 1, 16), ("{{ f(*a) }}", "arguments from a list", 1, 6),
      ("{{ {1: 2} }}", "as a key", 1, 5), ("{{ strftime_now('%Y') }}", "asks for the date", 1, 16),
      ("{{ 0x10 }}", "the number", 1, 4), ("{{ naïve }}", "is not ASCII", 1, 4),
      ("{{ '\\N{DASH}' }}", "the escape", 1, 5),
      ("{% set n = namespace(a=namespace()) %}", "a namespace inside", 1, 21),
      ("{% set n = namespace(_a=1) %}", "underscore", 1, 21), ("\r\n\r{{ namespace }}", "no text", 3, 4),
    ]
  )
  func refusals(source: String, words: String, line: Int, column: Int) throws {
    let error = #expect(throws: TemplateError.self) { try ChatTemplate(text: source).text(of: []) }
    #expect(error?.kind == .unsupported)
    let place = try #require(error?.place)
    #expect(place.line == line && place.column == column, "\(place)")
    #expect(error.map { "\($0)".contains(words) && "\($0)".contains("line \(line), column \(column)") } == true)
  }

  @Test("tell the template's own refusal from a fault")
  func raised() throws {
    let template = try ChatTemplate(text: "{{ raise_exception('users first') }}")
    let error = #expect(throws: TemplateError.self) { try template.text(of: []) }
    #expect(error?.kind == .raised && error?.reason == "users first")
    let dated = try ChatTemplate(text: "{{ strftime_now('%Y') }}")
    #expect(try dated.text(of: [], date: Date(timeIntervalSince1970: 1_750_000_000)) == "2025")
  }

  @Test(
    "end at their limits, whatever they do",
    arguments: [
      "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", "{{ 'a' * 10 ** 12 }}",
      "{{ range(10 ** 12) }}", "{{ range(0, 9223372036854775807, 1) | list | length }}",
      "{% set ns = namespace(a='aaaaaaaa') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
      "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
      "{% set ns = namespace(a=[1]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}",
      "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] | tojson %}{% endfor %}",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{{ 'aaaaaaaaaa'.replace('a', 'b' * 10000000).replace('b', 'c' * 1000) }}",
      "{% for i in range(1000) %}{{ 'a' * 9000 }}{% endfor %}", "{{ 'a\\na' | indent(10 ** 10) }}",
      "{{ 9223372036854775807 + 1 }}", "{{ -9223372036854775807 - 2 }}",
      "{{ 10 ** 400 }}",
      "{{ 1e308 * 10 }}",
      "{% set x %}{% for i in range(1000000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endset %}",
      "{{ [1, 2] | tojson(indent=1000000) }}",
      "{{ " + String(repeating: "(", count: 10000) + "1" + String(repeating: ")", count: 10000) + " }}",
      "{{ " + String(repeating: "1 + ", count: 10000) + "1 }}",
      "{{ " + String(repeating: "not ", count: 10000) + "1 }}",
      "{{ " + String(repeating: "-", count: 10001) + " 1 }}", "{{ x" + String(repeating: ".a", count: 10000) + " }}",
      String(repeating: "{% if 1 %}", count: 10000) + String(repeating: "{% endif %}", count: 10000),
      "{{ " + String(repeating: "[", count: 10000) + String(repeating: "]", count: 10000) + " }}",
      "{{ 1 if 1 else " + String(repeating: "1 if 1 else ", count: 10000) + "1 }}",
      "{{ x" + String(repeating: "|trim", count: 10000) + " }}",
    ]
  )
  func limits(source: String) throws {
    let error = #expect(throws: TemplateError.self) {
      try ChatTemplate(text: source).text(
        of: .array([]),
        values: [("x", .string("x"))],
        limits: TemplateLimits(steps: 300_000, bytes: 8 << 20)
      )
    }
    #expect(error?.kind == .limit, "\(error.map { "\($0)" } ?? "")")
  }

  @Test("are found in a model folder, with its special tokens")
  func folders() throws {
    let tiny = try ChatTemplate(folder: GenerationFixture.tiny)
    let hello = [ChatMessage(role: "user", content: " hi ")]
    #expect(try tiny.text(of: hello) == "<|user|>hi<|end|><|assistant|>")
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("template-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func write(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: folder.appendingPathComponent(name))
    }
    func kind() -> TemplateError.Kind? {
      #expect(throws: TemplateError.self) { try ChatTemplate(folder: folder) }?.kind
    }
    #expect(kind() == .file)
    try write("tokenizer_config.json", "{\"bos_token\": {\"content\": \"<b>\"}, \"eos_token\": null}")
    #expect(kind() == .file)
    try write("special_tokens_map.json", "{\"bos_token\": \"no\", \"eos_token\": \"<e>\"}")
    try write(
      "chat_template.jinja",
      "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}{{ add_generation_prompt }}\n"
    )
    #expect(try ChatTemplate(folder: folder).text(of: hello, addsGenerationPrompt: false) == "<b><e>FalseFalse")
    try FileManager.default.removeItem(at: folder.appendingPathComponent("chat_template.jinja"))
    try write(
      "tokenizer_config.json",
      "{\"chat_template\": [{\"name\": \"tool\", \"template\": \"t\"}, {\"name\": \"default\", \"template\": \"d\"}]}"
    )
    #expect(try ChatTemplate(folder: folder).text(of: hello) == "d")
    try write("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"tool\", \"template\": \"t\"}]}")
    #expect(kind() == .file)
    try write("tokenizer_config.json", "{")
    #expect(kind() == .file)
  }
}
