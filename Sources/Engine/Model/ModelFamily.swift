/// The families that fedlora knows. Adding one is a file with a spec and names, and a line here.
enum ModelFamily {
  /// Finds the family that `config` names.
  /// - Throws: `ModelError.unsupported` for an unknown `model_type`.
  static func resolve(_ config: HuggingFaceConfiguration) throws -> (TransformerSpec, TensorNames) {
    switch try config.require("model_type", oneOf: [BertFamily.modelType], default: "") {
    default: (try BertFamily.spec(config), BertFamily.names)
    }
  }
}
