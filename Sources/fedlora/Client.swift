import ArgumentParser
import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAProtocol
import FedLoRASimulation
import Foundation
import Logging

extension BasePrecision: ExpressibleByArgument {}
extension AnswerMatch: ExpressibleByArgument {}
extension MultipleChoice.Length: ExpressibleByArgument {}

/// `fedlora client`.
struct Client: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Join a run and train on your own data, which stays here.",
    discussion: """
      The client dials out and needs no open port. What is personal (under FedSA-LoRA: B and the head) stays in the state
      folder; kill the client at any time and start it again with the same command.

        fedlora client --server 10.0.0.5:7443 --identity clinic-a --model minilm --data mine.jsonl --labels neg,pos
      """
  )

  @Option(help: "The coordinator's address, HOST:PORT.")
  var server: String
  @Option(help: "Folder with this client's key and certificates, as 'fedlora enroll' makes it.")
  var identity: String
  @Option(help: "Base model: the Hugging Face folder that the run names by its fingerprint.")
  var model: String
  @Option(help: "Training examples: JSONL, CSV or TSV.")
  var data: String
  @Option(help: "Held-out examples, evaluated with the final adapter.")
  var test: String?
  @Option(help: "Class names in the run's order, separated by commas; without it those of the data, sorted.")
  var labels: String?
  @Option(help: "Column of the text; the usual names are found without it.")
  var text: String?
  @Option(help: "Column of the second text of a pair.")
  var textPair: String?
  @Option(help: "Column of the class, or of the number where the run is a regression.")
  var label: String?
  @Option(help: "Column of the prompt, where the run trains a language model.")
  var prompt: String?
  @Option(help: "Column of the response, where the run trains a language model; without both the text is learnt whole.")
  var response: String?
  @Option(help: "Column of conversations (a list of role and content), where the run trains a language model.")
  var messages: String?
  @Option(help: "Column of answers to choose from (a list), where the run trains a language model.")
  var choices: String?
  @Option(help: "Generate an answer to each held-out prompt; right is: plain, squad, gsm8k or last-number.")
  var exactMatch: AnswerMatch?
  @Option(help: "Most tokens of such an answer.")
  var maxNewTokens = 64
  @Option(help: "What the likelihood of a choice is divided by: none, tokens, characters or bytes.")
  var choiceLength: MultipleChoice.Length = .characters
  @Option(help: "Longest sequence in tokens: refuses a run with another model.max_length; without it the run's counts.")
  var maxLength: Int?
  @Option(help: "Folder of this client's durable state.")
  var state = "fedlora-client"
  @Option(help: "Folder for the final adapter (PEFT); without it STATE/adapter.")
  var adapter: String?
  @Option(
    help: "How the base model is kept in memory: f32, bf16 (also faster, where the processor has it), int8 or nf4."
  )
  var precision: BasePrecision = .f32
  @Option(help: "Compute threads.")
  var threads = 1
  @Option(help: "Policy file (YAML): what this client agrees to. 'fedlora privacy policy' prints the standard one.")
  var policy: String?
  @Option(help: "Folder of the ledgers of what was spent on each data set; without it STATE/ledgers.")
  var ledgers: String?
  @Flag(help: "Do not tell the coordinator the mean training loss, which in private runs is never told.")
  var hideLoss = false
  @OptionGroup var log: LogOptions
  @Option(help: "How to print the result: text or json.")
  var format: OutputFormat = .text

  func validate() throws {
    guard maxNewTokens >= 1 else { throw ValidationError("--max-new-tokens is \(maxNewTokens), expected at least 1") }
  }

  func run() async throws {
    let (host, port) = try address()
    let (logger, isJSON) = (log.logger("fedlora.client"), log.isJSON)
    let tls = try TLSIdentity.load(from: URL(fileURLWithPath: identity))
    let folder = URL(fileURLWithPath: model)
    let base = try FrozenModel(folder: folder, precision: precision)
    // Here, where nobody waits for this thread: every run's terms are compared with it.
    _ = base.fingerprint
    let tokenizer = try Tokenizer.load(from: folder)
    let columns = DatasetColumns(
      text: text,
      pair: textPair,
      label: label,
      prompt: prompt,
      response: response,
      messages: messages,
      choices: choices
    )
    let questions = QuestionTerms(match: exactMatch, maximumNewTokens: maxNewTokens, choiceLength: choiceLength)
    let names = labels?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    let agreedLength = maxLength
    var agreed = try policy.map { try ClientPolicy.load(URL(fileURLWithPath: $0)) } ?? .standard
    if hideLoss { agreed.metrics.removeAll { $0 == "loss" } }
    let source = URL(fileURLWithPath: data)
    // A file that is not there is said at once; what is in it is read when the run's terms are acceptable.
    guard FileManager.default.isReadableFile(atPath: source.path) else {
      throw CommandFailure(status: .badData, description: "\(data) cannot be read")
    }
    let reader = RecordReader(folder: folder, tokenizer: tokenizer, columns: columns)
    let local = LocalData { terms in
      try await Blocking.run {
        let own = try reader.read(source, labels: names, terms)
        let length = agreedLength ?? terms.maxLength
        return ClientRecords(
          // Of another length nothing is trained: the run is refused.
          examples: length == terms.maxLength ? try reader.encode(own, terms) : [],
          labels: own.labels,
          maxLength: length,
          fingerprint: DatasetFingerprint.of(own)
        )
      }
    }
    let slots = EngineSlots(base: base, count: 1, threadsPerSlot: threads)
    let stateFolder = URL(fileURLWithPath: state)
    let trainer = EngineTrainer(
      slots: slots,
      data: local,
      privacy: ClientPrivacy(
        policy: agreed,
        ledgerFolder: ledgers.map { URL(fileURLWithPath: $0) } ?? stateFolder.appendingPathComponent("ledgers")
      )
    )
    let identityFolder = URL(fileURLWithPath: identity)
    let keeper = IdentityKeeper(folder: identityFolder, logger: logger) { if !isJSON { Output.note($0) } }
    let client = FederatedClient(
      identity: tls,
      host: host,
      port: port,
      stateDirectory: stateFolder,
      trainer: trainer,
      reload: { try await TLSIdentity.read(from: identityFolder) },
      logger: logger
    ) { if !isJSON { Client.show($0) } }
    let outcome = try await Interrupt.cancelling(notice: "stopping; run the same command again to rejoin") {
      let keeping = Task { await keeper.run() }
      defer { keeping.cancel() }
      return try await client.run()
    }
    let held = { (terms: RecordTerms) -> HeldOut? in
      guard let test else { return nil }
      let classes = try await local.records(terms).labels
      return try await Blocking.run {
        try reader.heldOut(try reader.read(URL(fileURLWithPath: test), labels: classes, terms), terms, questions)
      }
    }
    try await finish(outcome, trainer, held, base.spec)
  }

  private func address() throws -> (host: String, port: Int) {
    guard let colon = server.lastIndex(of: ":"), let port = Int(server[server.index(after: colon)...]),
      (1...65535).contains(port), colon > server.startIndex
    else { throw ValidationError("--server is '\(server)', expected HOST:PORT such as 10.0.0.5:7443") }
    return (String(server[..<colon]).trimmingCharacters(in: CharacterSet(charactersIn: "[]")), port)
  }

  private static func show(_ event: ClientEvent) {
    switch event {
    case .connected(let address): Output.note("connected to \(address)")
    case .disconnected(let reason, let delay):
      Output.note(String(format: "connection lost: %@; trying again in %.1f s", reason, delay.inSeconds))
    case .accepted(let run): Output.note("joined run '\(run)'")
    case .roundStarted(let round): Output.note("round \(round): training")
    case .trained(let round, let metrics):
      let loss = metrics["loss"].map { String(format: ", loss %.4f", $0) } ?? ""
      Output.note("round \(round): trained\(loss)")
    case .acknowledged(let round, let status, let reason):
      Output.note("round \(round): update \(status)\(reason.isEmpty ? "" : ": \(reason)")")
    case .waiting(let reason): Output.note("waiting: \(reason)")
    case .finished: break
    }
  }

  private func finish(
    _ outcome: ClientOutcome,
    _ trainer: EngineTrainer,
    _ readHeld: (RecordTerms) async throws -> HeldOut?,
    _ spec: TransformerSpec
  ) async throws {
    switch outcome.ending {
    case .completed: break
    case .failed(let reason): throw CommandFailure(status: .runFailed, description: "the run failed: \(reason)")
    case .stopped(let reason): throw CommandFailure(status: .runFailed, description: "the run was stopped: \(reason)")
    case .declined(let code, let reason):
      throw CommandFailure(status: .unavailable, description: "this client does not take part: \(reason) (\(code))")
    }
    guard let manifest = outcome.manifest, let state = outcome.finalState else {
      throw CommandFailure(status: .failed, description: "the run completed without a final state")
    }
    let assignment = RoundAssignment(
      manifest: manifest,
      round: Int(manifest.rounds),
      clientName: "",
      state: state,
      personal: outcome.personal
    )
    let folder = URL(fileURLWithPath: adapter ?? (self.state + "/adapter"))
    let terms = try RunTerms(manifest)
    try PEFTAdapterFolder(
      configuration: terms.adapter.peft(baseModel: model, spec: spec, task: terms.task, pooling: terms.head?.pooling),
      tensors: try trainer.adapter(assignment)
    ).write(to: folder)
    struct Summary: Encodable {
      let run: String
      let rounds_trained: Int
      let bytes_sent: Int
      let bytes_received: Int
      let adapter: String
      let accuracy: Double?
      let perplexity: Double?
      let measures: [String: Double]?
      let counts: HeldOutCounts?
    }
    let held = try await readHeld(terms.records)
    let score: TaskScore? = if let held { try await trainer.score(assignment, on: held) } else { nil }
    let perplexity = terms.task == .causalLM ? score?.losses.perplexity : nil
    let accuracy = terms.task == .regression ? nil : score?.losses.accuracy
    let measures = score?.measures ?? []
    let summary = Summary(
      run: manifest.runID,
      rounds_trained: outcome.roundsTrained,
      bytes_sent: outcome.traffic.sent,
      bytes_received: outcome.traffic.received,
      adapter: folder.path,
      accuracy: accuracy,
      perplexity: perplexity,
      measures: measures.isEmpty
        ? nil : Dictionary(uniqueKeysWithValues: measures.map { ($0.measure.rawValue, $0.value) }),
      counts: score.flatMap { HeldOutCounts($0) }
    )
    if format == .json { return try Output.printJSON(summary) }
    let shown =
      [
        perplexity.map { String(format: "perplexity %.2f", $0) }
          ?? accuracy.map { String(format: "accuracy %.1f %%", 100 * $0) }
      ].compactMap { $0 } + measures.map { String(format: "%@ %.4f", $0.measure.rawValue, $0.value) }
    let found = shown.isEmpty ? "" : "; on held-out data " + shown.joined(separator: ", ")
    Output.write(
      "run '\(summary.run)' completed; trained \(summary.rounds_trained) rounds\(found); adapter (PEFT): \(folder.path)"
    )
  }
}
