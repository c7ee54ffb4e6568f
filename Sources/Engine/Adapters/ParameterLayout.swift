import FedLoRACheckpoint

/// What a trained tensor is to the federation and to the optimizer.
public enum ParameterKind: String, Sendable, CaseIterable {
  /// The input side: LoRA's A of r × dIn, or VeRA's d of r.
  case loraA
  /// The output side: LoRA's B of dOut × r, or VeRA's b of dOut.
  case loraB
  /// A tensor of the classification head.
  case head
}

/// The kinds of parameter that receive gradients in a run.
public struct TrainedKinds: OptionSet, Sendable {
  /// One bit a kind.
  public let rawValue: Int
  /// Takes the bits of the cases below.
  public init(rawValue: Int) { self.rawValue = rawValue }
  /// LoRA's A or VeRA's d.
  public static let loraA = TrainedKinds(rawValue: 1)
  /// LoRA's B or VeRA's b.
  public static let loraB = TrainedKinds(rawValue: 2)
  /// The classification head.
  public static let head = TrainedKinds(rawValue: 4)
  /// Everything that is not the base model.
  public static let all: TrainedKinds = [.loraA, .loraB, .head]

  /// Whether `kind` is trained.
  public func includes(_ kind: ParameterKind) -> Bool {
    switch kind {
    case .loraA: contains(TrainedKinds.loraA)
    case .loraB: contains(TrainedKinds.loraB)
    case .head: contains(TrainedKinds.head)
    }
  }
}

/// One tensor in the flat parameter vector.
public struct ParameterEntry: Sendable, Equatable {
  /// PEFT's name without `base_model.model.`.
  public let name: String
  /// A: r × dIn; B: dOut × r; d: r; b: dOut; head: labels × hidden, or labels.
  public let shape: [Int]
  /// First element in the flat vector.
  public let offset: Int
  /// What it is.
  public let kind: ParameterKind
  /// Number of elements.
  public var count: Int { shape.reduce(1, *) }
  /// The elements in the flat vector.
  public var range: Range<Int> { offset..<(offset + count) }
}

/// All trainable tensors of an adapted model, laid out in one flat vector.
public struct ParameterLayout: Sendable, Equatable {
  /// In the order of the flat vector.
  public let entries: [ParameterEntry]
  /// Elements over all entries.
  public let count: Int

  init(_ tensors: [(name: String, shape: [Int], kind: ParameterKind)]) {
    var offset = 0
    entries = tensors.map { tensor in
      let entry = ParameterEntry(name: tensor.name, shape: tensor.shape, offset: offset, kind: tensor.kind)
      offset += entry.count
      return entry
    }
    count = offset
  }

  /// Copies the flat vector `values` into named tensors.
  public func tensors(from values: [Float], where isIncluded: (ParameterEntry) -> Bool = { _ in true }) -> TensorSet {
    var result = TensorSet()
    for entry in entries where isIncluded(entry) {
      result[entry.name] = try? Tensor(shape: entry.shape, values: Array(values[entry.range]))
    }
    return result
  }

  /// Copies `tensors` into the flat vector; entries without a tensor stay as they are.
  /// - Throws: `ModelError.wrongParameter` for an unknown name or another shape.
  public func assign(_ tensors: TensorSet, to values: inout [Float]) throws {
    for given in tensors.entries {
      guard let entry = entries.first(where: { $0.name == given.name }) else {
        throw ModelError.wrongParameter(name: given.name, reason: "the adapted model has no such tensor")
      }
      guard entry.shape == given.tensor.shape else {
        throw ModelError.wrongParameter(
          name: given.name,
          reason: "has shape \(given.tensor.shape), expected \(entry.shape)"
        )
      }
      values.replaceSubrange(entry.range, with: given.tensor.values)
    }
  }
}
