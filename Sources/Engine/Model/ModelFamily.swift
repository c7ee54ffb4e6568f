/// The families that fedlora knows. Adding one is a file with a spec and names, and a line in each function here.
public enum ModelFamily {
  /// Every `model_type` that is known.
  public static let modelTypes =
    BertFamily.modelTypes + [DistilBertFamily.modelType] + LlamaFamily.modelTypes
    + [GPT2Family.modelType, GPTNeoXFamily.modelType] + GemmaFamily.modelTypes + [Phi3Family.modelType]

  /// Finds the family that `config` names.
  /// - Throws: `ModelError.unsupported` for an unknown `model_type`.
  static func resolve(_ config: HuggingFaceConfiguration) throws -> (TransformerSpec, TensorNames) {
    let modelType = try config.require("model_type", oneOf: modelTypes, default: "")
    if let method = try config.section("quantization_config") {
      let found = try method.text("quant_method", default: "set")
      throw ModelError.unsupported(
        file: config.file,
        key: "quantization_config",
        found: "'\(found)'",
        supported: "weights in F32, F16 or BF16"
      )
    }
    // Transformers ties these where the configuration does not say.
    let usuallyTied = ["gpt2", "gemma", "gemma2", "smollm3"].contains(modelType)
    func isTied() throws -> Bool { try config.flag("tie_word_embeddings", default: usuallyTied) }
    switch modelType {
    case DistilBertFamily.modelType: return (try DistilBertFamily.spec(config), DistilBertFamily.names)
    case GPT2Family.modelType: return (try GPT2Family.spec(config), GPT2Family.names(isTied: try isTied()))
    case GPTNeoXFamily.modelType: return (try GPTNeoXFamily.spec(config), GPTNeoXFamily.names(isTied: try isTied()))
    case Phi3Family.modelType: return (try Phi3Family.spec(config), .llama(isTied: try isTied()))
    case _ where GemmaFamily.modelTypes.contains(modelType):
      return (try GemmaFamily.spec(config, modelType), GemmaFamily.names(modelType, isTied: try isTied()))
    case _ where LlamaFamily.modelTypes.contains(modelType):
      let spec = try LlamaFamily.spec(config, modelType)
      return (spec, .llama(isTied: try isTied(), normsHeads: spec.normsHeads))
    default: return (try BertFamily.spec(config, modelType), BertFamily.names(modelType))
    }
  }

  /// The modules that an adapter sits on where nothing else is said: what PEFT takes for the family.
  public static func usualTargets(of modelType: String) -> [String] {
    switch modelType {
    case "gpt2": ["c_attn"]
    case "gpt_neox": ["query_key_value"]
    case "phi3": ["qkv_proj"]
    case "distilbert": ["q_lin", "v_lin"]
    case _ where BertFamily.modelTypes.contains(modelType): ["query", "value"]
    default: ["q_proj", "v_proj"]
    }
  }
}
