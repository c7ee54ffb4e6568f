import ArgumentParser
import FedLoRAEngine
import Foundation
import Synchronization

/// `fedlora generate`.
struct Generate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Go on with a text, by a language model and, where given, an adapter that was trained.",
    discussion: """
      MODEL is a Hugging Face folder of a language model; --adapter is a PEFT folder, from a run or from elsewhere. The text comes as
      it is made; numbers about speed go to standard error.

        fedlora generate smollm --prompt "Once upon a time"
        fedlora generate smollm --adapter run/adapter --chat --prompt "Who are you?" --temperature 0.7 --top-p 0.9 --seed 1
        fedlora generate smollm --prompts questions.jsonl --max-new-tokens 64 > answers.jsonl

      Without --temperature the likeliest token is taken each time. The same options and seed give the same text on the same machine.
      With --chat the prompt is a user's message, written as the model's own chat template says. A line of --prompts is
      {"prompt": "..."} or {"messages": [{"role": "user", "content": "..."}]}; each line of the answer is a JSON object.
      """
  )

  @Argument(help: "Hugging Face folder of the model.")
  var model: String
  @Option(help: "PEFT folder of an adapter for it.")
  var adapter: String?
  @Option(help: "The text to go on with.")
  var prompt: String?
  @Option(help: "File with a prompt or a conversation on each line (JSONL).")
  var prompts: String?
  @Flag(help: "Take a prompt as a user's message, by the model's chat template.")
  var chat = false
  @Option(help: "System message before the user's; with --chat.")
  var system: String?
  @Option(help: "Most new tokens.")
  var maxNewTokens = 128
  @Option(help: "0 takes the likeliest token; above it, larger is more surprising.")
  var temperature = 0.0
  @Option(help: "Draw among so many likeliest tokens only.")
  var topK: Int?
  @Option(help: "Draw among the likeliest tokens that have this probability together.")
  var topP = 1.0
  @Option(help: "Above 1, tokens that were seen become less likely.")
  var repetitionPenalty = 1.0
  @Option(help: "What draws follow from.")
  var seed: UInt64 = 0
  @Option(help: "Compute threads; a single prompt uses one.")
  var threads = ProcessInfo.processInfo.activeProcessorCount
  @Option(help: "How the model is kept in memory: f32, bf16, int8 or nf4.")
  var precision: BasePrecision = .f32
  @Flag(help: "Add the adapter to a copy of the weights that it sits on: quicker, and more memory.")
  var mergeAdapter = false
  @Option(help: "How to print: text as it comes, or json at the end.")
  var format: OutputFormat = .text

  func validate() throws {
    guard (prompt == nil) != (prompts == nil) else {
      throw ValidationError("give either --prompt TEXT or --prompts FILE")
    }
    guard system == nil || chat else { throw ValidationError("--system needs --chat") }
    guard threads >= 1, threads <= 256 else { throw ValidationError("--threads is \(threads), expected 1 to 256") }
    do { _ = try options(stopTokens: []) } catch { throw ValidationError(Output.message(for: error)) }
  }

  private func options(stopTokens: Set<Int32>) throws(GenerationError) -> GenerationOptions {
    try GenerationOptions(
      maximumNewTokens: maxNewTokens,
      sampling: Sampling(
        temperature: temperature,
        topK: topK,
        topP: topP,
        repetitionPenalty: repetitionPenalty
      ),
      stopTokens: stopTokens,
      seed: seed
    )
  }

  func run() async throws {
    let folder = URL(fileURLWithPath: model)
    let source = try prompts.map { try PromptFile.prompts(of: URL(fileURLWithPath: $0)) } ?? [.text(prompt ?? "")]
    let isStreaming = prompts == nil && format == .text
    // Reading a model and encoding texts block, as generating does: all on threads of our own.
    let pool = ComputePool(threadCount: min(threads, max(1, source.count)))
    defer { pool.shutDown() }
    let cancelled = Mutex(false)
    let result = try await Interrupt.cancelling(notice: "stopping") {
      try await withTaskCancellationHandler {
        try await pool.perform {
          try generate(source, folder, pool, isStreaming: isStreaming) { cancelled.withLock { $0 } }
        }
      } onCancel: {
        cancelled.withLock { $0 = true }
      }
    }
    if isStreaming {
      Output.write("")
    } else if format == .json {
      try Output.printJSON(result)
    } else {
      for text in result.texts { Output.write(try text.line()) }
    }
    Output.note(result.summary)
    if cancelled.withLock({ $0 }) { throw CancellationError() }
  }

  private func generate(
    _ source: [PromptFile.Prompt],
    _ folder: URL,
    _ pool: ComputePool,
    isStreaming: Bool,
    _ isCancelled: @escaping @Sendable () -> Bool
  ) throws -> GenerationReport {
    let loaded = try LanguageModel(
      folder: folder,
      adapter: adapter.map { URL(fileURLWithPath: $0) },
      precision: precision
    )
    let tokenizer = try Tokenizer.load(from: folder)
    let template = source.contains { $0.isChat } || chat ? try ChatTemplate(folder: folder) : nil
    let encoded = try source.map { prompt in
      if let template, let text = try prompt.conversation(isChat: chat, system: system, template) {
        return try tokenizer.encodeIds(text, addSpecialTokens: false).ids
      }
      return try tokenizer.encodeIds(prompt.words).ids
    }
    let generator = try TokenGenerator(
      model: loaded.model,
      parameters: loaded.parameters,
      pool: pool,
      mergesAdapter: mergeAdapter
    )
    let options = try options(stopTokens: GenerationOptions.stopTokens(of: folder))
    let stream = Mutex(TextStream(tokenizer, after: isStreaming ? encoded[0] : []))
    let start = ContinuousClock.now
    let found = try generator.generate(encoded, options: options) { _, token in
      if isStreaming { Self.show(stream.withLock { $0.append(token) }) }
      return !isCancelled()
    }
    if isStreaming { Self.show(stream.withLock { $0.finish() }) }
    return GenerationReport(
      texts: zip(encoded, found).enumerated().map { index, pair in
        var stream = TextStream(tokenizer, after: pair.0)
        let text = pair.1.tokens.map { stream.append($0) }.joined() + stream.finish()
        return GenerationReport.Text(
          index: index,
          text: text,
          prompt_tokens: pair.0.count,
          new_tokens: pair.1.tokens.count,
          end: pair.1.end.rawValue
        )
      },
      seconds: (ContinuousClock.now - start) / .seconds(1)
    )
  }

  private static func show(_ text: String) {
    if !text.isEmpty { FileHandle.standardOutput.write(Data(text.utf8)) }
  }
}

/// What `fedlora generate` prints.
struct GenerationReport: Encodable, Sendable {
  struct Text: Encodable, Sendable {
    let index: Int
    let text: String
    let prompt_tokens: Int
    let new_tokens: Int
    /// `stop-token`, `length`, `context` or `cancelled`.
    let end: String

    /// As one line of JSON.
    func line() throws -> String {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }

  let texts: [Text]
  let seconds: Double

  private var newTokens: Int { texts.reduce(0) { $0 + $1.new_tokens } }

  /// For people.
  var summary: String {
    let read = texts.reduce(0) { $0 + $1.prompt_tokens }
    let rate = String(format: "%.1f", Double(newTokens) / max(seconds, 1e-9))
    let ends = Dictionary(grouping: texts, by: \.end).map { "\($0.value.count) by \($0.key)" }.sorted()
    return
      "\(read) tokens read, \(newTokens) made in \(String(format: "%.2f", seconds)) s: \(rate) tokens a second; ended: "
      + ends.joined(separator: ", ")
  }

  private enum Keys: String, CodingKey { case texts, seconds, new_tokens, tokens_per_second }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Keys.self)
    try container.encode(texts, forKey: .texts)
    try container.encode(seconds, forKey: .seconds)
    try container.encode(newTokens, forKey: .new_tokens)
    try container.encode(Double(newTokens) / max(seconds, 1e-9), forKey: .tokens_per_second)
  }
}

/// The lines of `--prompts`.
enum PromptFile {
  /// A text, or a conversation.
  enum Prompt: Sendable {
    case text(String)
    case messages([ChatMessage])

    var isChat: Bool {
      if case .messages = self { return true }
      return false
    }

    var words: String {
      if case .text(let text) = self { return text }
      return ""
    }

    /// The conversation as the model reads it; nil for a plain text.
    func conversation(isChat: Bool, system: String?, _ template: ChatTemplate) throws -> String? {
      let opening = system.map { [ChatMessage(role: "system", content: $0)] } ?? []
      switch self {
      case .text(let text):
        return isChat ? try template.text(of: opening + [ChatMessage(role: "user", content: text)], date: Date()) : nil
      case .messages(let messages): return try template.text(of: opening + messages, date: Date())
      }
    }
  }

  /// Reads a file.
  /// - Throws: `CommandFailure` with path and line.
  static func prompts(of file: URL) throws -> [Prompt] {
    func bad(_ line: Int?, _ reason: String) -> CommandFailure {
      CommandFailure(
        status: .badData,
        description: "\(file.path)\(line.map { ", line \($0)" } ?? ""): \(reason)"
      )
    }
    guard let data = try? Data(contentsOf: file) else { throw bad(nil, "cannot be read") }
    struct Line: Decodable {
      struct Message: Decodable {
        let role: String
        let content: String
      }
      let prompt: String?
      let messages: [Message]?
    }
    var result: [Prompt] = []
    for (index, line) in data.split(separator: 10, omittingEmptySubsequences: false).enumerated() {
      if line.allSatisfy({ [9, 13, 32].contains($0) }) { continue }
      guard let read = try? JSONDecoder().decode(Line.self, from: Data(line)) else {
        throw bad(index + 1, "is not {\"prompt\": \"…\"} or {\"messages\": [{\"role\": \"…\", \"content\": \"…\"}]}")
      }
      switch (read.prompt, read.messages) {
      case (let prompt?, nil): result.append(.text(prompt))
      case (nil, let messages?):
        result.append(.messages(messages.map { ChatMessage(role: $0.role, content: $0.content) }))
      default: throw bad(index + 1, "needs either 'prompt' or 'messages'")
      }
    }
    guard !result.isEmpty else { throw bad(nil, "holds no prompt") }
    return result
  }
}
