import FedLoRAClient
import FedLoRADP
import FedLoRAEngine

/// DP-SGD with known mistakes, for audits and tests alone: it shows that they would be seen. No client runs this, and no
/// configuration leads here.
///
/// It is written again from single examples' gradients and shares no line with `PrivateTraining` but the grid and the
/// optimizer. Without noise it is also how the auditor, who knows everything, works out what a step would release.
package struct BrokenOnPurpose: AuditedMechanism {
  /// What is done wrong.
  package struct Mistakes: Sendable {
    /// Nothing is added to the sum.
    package var omitsNoise = false
    /// Each tensor is clipped to C for itself.
    package var clipsEachTensor = false
    /// Kinds that learn from plain gradients in the same steps; the others are clipped and noised.
    package var unnoised: TrainedKinds = []

    package init(omitsNoise: Bool = false, clipsEachTensor: Bool = false, unnoised: TrainedKinds = []) {
      self.omitsNoise = omitsNoise
      self.clipsEachTensor = clipsEachTensor
      self.unnoised = unnoised
    }

    package init(_ form: AuditSubject.BrokenForm) {
      switch form {
      case .noiseOff: self.init(omitsNoise: true)
      case .perTensorClipping: self.init(clipsEachTensor: true)
      case .unsoundFedSA: self.init(unnoised: [.loraB, .head])
      }
    }
  }

  let terms: RunTerms
  let privacy: RecordPrivacy
  package var mistakes: Mistakes

  package init(terms: RunTerms, privacy: RecordPrivacy, mistakes: Mistakes) {
    self.terms = terms
    self.privacy = privacy
    self.mistakes = mistakes
  }

  /// The kinds whose clipped sum a step releases.
  package var released: TrainedKinds { terms.trained.subtracting(mistakes.unnoised) }

  package func train(
    _ runner: ModelRunner,
    parameters: inout [Float],
    examples: [EncodedExample],
    randomness: SecretRandomness,
    afterStep: (Int) throws -> Void
  ) throws {
    _ = try sums(runner, parameters: &parameters, examples: examples, randomness: randomness, afterStep: afterStep)
  }

  /// Trains, and returns each step's sum of clipped gradients before noise, in the places of the released kinds.
  package func sums(
    _ runner: ModelRunner,
    parameters: inout [Float],
    examples: [EncodedExample],
    randomness: SecretRandomness,
    afterStep: (Int) throws -> Void = { _ in }
  ) throws -> [[Double]] {
    let layout = runner.model.layout
    let pieces = pieces(layout)
    let grid = try NoiseGrid(
      clippingNorm: privacy.clippingNorm,
      noiseMultiplier: mistakes.omitsNoise ? 0 : privacy.noiseMultiplier,
      dimension: runner.trainedCount(released)
    )
    let batch = PackedBatch(examples)
    var optimizer = Optimizer(terms.options.optimizer, layout: layout, trained: terms.trained)
    var gradient = [Float](repeating: 0, count: layout.count)
    var all: [[Double]] = []
    for step in 0..<terms.localSteps {
      var sum = [Double](repeating: 0, count: runner.trainedCount(terms.trained))
      for own in try runner.exampleGradients(batch, parameters: parameters, trained: terms.trained) {
        add(own, pieces, to: &sum)
      }
      let clipped = pieces.filter(\.isReleased).flatMap { sum[$0.places] }
      var integers = clipped.map { Int64(($0 / grid.step).rounded()) }
      grid.release(&integers, randomness: randomness, step: step)
      var place = 0
      for piece in pieces {
        for index in 0..<piece.places.count {
          if piece.isReleased {
            gradient[piece.offset + index] = Float(grid.value(integers[place]) / privacy.divisor)
            place += 1
          } else {
            gradient[piece.offset + index] = Float(sum[piece.places.lowerBound + index] / Double(max(1, batch.count)))
          }
        }
      }
      let factor = terms.options.schedule.factor(at: step)
      optimizer.step(
        &parameters,
        gradient: gradient,
        learningRate: Float(terms.options.learningRate * factor),
        headLearningRate: Float(terms.options.headLearningRate * factor)
      )
      all.append(clipped)
      try afterStep(step + 1)
    }
    return all
  }

  /// One trained tensor: where it lies in an example's gradient and in the flat vector.
  private struct Piece {
    let places: Range<Int>
    let offset: Int
    let isReleased: Bool
  }

  private func pieces(_ layout: ParameterLayout) -> [Piece] {
    var place = 0
    return layout.entries.filter { terms.trained.includes($0.kind) }.map { entry in
      defer { place += entry.count }
      return Piece(
        places: place..<(place + entry.count),
        offset: entry.offset,
        isReleased: released.includes(entry.kind)
      )
    }
  }

  /// Adds min(1, C/norm) times the gradient, with the norm over all released tensors or over each; others as they are.
  private func add(_ gradient: [Float], _ pieces: [Piece], to sum: inout [Double]) {
    let squares = pieces.map { gradient[$0.places].reduce(0.0) { $0 + Double($1) * Double($1) } }
    let joint = zip(pieces, squares).reduce(0) { $0 + ($1.0.isReleased ? $1.1 : 0) }
    for (piece, own) in zip(pieces, squares) {
      let norm = (mistakes.clipsEachTensor ? own : joint).squareRoot()
      // Neither a gradient of zero nor one that is not finite adds anything.
      let factor = piece.isReleased ? (norm > 0 ? min(1, privacy.clippingNorm / norm) : 0) : 1
      guard factor > 0 else { continue }
      for index in piece.places { sum[index] += factor * Double(gradient[index]) }
    }
  }
}

extension PackedBatch {
  /// The examples in their order.
  init(_ examples: [EncodedExample]) {
    self.init()
    for example in examples { append(tokens: example.ids, tokenTypes: example.typeIds, label: example.label) }
  }
}
