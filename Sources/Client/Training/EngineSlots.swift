import FedLoRAEngine

/// The places at which local training can run: each has its own threads and activations, and all share one frozen
/// base model. However many clients a process holds, only so many train at a time; the others wait in line.
public actor EngineSlots {
  /// One resident base model for all.
  public nonisolated let base: FrozenModel

  private struct Slot {
    let pool: ComputePool
    var runner: (key: RunnerKey, runner: ModelRunner)?
  }

  private struct RunnerKey: Equatable {
    let adapter: LoRAConfiguration
    let head: ClassificationHead?
  }

  private var slots: [Slot]
  private var free: [Int]
  private var waiting: [CheckedContinuation<Int, Never>] = []

  /// Starts `count` slots of `threadsPerSlot` threads.
  public init(base: FrozenModel, count: Int, threadsPerSlot: Int) {
    self.base = base
    slots = (0..<max(1, count)).map { _ in Slot(pool: ComputePool(threadCount: threadsPerSlot)) }
    free = Array(slots.indices.reversed())
  }

  deinit { for slot in slots { slot.pool.shutDown() } }

  /// Runs `body` on a slot's compute thread with a runner for this adapter and head, or without head for a language model.
  /// - Throws: `ModelError` when adapter and model do not fit, or what `body` throws.
  public func withRunner<T: Sendable>(
    adapter: LoRAConfiguration,
    head: ClassificationHead?,
    _ body: @escaping @Sendable (ModelRunner) throws -> T
  ) async throws -> T {
    let index = await acquire()
    defer { release(index) }
    try Task.checkCancellation()
    let runner = try runner(at: index, key: RunnerKey(adapter: adapter, head: head))
    return try await slots[index].pool.perform { try body(runner) }
  }

  private func runner(at index: Int, key: RunnerKey) throws -> ModelRunner {
    if let cached = slots[index].runner, cached.key == key { return cached.runner }
    slots[index].runner = nil
    let model = try AdaptedModel(base: base, adapter: key.adapter, head: key.head)
    let made = ModelRunner(model: model, pool: slots[index].pool)
    slots[index].runner = (key, made)
    return made
  }

  private func acquire() async -> Int {
    if let index = free.popLast() { return index }
    return await withCheckedContinuation { waiting.append($0) }
  }

  private func release(_ index: Int) {
    if waiting.isEmpty { free.append(index) } else { waiting.removeFirst().resume(returning: index) }
  }
}
