import CKernels
import FedLoRACheckpoint

extension WeightStore {
  /// A matrix of the checkpoint in `precision`. Takes a name as it is, without the prefix.
  func matrix(whole full: String, rows: Int, columns: Int, precision: BasePrecision) throws -> FrozenMatrix {
    guard precision != .f32 else {
      return FrozenMatrix(try pointer(whole: full, shape: [rows, columns]), rows: rows, columns: columns)
    }
    let (file, entry) = try Self.entry(full, of: checkpoint, shape: [rows, columns])
    if precision == .bf16, entry.type == .bf16, let start = try file.bytes(of: full).baseAddress,
      UInt(bitPattern: start) % UInt(MemoryLayout<UInt16>.alignment) == 0
    {
      return FrozenMatrix(fl_frozen(kind: FL_FROZEN_BF16, rows, columns, start, scales: nil))
    }
    let values = try file.floats(full)
    file.release(full)
    return values.withUnsafeBufferPointer { values in
      guard let values = values.baseAddress else {
        return FrozenMatrix(fl_frozen(kind: FL_FROZEN_BF16, rows, columns, own(bytes: 1), scales: nil))
      }
      return FrozenMatrix(narrowed(values, rows, columns, precision))
    }
  }

  private func narrowed(
    _ values: UnsafePointer<Float>,
    _ rows: Int,
    _ columns: Int,
    _ precision: BasePrecision
  ) -> fl_frozen {
    let blocks = (columns + Int(FL_BLOCK) - 1) / Int(FL_BLOCK)
    switch precision {
    case .f32, .bf16:
      let target = own(bytes: 2 * rows * columns)
      fl_to_bf16(values, target.assumingMemoryBound(to: UInt16.self), rows * columns)
      return fl_frozen(kind: FL_FROZEN_BF16, rows, columns, target, scales: nil)
    case .int8:
      let target = own(bytes: rows * columns).assumingMemoryBound(to: Int8.self)
      let scales = own(bytes: 4 * rows * blocks).assumingMemoryBound(to: Float.self)
      for row in 0..<rows {
        fl_to_int8(values + row * columns, target + row * columns, scales + row * blocks, columns)
      }
      return fl_frozen(kind: FL_FROZEN_INT8, rows, columns, target, scales: scales)
    case .nf4:
      let length = (columns + 1) / 2
      let target = own(bytes: rows * length).assumingMemoryBound(to: UInt8.self)
      let scales = own(bytes: 4 * rows * blocks).assumingMemoryBound(to: Float.self)
      for row in 0..<rows {
        fl_to_nf4(values + row * columns, target + row * length, scales + row * blocks, columns)
      }
      return fl_frozen(kind: FL_FROZEN_NF4, rows, columns, target, scales: scales)
    }
  }
}

extension fl_frozen {
  fileprivate init<Kind: BinaryInteger>(
    kind: Kind,
    _ rows: Int,
    _ columns: Int,
    _ values: UnsafeRawPointer,
    scales: UnsafePointer<Float>?
  ) {
    self.init(kind: Int32(kind), rows: rows, columns: columns, values: values, scales: scales)
  }
}
