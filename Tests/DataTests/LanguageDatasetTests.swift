import FedLoRAEngine
import Foundation
import Testing

/// Texts, prompts and responses for a language model: from rows to tokens and the places that are learnt.
@Suite("Data for a language model")
struct LanguageDatasetTests {
  private func read(_ text: String, _ columns: DatasetColumns = DatasetColumns()) throws -> Dataset {
    try DatasetReader.read(Array(text.utf8), name: "rows", format: .jsonl, columns: columns, task: .causalLM)
  }

  @Test("prompts and responses are found by their usual names, a text without them is learnt whole")
  func columns() throws {
    let pairs = try read(
      #"{"question":"a b","answer":"c","user":"u1"}"# + "\n" + #"{"question":"d","answer":7,"user":"u1"}"#
    )
    #expect(pairs.labels.isEmpty && pairs.labelCounts.isEmpty)
    #expect(
      pairs.examples.map(\.text) == ["a b", "d"] && pairs.examples.map(\.pair) == ["c", "7"]
        && pairs.examples.allSatisfy { $0.client == "u1" && $0.label == Example.unlabelled }
    )
    let texts = try read(#"{"text":"a b c"}"#)
    #expect(texts.examples == [Example(text: "a b c", label: Example.unlabelled)])
    // A column that is named counts more than usual names.
    let named = try read(#"{"question":"x","answer":"y","body":"z"}"#, DatasetColumns(text: "body"))
    #expect(named.examples.first?.text == "z" && named.examples.first?.pair == nil)
    let swapped = try read(
      #"{"question":"x","answer":"y","hint":"z"}"#,
      DatasetColumns(prompt: "hint", response: "question")
    )
    #expect(swapped.examples.first?.text == "z" && swapped.examples.first?.pair == "x")
  }

  @Test(
    "a row that cannot be used is refused with line and column",
    arguments: [
      ("{\"prompt\":\"a\",\"response\":\" \"}", DatasetError.Code.emptyField, "response"),
      ("{\"prompt\":\"a\",\"response\":\"b\"}\n{\"prompt\":\"a\"}", .missingColumn, "response"),
      ("{\"prompt\":7,\"response\":\"b\"}", .wrongKind, "prompt"), ("{\"prompt\":\"a\"}", .missingColumn, "text"),
      ("", .empty, ""),
    ]
  )
  func refused(_ text: String, _ code: DatasetError.Code, _ mention: String) throws {
    let error = #expect(throws: DatasetError.self) { try read(text) }
    #expect(error?.code == code)
    #expect(mention.isEmpty || error?.description.contains(mention) == true)
  }

  @Test("two data sets for a language model have one fingerprint where their rows are the same in another order")
  func fingerprint() throws {
    let one = try read(#"{"prompt":"a","response":"b"}"# + "\n" + #"{"prompt":"c","response":"d"}"#)
    let two = try read(#"{"prompt":"c","response":"d"}"# + "\n" + #"{"prompt":"a","response":"b"}"#)
    let other = try read(#"{"prompt":"a","response":"d"}"# + "\n" + #"{"prompt":"c","response":"b"}"#)
    #expect(DatasetFingerprint.of(one) == DatasetFingerprint.of(two))
    #expect(DatasetFingerprint.of(one) != DatasetFingerprint.of(other))
  }

  @Test("dealing by label is refused where there are no labels")
  func partition() throws {
    let data = try read((0..<8).map { #"{"text":"t\#($0)"}"# }.joined(separator: "\n"))
    #expect(throws: PartitionError.self) {
      try PartitionPlan.draw(.dirichlet(alpha: 1), clients: 2, train: data, seed: 1)
    }
    let plan = try PartitionPlan.draw(.iid, clients: 2, train: data, seed: 1)
    #expect(try plan.applied(to: data).map(\.indices.count) == [4, 4])
  }

  // MARK: Tokens

  private static let words = ["<unk>", "<s>", "</s>", "q", "a", "one", "two", "three", "?"]

  /// Words between spaces, a start token, and no end token of its own.
  private func tokenizer() throws -> Tokenizer {
    let vocabulary = Self.words.enumerated().map { "\"\($1)\": \($0)" }.joined(separator: ", ")
    let json = """
      {"version": "1.0", "added_tokens": [
        {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
         "special": true},
        {"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
         "special": true}],
       "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
       "post_processor": {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
       "decoder": null, "model": {"type": "WordLevel", "vocab": {\(vocabulary)}, "unk_token": "<unk>"}}
      """
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).json")
    defer { try? FileManager.default.removeItem(at: file) }
    try Data(json.utf8).write(to: file)
    return try Tokenizer.load(from: file)
  }

  private func encode(_ example: Example, _ format: String, maxLength: Int = 32, end: Int32? = 2) throws
    -> EncodedExample
  {
    try #require(
      try TokenizedDataset(
        language: Dataset(examples: [example], labels: []),
        tokenizer: tokenizer(),
        format: PromptFormat(format),
        endOfText: end,
        maxLength: maxLength
      ).examples.first
    )
  }

  @Test("of a prompt and a response the response and the end are learnt, the format's own words as they stand")
  func response() throws {
    let pair = Example(text: "one two", pair: "three", label: Example.unlabelled)
    let plain = try encode(pair, "{prompt} {response}")
    #expect(plain.ids == [1, 5, 6, 7, 2] && plain.targets == [3..<5])
    let formatted = try encode(pair, "q {prompt} ? a {response} q")
    #expect(formatted.ids == [1, 3, 5, 6, 8, 4, 7, 3, 2] && formatted.targets == [6..<9])
    // Without a blank the last word of the prompt and the response are one token, which the model has to say.
    let joined = try encode(pair, "{prompt}{response}")
    #expect(joined.ids == [1, 5, 0, 2] && joined.targets == [2..<4])
    #expect(try encode(pair, "{prompt} {response}", end: nil).ids == [1, 5, 6, 7])
  }

  @Test("a text is learnt whole, but for the start that nothing predicts")
  func text() throws {
    let whole = try encode(Example(text: "one two", label: Example.unlabelled), "{prompt}{response}")
    #expect(whole.ids == [1, 5, 6, 2] && whole.targets == [1..<4])
    var batch = PackedBatch()
    batch.append(whole)
    #expect(batch.targets == [5, 6, 2, -1] && batch.labels == [-1])
    batch.append(try encode(Example(text: "one two", pair: "three", label: Example.unlabelled), "{prompt} {response}"))
    #expect(batch.targets == [5, 6, 2, -1, -1, -1, 7, 2, -1] && batch.targetCount == 5)
  }

  @Test("what is too long loses its end, and nothing to learn at all is refused")
  func truncation() throws {
    let pair = Example(text: "one two", pair: "three one", label: Example.unlabelled)
    let cut = try encode(pair, "{prompt} {response}", maxLength: 4)
    #expect(cut.ids == [1, 5, 6, 7] && cut.targets == [3..<4])
    #expect(throws: ModelError.self) { try encode(pair, "{prompt} {response}", maxLength: 3) }
  }

  @Test(
    "a format without prompt and response in this order is refused",
    arguments: [
      "", "{prompt}", "{response}", "{response} {prompt}", "{prompt} {prompt} {response}", "{Prompt}{response}",
    ]
  )
  func format(_ text: String) throws {
    #expect(throws: ModelError.self) { try PromptFormat(text) }
  }

  @Test("the end token comes from the tokenizer's configuration, else from the model's")
  func endOfText() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    func write(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: folder.appendingPathComponent(name))
    }
    let tokenizer = try tokenizer()
    #expect(EndOfText.token(in: folder, tokenizer: tokenizer) == nil)
    try write("config.json", #"{"eos_token_id": [2, 1]}"#)
    #expect(EndOfText.token(in: folder, tokenizer: tokenizer) == 2)
    try write("config.json", #"{"eos_token_id": 99}"#)
    #expect(EndOfText.token(in: folder, tokenizer: tokenizer) == nil)
    try write("tokenizer_config.json", #"{"eos_token": {"content": "<s>"}}"#)
    #expect(EndOfText.token(in: folder, tokenizer: tokenizer) == 1)
    try write("tokenizer_config.json", #"{"eos_token": "</s>"}"#)
    #expect(EndOfText.token(in: folder, tokenizer: tokenizer) == 2)
  }
}
