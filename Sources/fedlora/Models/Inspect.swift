import ArgumentParser
import FedLoRAEngine
import Foundation

/// `fedlora inspect`.
struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Say what a model folder holds, what an adapter can sit on, and what it would weigh.",
    discussion: """
      Reads config.json and the headers of the safetensors files, no weights, so it answers at once for any size:

        fedlora inspect minilm
        fedlora inspect llama --rank 16 --target-modules q_proj,v_proj,down_proj
        fedlora inspect pythia --format json

      It refuses what a run would refuse: an unknown model_type, a key that asks for something else than fedlora computes, \
      a tensor that is missing or has another shape. docs/models.md lists the families and their keys.

      Adapter sizes are those of A and B in float32 for one round's message; under FedSA only A is shared. A head comes on \
      top.
      """
  )

  @Argument(help: "A Hugging Face model folder.")
  var model: String
  @Option(help: "The rank to tell sizes for; left out, a few usual ones.")
  var rank: Int?
  @Option(help: "Names of the modules with an adapter, with commas between; left out, the usual ones of the family.")
  var targetModules: String?
  @Option(help: "How to print the answer: text or json.")
  var format: OutputFormat = .text

  private static let usualRanks = [4, 8, 16, 32, 64]

  func validate() throws {
    if let rank, !(1...4096).contains(rank) { throw ValidationError("--rank is \(rank), expected 1 to 4096") }
    if let targetModules, names(targetModules).isEmpty {
      throw ValidationError("--target-modules names no module, expected names such as q_proj,v_proj")
    }
  }

  func run() throws {
    let outline = try ModelOutline(folder: URL(fileURLWithPath: model))
    let targets = targetModules.map(names) ?? ModelFamily.usualTargets(of: outline.spec.family)
    let taken = try outline.modules(taken: .suffixes(targets))
    let widest = taken.map { min($0.inputSize, $0.outputSize) }.min() ?? 0
    if let rank, rank > widest {
      throw CommandFailure(
        status: .usage,
        description:
          "--rank is \(rank), expected at most \(widest), the narrowest side of \(taken.map(\.name).joined(separator: ", "))"
      )
    }
    let ranks = rank.map { [$0] } ?? Self.usualRanks.filter { $0 <= widest }
    let answer = InspectAnswer(folder: model, outline: outline, targets: targets, taken: taken, ranks: ranks)
    switch format {
    case .json: try Output.printJSON(answer)
    case .text: Output.write(answer.text)
    }
  }

  private func names(_ list: String) -> [String] {
    list.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
  }
}
