/// A batch as one row of tokens without padding: sequence i is `tokens[offsets[i]..<offsets[i + 1]]`.
public struct PackedBatch: Sendable, Equatable {
  /// Token ids of all sequences, one after the other.
  public private(set) var tokens: [Int32] = []
  /// Token type of each token.
  public private(set) var tokenTypes: [Int32] = []
  /// Start of each sequence, and the end of the last.
  public private(set) var offsets: [Int] = [0]
  /// Class of each sequence; −1 where it is not known. Under a regression 0 where its number is known.
  public private(set) var labels: [Int] = []
  /// Number of each sequence for a regression.
  public private(set) var values: [Float] = []

  /// The token that is to be predicted at each token; −1 where none is.
  public private(set) var targets: [Int32] = []

  /// An empty batch.
  public init() {}

  /// Forgets all sequences and keeps the room for others.
  public mutating func removeAll() {
    tokens.removeAll(keepingCapacity: true)
    tokenTypes.removeAll(keepingCapacity: true)
    targets.removeAll(keepingCapacity: true)
    labels.removeAll(keepingCapacity: true)
    values.removeAll(keepingCapacity: true)
    offsets.removeAll(keepingCapacity: true)
    offsets.append(0)
  }

  /// Adds one sequence to classify; for a regression with label 0 and its number.
  public mutating func append(tokens newTokens: [Int32], tokenTypes newTypes: [Int32], label: Int, value: Float = 0) {
    tokens.append(contentsOf: newTokens)
    tokenTypes.append(contentsOf: newTypes)
    targets.append(contentsOf: repeatElement(-1, count: newTokens.count))
    offsets.append(tokens.count)
    labels.append(label)
    values.append(value)
  }

  /// Adds one sequence in which each token predicts the next.
  /// - Parameter isTarget: whether a token is to be predicted, by its place; the first never is.
  public mutating func append(tokens newTokens: [Int32], isTarget: (Int) -> Bool = { _ in true }) {
    tokens.append(contentsOf: newTokens)
    tokenTypes.append(contentsOf: repeatElement(0, count: newTokens.count))
    targets.append(contentsOf: repeatElement(-1, count: newTokens.count))
    offsets.append(tokens.count)
    labels.append(-1)
    values.append(0)
    let start = tokens.count - newTokens.count
    for place in newTokens.indices.dropFirst() where isTarget(place) { targets[start + place - 1] = newTokens[place] }
  }

  /// Adds one sequence with the token that is to be predicted at each place itself, as under a mask.
  /// - Parameter targets: one a token; −1 where none is.
  public mutating func append(tokens newTokens: [Int32], tokenTypes newTypes: [Int32], targets newTargets: [Int32]) {
    append(tokens: newTokens, tokenTypes: newTypes, label: -1)
    targets.replaceSubrange((tokens.count - newTokens.count)..., with: newTargets.prefix(newTokens.count))
    targets.append(contentsOf: repeatElement(-1, count: tokens.count - targets.count))
  }

  /// Number of tokens with a target.
  public var targetCount: Int { targets.count { $0 >= 0 } }

  /// Number of sequences.
  public var count: Int { labels.count }

  /// Checks that the batch can run on `model`.
  /// - Throws: `ModelError.badBatch` with the sequence at fault.
  public func validate(for model: AdaptedModel) throws {
    let spec = model.base.spec
    guard tokens.count == tokenTypes.count else { throw ModelError.badBatch(reason: "a token lacks its type") }
    for index in 0..<count {
      let range = offsets[index]..<offsets[index + 1]
      guard !range.isEmpty else { throw ModelError.badBatch(reason: "sequence \(index) has no token") }
      guard range.count <= spec.maximumPositions else {
        throw ModelError.badBatch(
          reason: "sequence \(index) has \(range.count) tokens; the model has \(spec.maximumPositions) positions"
        )
      }
      for position in range {
        guard tokens[position] >= 0, Int(tokens[position]) < spec.vocabularySize else {
          throw ModelError.badBatch(
            reason: "sequence \(index) holds token \(tokens[position]); the vocabulary has \(spec.vocabularySize)"
          )
        }
        guard tokenTypes[position] >= 0, Int(tokenTypes[position]) < max(spec.tokenTypeCount, 1) else {
          throw ModelError.badBatch(
            reason: "sequence \(index) holds token type \(tokenTypes[position]); the model has \(spec.tokenTypeCount)"
          )
        }
      }
      if let head = model.head, labels[index] >= head.labelCount {
        throw ModelError.badBatch(
          reason: "sequence \(index) has label \(labels[index]); the head has \(head.labelCount) classes"
        )
      }
    }
  }

  /// Cuts the batch into runs of whole sequences of roughly equal token counts.
  ///
  /// A slice is the unit of work of a thread and bounds its activations: about `tokensPerSlice` tokens, or one
  /// sequence where that is longer, and at most `sequencesPerSlice` sequences. The number of slices is a multiple of
  /// `threads` where there are enough sequences. The room of `result` is used again.
  func cut(threads: Int, tokensPerSlice: Int, sequencesPerSlice: Int, into result: inout [Range<Int>]) {
    result.removeAll(keepingCapacity: true)
    guard count > 0 else { return }
    let rounds = max(1, (tokens.count + threads * tokensPerSlice - 1) / (threads * tokensPerSlice))
    let wanted = min(count, rounds * threads)
    var start = 0
    for slice in 0..<wanted {
      let target = tokens.count * (slice + 1) / wanted
      let latest = count - (wanted - slice - 1)
      var end = start + 1
      while end < latest, offsets[end + 1] <= target { end += 1 }
      if slice == wanted - 1 { end = count }
      while end - start > sequencesPerSlice {
        result.append(start..<(start + sequencesPerSlice))
        start += sequencesPerSlice
      }
      result.append(start..<end)
      start = end
    }
  }
}
