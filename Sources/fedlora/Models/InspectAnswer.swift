import FedLoRAEngine
import Foundation

/// What `fedlora inspect` prints, as data.
struct InspectAnswer: Encodable {
  struct Architecture: Encodable {
    let family: String
    let is_decoder: Bool
    let layers: Int
    let hidden: Int
    let heads: Int
    let head_size: Int
    let key_value_heads: Int
    let feed_forward: Int
    let vocabulary: Int
    let activation: String
    let is_gated: Bool
    let norm: String
    let norm_placement: String
    let residual: String
    let positions: String
    let context: Int
    let window: Int?
    let window_in_all_layers: Bool
  }

  struct Parameters: Encodable {
    let total: Int
    let embeddings: Int
    let has_language_head: Bool
    let is_tied: Bool
    let stored_as: [String]
    let stored_bytes: Int
  }

  struct Memory: Encodable {
    let precision: String
    let bytes: Int
    let note: String
  }

  struct Module: Encodable {
    let path: String
    let name: String
    let input: Int
    let output: Int
    let count: Int
  }

  struct Size: Encodable {
    let rank: Int
    let parameters: Int
    let bytes: Int
    let fedsa_shared_bytes: Int
  }

  struct Adapter: Encodable {
    let target_modules: [String]
    let adapted: Int
    let sizes: [Size]
  }

  let folder: String
  let architecture: Architecture
  let parameters: Parameters
  let memory: [Memory]
  let modules: [Module]
  let adapter: Adapter

  init(
    folder: String,
    outline: ModelOutline,
    targets: [String],
    taken: [ModelOutline.Module],
    ranks: [Int]
  ) {
    self.folder = folder
    architecture = Architecture(outline.spec)
    let count = outline.parameterCount
    parameters = Parameters(
      total: count,
      embeddings: outline.embeddingCount,
      has_language_head: outline.hasLanguageHead,
      is_tied: outline.isTied,
      stored_as: outline.storedTypes,
      stored_bytes: outline.storedBytes
    )
    memory = BasePrecision.allCases.map { precision in
      let isMapped = outline.storedTypes == [precision.rawValue.uppercased()]
      let note =
        switch precision {
        case .f32: isMapped ? "mapped from the file" : "widened when read"
        case .bf16: isMapped ? "mapped from the file" : "rounded when read"
        case .int8: "linear modules in 8 bits, embeddings and head in bf16"
        case .nf4: "linear modules in 4 bits (NF4), embeddings and head in bf16"
        }
      return Memory(precision: precision.rawValue, bytes: outline.byteCount(in: precision), note: note)
    }
    modules = outline.modules.map {
      Module(path: $0.path, name: $0.name, input: $0.inputSize, output: $0.outputSize, count: $0.count)
    }
    adapter = Adapter(
      target_modules: targets,
      adapted: taken.reduce(0) { $0 + $1.count },
      sizes: ranks.map { rank in
        let inputs = taken.reduce(0) { $0 + $1.count * $1.inputSize } * rank
        let outputs = taken.reduce(0) { $0 + $1.count * $1.outputSize } * rank
        return Size(
          rank: rank,
          parameters: inputs + outputs,
          bytes: 4 * (inputs + outputs),
          fedsa_shared_bytes: 4 * inputs
        )
      }
    )
  }

  /// The answer for people.
  var text: String {
    let a = architecture
    var lines = ["model        \(folder)", "family       \(a.family), \(a.is_decoder ? "decoder" : "encoder")"]
    lines.append(
      "layers       \(a.layers), hidden \(a.hidden), feed-forward \(a.feed_forward) (\(a.activation)\(a.is_gated ? ", gated" : ""))"
    )
    let shared = a.key_value_heads == a.heads ? "" : ", \(a.key_value_heads) of keys and values"
    lines.append("heads        \(a.heads) of \(a.head_size)\(shared)")
    lines.append("norms        \(a.norm), \(a.norm_placement); residual \(a.residual)")
    let window = a.window.map { ", window of \($0)\(a.window_in_all_layers ? "" : " in some layers")" } ?? ""
    lines.append("positions    \(a.positions), \(a.context) tokens at most\(window)")
    lines.append("vocabulary   \(a.vocabulary)")
    let head = parameters.is_tied ? ", tied with the language head" : ""
    lines.append("parameters   \(parameters.total), of them embeddings \(parameters.embeddings)\(head)")
    lines.append("stored as    \(parameters.stored_as.joined(separator: ", ")), \(Self.size(parameters.stored_bytes))")
    if a.is_decoder, !parameters.has_language_head {
      lines.append("             no language head: it can classify, but not predict tokens")
    }
    lines += ["", "memory for the weights"]
    lines += memory.map { "  \(Self.left($0.precision, 8))\(Self.right(Self.size($0.bytes), 12))   \($0.note)" }
    lines += ["", "modules that an adapter can sit on"]
    let widest = modules.map(\.path.count).max() ?? 0
    lines += modules.map { "  \(Self.left($0.path, widest))  \($0.input) -> \($0.output)  x \($0.count)" }
    lines += ["", "adapter on \(adapter.target_modules.joined(separator: ", ")): \(adapter.adapted) modules"]
    lines.append(
      "  \(Self.left("rank", 6))\(Self.right("parameters", 14))\(Self.right("whole", 14))\(Self.right("FedSA shares", 14))"
    )
    lines += adapter.sizes.map {
      "  \(Self.left("\($0.rank)", 6))\(Self.right("\($0.parameters)", 14))\(Self.right(Self.size($0.bytes), 14))"
        + Self.right(Self.size($0.fedsa_shared_bytes), 14)
    }
    return lines.joined(separator: "\n")
  }

  private static func left(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  private static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  /// Bytes in the largest binary unit that leaves at least one.
  private static func size(_ bytes: Int) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] where bytes >= unit {
      return String(format: "%.1f %@", Double(bytes) / Double(unit), name)
    }
    return "\(bytes) B"
  }
}

extension InspectAnswer.Architecture {
  init(_ spec: TransformerSpec) {
    family = spec.family
    is_decoder = spec.isDecoder
    layers = spec.layerCount
    hidden = spec.hiddenSize
    heads = spec.headCount
    head_size = spec.headSize
    key_value_heads = spec.keyValueHeadCount
    feed_forward = spec.feedForwardSize
    vocabulary = spec.vocabularySize
    activation = spec.feedForward.activation.rawValue
    is_gated = spec.feedForward.isGated
    norm = spec.normKind == .layer ? "layer norm" : "RMSNorm"
    norm_placement =
      switch spec.normPlacement {
      case .post: "after each block"
      case .pre: "before each block"
      case .around: "before and after each block"
      }
    residual = spec.residual.rawValue
    switch spec.positions {
    case .learned: positions = "learned"
    case .rotary(let rotary):
      let scaled =
        switch rotary.scaling {
        case .none: ""
        case .linear(let factor): ", linear by \(factor)"
        case .llama3(let factor, _, _, _): ", llama3 by \(factor)"
        case .long: ", longrope"
        }
      let share = rotary.width == spec.headSize ? "" : " of \(rotary.width) in each head's \(spec.headSize)"
      positions = "rotary\(share), base \(rotary.base)\(scaled)"
    }
    context = spec.maximumPositions
    if case .causal(let most) = spec.attention { window = most } else { window = nil }
    window_in_all_layers = spec.windowedLayers == .all
  }
}
