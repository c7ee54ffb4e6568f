/// The families that fedlora knows. Adding one is a file with a spec and names, and a line here.
enum ModelFamily {
  /// Finds the family that `config` names.
  /// - Throws: `ModelError.unsupported` for an unknown `model_type`.
  static func resolve(_ config: HuggingFaceConfiguration) throws -> (TransformerSpec, TensorNames) {
    let known = BertFamily.modelTypes + [DistilBertFamily.modelType] + LlamaFamily.modelTypes
    let modelType = try config.require("model_type", oneOf: known, default: "")
    if modelType == DistilBertFamily.modelType {
      return (try DistilBertFamily.spec(config), DistilBertFamily.names)
    }
    if LlamaFamily.modelTypes.contains(modelType) {
      let isTied = try config.flag("tie_word_embeddings")
      return (try LlamaFamily.spec(config, modelType), LlamaFamily.names(isTied: isTied))
    }
    return (try BertFamily.spec(config, modelType), BertFamily.names(modelType))
  }
}
