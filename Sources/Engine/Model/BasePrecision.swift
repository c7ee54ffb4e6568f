/// How the matrices of a frozen base model are kept in memory. Adapters, heads, norms, biases and all sums are float32.
public enum BasePrecision: String, Codable, CaseIterable, Sendable {
  /// As floats; a checkpoint in F32 stays where it is mapped.
  case f32
  /// In 16 bits; a checkpoint in BF16 stays where it is mapped. Where the processor multiplies bfloat16, what meets a
  /// matrix is rounded to it too, which makes training about twice as fast.
  case bf16
  /// Linear modules in 8 bits with a scale for each 64 values, embeddings and the head of a language model in bf16.
  case int8
  /// Linear modules in 4 bits (QLoRA's NF4) with a scale for each 64 values, embeddings and the head in bf16.
  case nf4

  /// Bits of a linear module's value, its share of a scale included.
  public var bitsPerValue: Double {
    switch self {
    case .f32: 32
    case .bf16: 16
    case .int8: 8.5
    case .nf4: 4.5
    }
  }

  /// How embeddings, and a language model's head, are kept beside linear modules of this precision.
  public var ofEmbeddings: BasePrecision { self == .f32 ? .f32 : .bf16 }
}
