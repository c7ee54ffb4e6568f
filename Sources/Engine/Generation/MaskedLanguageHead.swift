import CKernels
import FedLoRACheckpoint
import FedLoRALinearAlgebra
import Foundation

/// The head that a masked language model puts on an encoder: logits = E norm(gelu(W x + b)) + c, where E is the table of word
/// embeddings or a matrix of its own. BERT keeps it under `cls.predictions`, RoBERTa and XLM-R under `lm_head`, DistilBERT as
/// `vocab_transform`, `vocab_layer_norm` and `vocab_projector`.
public struct MaskedLanguageHead: Sendable {
  private let activation: Activation
  private let transform: [Float]
  private let transformBias: [Float]
  private let gamma: [Float]
  private let beta: [Float]
  /// Nil where it is the table of word embeddings.
  private let decoder: [Float]?
  private let bias: [Float]

  private struct Names {
    let transform: String
    /// Whether it takes the activation of the encoder's blocks, rather than GELU.
    let sharesActivation: Bool
    let norm: String
    let decoder: String
    /// Where the bias may be; older files have it outside the decoder.
    let biases: [String]
  }

  private static let names: [Names] = [
    Names(
      transform: "cls.predictions.transform.dense",
      sharesActivation: true,
      norm: "cls.predictions.transform.LayerNorm",
      decoder: "cls.predictions.decoder",
      biases: ["cls.predictions.bias", "cls.predictions.decoder.bias"]
    ),
    Names(
      transform: "lm_head.dense",
      sharesActivation: false,
      norm: "lm_head.layer_norm",
      decoder: "lm_head.decoder",
      biases: ["lm_head.bias", "lm_head.decoder.bias"]
    ),
    Names(
      transform: "vocab_transform",
      sharesActivation: true,
      norm: "vocab_layer_norm",
      decoder: "vocab_projector",
      biases: ["vocab_projector.bias"]
    ),
  ]

  /// Reads the head of the checkpoint that `base` was read from.
  /// - Throws: `ModelError` for a decoder and for a checkpoint without such a head, `SafetensorsError` for its tensors.
  public init(of base: FrozenModel) throws {
    let checkpoint = try CheckpointFolder(base.folder)
    func has(_ name: String) -> Bool { checkpoint.file(holding: name) != nil }
    guard !base.spec.isDecoder, let names = Self.names.first(where: { has("\($0.transform).weight") }) else {
      throw ModelError.badOption(
        name: "model",
        found: "\(base.folder.path), which has no head for masked tokens",
        expected: "an encoder with \(Self.names.map { $0.transform }.joined(separator: " or "))"
      )
    }
    func floats(_ name: String, _ shape: [Int]) throws -> [Float] {
      guard let file = checkpoint.file(holding: name), let entry = file.entry(name) else {
        throw SafetensorsError(
          .missingTensor,
          file: checkpoint.path,
          tensor: name,
          reason: "is missing, and the head for masked tokens needs it"
        )
      }
      guard entry.shape == shape else {
        throw ModelError.wrongShape(file: file.path, tensor: name, expected: shape, found: entry.shape)
      }
      return try file.floats(name)
    }
    let (hidden, vocabulary) = (base.spec.hiddenSize, base.spec.vocabularySize)
    activation = names.sharesActivation ? base.spec.feedForward.activation : .gelu
    transform = try floats("\(names.transform).weight", [hidden, hidden])
    transformBias = try floats("\(names.transform).bias", [hidden])
    gamma = try floats("\(names.norm).weight", [hidden])
    beta = try floats("\(names.norm).bias", [hidden])
    let decoder = "\(names.decoder).weight"
    self.decoder = has(decoder) ? try floats(decoder, [vocabulary, hidden]) : nil
    bias = try floats(names.biases.first(where: has) ?? names.biases[0], [vocabulary])
  }

  /// Logits of `rows` vectors of the encoder.
  /// - Parameters:
  ///   - x: rows × hidden; is overwritten.
  ///   - scratch: rows × hidden.
  ///   - logits: rows × vocabulary.
  func apply(
    _ x: UnsafeMutablePointer<Float>,
    rows: Int,
    of base: FrozenModel,
    scratch: UnsafeMutablePointer<Float>,
    statistics: UnsafeMutablePointer<Float>,
    to logits: UnsafeMutablePointer<Float>
  ) {
    let (hidden, vocabulary) = (base.spec.hiddenSize, base.spec.vocabularySize)
    func product(
      _ a: UnsafePointer<Float>,
      _ b: UnsafePointer<Float>,
      _ width: Int,
      _ bias: [Float],
      to c: UnsafeMutablePointer<Float>
    ) {
      fl_fill_rows(c, bias, rows, width)
      BLAS.sgemm(
        transA: false,
        transB: true,
        m: rows,
        n: width,
        k: hidden,
        a: a,
        lda: hidden,
        b: b,
        ldb: hidden,
        beta: 1,
        c: c,
        ldc: width
      )
    }
    product(x, transform, hidden, transformBias, to: scratch)
    activation.forward(scratch, to: scratch, rows * hidden)
    let mean = statistics
    fl_layernorm_forward(scratch, gamma, beta, base.spec.normEpsilon, x, mean, statistics + rows, rows, hidden)
    if let decoder {
      product(x, decoder, vocabulary, bias, to: logits)
    } else {
      fl_fill_rows(logits, bias, rows, vocabulary)
      let table = base.wordEmbeddings
      // Only a table in few bits needs any.
      let count = table.scratchCount(rows: rows, transposed: true)
      let raw = UnsafeMutableRawPointer.allocate(byteCount: max(64, 4 * count), alignment: 64)
      defer { raw.deallocate() }
      table.multiply(
        x,
        rows: rows,
        transposed: true,
        into: logits,
        accumulates: true,
        scratch: raw.bindMemory(to: Float.self, capacity: max(16, count))
      )
    }
  }
}

extension ModelRunner {
  /// The likelihood of the masked tokens of each sequence of a bare encoder (`AdaptedModel(…, head: nil, isBare: true)` or
  /// `AdaptedModel(unadapted:)`). Must run inside `pool.perform`.
  /// - Parameter batch: masked tokens, with what they were as targets.
  /// - Throws: as `evaluate`.
  public func maskedLikelihoods(
    _ batch: PackedBatch,
    head: MaskedLanguageHead,
    parameters: [Float]
  ) throws -> [SequenceLikelihood] {
    try sequenceLikelihoods(batch, parameters: parameters) { pass, input in
      pass.forward(input, isTraining: false)
      guard let buffers = pass.buffers else { return [] }
      return pass.likelihoods(input, buffers) { places in pass.maskedLogits(places, head, buffers) }
    }
  }

  /// Logits at every token with a target, in the order of the batch, targets × vocabulary, for tests.
  package func maskedLogits(_ batch: PackedBatch, head: MaskedLanguageHead, parameters: [Float]) throws -> [Float] {
    var result: [Float] = []
    let vocabulary = model.base.spec.vocabularySize
    for sequence in 0..<batch.count {
      let range = batch.offsets[sequence]..<batch.offsets[sequence + 1]
      var single = PackedBatch()
      single.append(
        tokens: Array(batch.tokens[range]),
        tokenTypes: Array(batch.tokenTypes[range]),
        targets: Array(batch.targets[range])
      )
      nonisolated(unsafe) var found: [Float] = []
      _ = try sequenceLikelihoods(single, parameters: parameters) { pass, input in
        pass.forward(input, isTraining: false)
        guard let buffers = pass.buffers else { return [] }
        for token in single.tokens.indices where single.targets[token] >= 0 {
          pass.maskedLogits([token], head, buffers)
          found += UnsafeBufferPointer(start: buffers.languageLogits, count: vocabulary)
        }
        return [SequenceLikelihood()]
      }
      result += found
    }
    return result
  }

  /// The pseudo-log-likelihood of a text: each of its own tokens is masked in turn and predicted from all others (Salazar and
  /// others, arXiv:1910.14659). `perplexity` of the result is the pseudo-perplexity over these tokens. Must run inside
  /// `pool.perform`; the cost is that of one pass over the text for each of its tokens.
  /// - Parameters:
  ///   - scored: places of the tokens that count: those that are not special.
  ///   - mask: the mask's token.
  /// - Throws: `ModelError.badBatch` for tokens or places that do not fit.
  public func pseudoLikelihood(
    of text: TokenIds,
    scored: [Int],
    mask: Int32,
    head: MaskedLanguageHead,
    parameters: [Float]
  ) throws -> SequenceLikelihood {
    var total = SequenceLikelihood()
    for start in stride(from: 0, to: scored.count, by: Evaluation.chunk) {
      var batch = PackedBatch()
      for place in scored[start..<min(start + Evaluation.chunk, scored.count)] {
        guard text.ids.indices.contains(place) else {
          throw ModelError.badBatch(reason: "token \(place) is to be masked; the text has \(text.ids.count)")
        }
        var (tokens, targets) = (text.ids, [Int32](repeating: -1, count: text.ids.count))
        (tokens[place], targets[place]) = (mask, text.ids[place])
        batch.append(tokens: tokens, tokenTypes: text.typeIds, targets: targets)
      }
      for found in try maskedLikelihoods(batch, head: head, parameters: parameters) {
        total.logLikelihood += found.logLikelihood
        total.count += found.count
        total.correct += found.correct
      }
    }
    return total
  }
}

extension SlicePass {
  /// Leaves the logits of the tokens at `places` of the slice in `buffers.languageLogits`.
  func maskedLogits(_ places: [Int], _ head: MaskedLanguageHead, _ buffers: PassBuffers) {
    guard let vectors = hiddenState(after: model.base.spec.layerCount - 1) else { return }
    gather(places, from: vectors, buffers)
    head.apply(
      buffers.languageRows,
      rows: places.count,
      of: model.base,
      scratch: buffers.finalNormed,
      statistics: buffers.statistics,
      to: buffers.languageLogits
    )
  }
}
