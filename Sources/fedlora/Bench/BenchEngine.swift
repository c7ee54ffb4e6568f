import ArgumentParser
import FedLoRAEngine
import FedLoRAEngineBenchmark
import FedLoRASimulation
import Foundation

/// `fedlora bench engine`.
struct BenchEngine: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engine",
    abstract: "Time a LoRA training step, alone or beside PyTorch and PEFT on the same cores.",
    discussion: """
      A step is forward, backward and AdamW over LoRA (r = 8, alpha = 16, queries and values) and, for classes, a linear
      head. Every program waits in a process of its own and makes a step when its turn comes; a ratio is the median over
      turns. Models are random weights of a known shape, made once, or folders of yours.

        fedlora bench engine
        fedlora bench engine --model roberta-base,llama-135m --batch 8 --threads 2 --precision f32,bf16
        fedlora bench engine --pytorch python3 --kernels stock,tuned   # in a checkout; needs torch, transformers, peft
        fedlora bench engine --lengths lengths.txt                     # token counts of real texts, taken in turn
      """
  )

  @Option(
    help: "Shapes (\(ModelShape.allCases.map(\.rawValue).joined(separator: ", "))) or model folders, divided by commas."
  )
  var model = "minilm"
  @Option(help: "Sequences of a step, divided by commas.")
  var batch = "32"
  @Option(help: "Compute threads, divided by commas.")
  var threads = "1,2"
  @Option(help: "Tokens of each sequence; without it 128 for classes and 512 for causal LM.")
  var length: Int?
  @Option(help: "File of token counts, divided by white space and taken in turn.")
  var lengths: String?
  @Option(
    help:
      "How our base model is kept: f32, bf16, int8, nf4, divided by commas. The first is what others are compared with."
  )
  var precision = "f32"
  @Option(help: "Python interpreter with torch, transformers and peft, to measure beside them.")
  var pytorch: String?
  @Option(help: "PyTorch's kernels: stock, avx512, tuned, bf16, compiled, divided by commas.")
  var kernels = "stock,tuned"
  @Option(help: "The script of PyTorch's side.")
  var script = "Benchmarks/pytorch_step.py"
  @Option(help: "Steps of each program.")
  var turns = 7
  @Option(help: "Folder for models of known shapes.")
  var cache = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-shapes").path
  @Option(help: "How to print the results: text or json.")
  var format: OutputFormat = .text

  func run() async throws {
    let progress = Progress()
    let ways = try self.ways()
    let counts = try (batches: numbers(batch, "--batch"), threads: numbers(threads, "--threads"))
    let fixed = try fixedLengths()
    let benchmark = EngineBenchmark(
      ownCommand: [CommandLine.arguments.first.map(BenchEngine.program) ?? "fedlora", "bench", "step"],
      pytorchCommand: [pytorch ?? "python3", script],
      turns: turns
    )
    var rows: [EngineBenchmark.Row] = []
    for name in model.split(separator: ",").map(String.init) {
      let shape = ModelShape(rawValue: name)
      let folder: URL
      if let shape {
        progress.line("making a model of the shape of \(name)")
        folder = URL(fileURLWithPath: cache).appendingPathComponent(name)
        try await Blocking.run { try shape.write(to: folder) }
      } else {
        folder = URL(fileURLWithPath: name)
      }
      let outline = try ModelOutline(folder: folder)
      let isCausal = outline.spec.isDecoder && outline.hasLanguageHead
      let modules = Set(outline.modules.map(\.name))
      let targets =
        [
          ["query", "value"], ["q_proj", "v_proj"], ["q_lin", "v_lin"], ["c_attn"], ["query_key_value"], ["qkv_proj"],
        ]
        .first { modules.isSuperset(of: $0) } ?? []
      for batch in counts.batches {
        for threads in counts.threads {
          let setting = StepSetting(
            model: folder.path,
            isCausal: isCausal,
            targets: targets,
            batch: batch,
            lengths: fixed ?? [min(isCausal ? 512 : 128, outline.spec.maximumPositions)],
            threads: threads
          )
          let title = "\(name), batch \(batch), \(threads) thread\(threads == 1 ? "" : "s")"
          rows.append(
            try await Blocking.run {
              try benchmark.measure(name, setting, ways) { progress.line("\(title): \($0)") }
            }
          )
        }
      }
    }
    switch format {
    case .json: try Output.printJSON(rows)
    case .text: Output.write(BenchEngine.table(rows))
    }
  }

  private static func table(_ rows: [EngineBenchmark.Row]) -> String {
    let cells = rows.flatMap { row in
      row.outcomes.map { outcome in
        [
          row.model, "\(row.setting.batch)",
          String(format: "%.0f", Double(row.setting.tokens) / Double(row.setting.batch)),
          "\(row.setting.threads)", outcome.name, String(format: "%.1f", 1000 * outcome.medianSeconds),
          String(format: "%.1f", outcome.examplesPerSecond),
          outcome.ownIsFasterBy.map { String(format: "%.2f", $0) } ?? "1",
          String(format: "%.0f", outcome.report.peakMemoryMiB),
          String(format: "%.1f", outcome.report.readySeconds),
          String(format: "%.1f", outcome.report.startupSeconds),
        ]
      }
    }
    let software = rows.flatMap { $0.outcomes.map(\.report.software) }.reduce(into: [String]()) {
      if !$0.contains($1) { $0.append($1) }
    }
    return TextTable.draw(
      [
        "model", "batch", "tokens", "threads", "engine", "ms a step", "examples/s", "times ours", "MiB",
        "s to a first step", "s to its end",
      ],
      cells
    ) + "\n\n" + software.joined(separator: "\n")
  }

  private func ways() throws -> [EngineBenchmark.Way] {
    let own = try precision.split(separator: ",").map { text -> EngineBenchmark.Way in
      guard let known = BasePrecision(rawValue: String(text)) else {
        throw ValidationError("--precision is '\(text)', expected f32, bf16, int8 or nf4")
      }
      return .own(known)
    }
    guard !own.isEmpty else { throw ValidationError("--precision is empty") }
    guard pytorch != nil else { return own }
    guard FileManager.default.isReadableFile(atPath: script) else {
      throw ValidationError("\(script) is not there; run this in a checkout, or say --script")
    }
    return own + kernels.split(separator: ",").map { .pytorch(kernels: String($0)) }
  }

  private func fixedLengths() throws -> [Int]? {
    guard let lengths else { return length.map { [$0] } }
    guard let text = try? String(contentsOfFile: lengths, encoding: .utf8) else {
      throw CommandFailure(status: .badData, description: "\(lengths) cannot be read")
    }
    return try numbers(text, lengths)
  }

  private func numbers(_ text: String, _ name: String) throws -> [Int] {
    let parts = text.split { $0 == "," || $0.isWhitespace }
    let numbers = parts.compactMap { Int($0) }.filter { (1...1_000_000).contains($0) }
    guard numbers.count == parts.count, !numbers.isEmpty else {
      throw ValidationError("\(name) holds '\(text.prefix(60))', expected whole numbers from 1 on")
    }
    return numbers
  }

  /// This program, found again however it was called.
  private static func program(_ name: String) -> String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? name
  }
}

/// `fedlora bench step`: our side of `bench engine`, a process of its own.
struct BenchStep: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "step",
    abstract: "Make a step for each line on standard input; what bench engine starts.",
    shouldDisplay: false
  )

  @Argument(help: "Model folder.")
  var model: String
  @Option(help: "Sequences of a step.")
  var batch: Int
  @Option(help: "Compute threads.")
  var threads: Int
  @Option(help: "Modules with an adapter, divided by commas.")
  var targets: String
  @Option(help: "Token counts, divided by commas and taken in turn.")
  var lengths: String
  @Flag(help: "Predict tokens rather than classes.")
  var causal = false
  @Option(help: "How the base model is kept.")
  var precision: BasePrecision = .f32

  func run() async throws {
    let began = Date().timeIntervalSince1970 - ProcessInfo.processInfo.systemUptime + BenchStep.startedAt()
    let setting = StepSetting(
      model: model,
      isCausal: causal,
      targets: targets.split(separator: ",").map(String.init),
      batch: batch,
      lengths: lengths.split(separator: ",").compactMap { Int($0) },
      threads: threads
    )
    try await StepProgram(setting: setting, precision: precision).run(began: began)
  }

  /// Seconds from the machine's start to this process's, by the kernel's account; where it has none, those until now.
  private static func startedAt() -> Double {
    let fields = (try? String(contentsOfFile: "/proc/self/stat", encoding: .utf8))?.split(separator: ")").last?
      .split(separator: " ")
    let ticks = fields.flatMap { $0.count > 19 ? Double($0[19]) : nil }
    return ticks.map { $0 / Double(sysconf(Int32(_SC_CLK_TCK))) } ?? ProcessInfo.processInfo.systemUptime
  }
}
