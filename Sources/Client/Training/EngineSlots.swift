import FedLoRACheckpoint
import FedLoRAEngine
import Foundation
import Synchronization

/// The places at which local training can run: all share one frozen base model and one crew of threads. However many clients
/// a process holds, only so many train at a time; the others wait in line, those with the most work first.
///
/// A client that trains has a core for itself while others wait. Where fewer train than there are cores, the cores that are
/// left help: a step is always cut into `threadsPerSlot` parts, whoever works on them, so help changes no bit.
public final class EngineSlots: Sendable {
  /// One resident base model for all.
  public let base: FrozenModel
  /// Parts into which a step is cut: the most cores that work for one client.
  public let threadsPerSlot: Int
  /// Where it is noted when the threads train; nil notes nothing.
  package let log: ComputeLog?

  private let crew: WorkCrew
  private let pool: ComputePool
  private let admission: Admission
  private let caches = Mutex(Caches())

  /// An adapter and head on the base model: what runners and starting values depend on.
  private struct Shape: Equatable, Sendable {
    let adapter: LoRAConfiguration
    let head: ClassificationHead?
  }

  private struct Caches: Sendable {
    /// The newest shape: the clients of a process are in one run, or in one run after the other.
    var model: (shape: Shape, model: AdaptedModel)?
    var start: (shape: Shape, seed: UInt64, values: [Float])?
    /// The newest state that any client was sent.
    var state: TensorSet?
    /// Activations and sums that nobody uses, all of one shape.
    var runners: (shape: Shape, idle: [ModelRunner])?
  }

  /// Places for `count` clients at a time, each with up to `threadsPerSlot` threads, on at most as many threads as this machine
  /// has cores.
  public convenience init(base: FrozenModel, count: Int, threadsPerSlot: Int) {
    self.init(base: base, count: count, threadsPerSlot: threadsPerSlot, log: nil)
  }

  /// As above, with a log of when the threads train.
  /// - Parameter cores: threads in all; nil takes as many as are of use on this machine.
  package init(base: FrozenModel, count: Int, threadsPerSlot: Int, cores: Int? = nil, log: ComputeLog?) {
    let (count, parts) = (max(1, count), max(1, threadsPerSlot))
    self.base = base
    self.threadsPerSlot = parts
    self.log = log
    let useful = min(count * parts, max(count, ProcessInfo.processInfo.activeProcessorCount))
    crew = WorkCrew(threads: cores ?? useful, jobs: count, name: "fl-train", log: log)
    pool = ComputePool(crew: crew, threadCount: parts)
    // As many again are made ready while these train.
    admission = Admission(places: 2 * count + 2)
  }

  deinit { crew.shutDown() }

  /// The model with this adapter and head, or without head for a language model. Made once; blocks meanwhile.
  /// - Throws: `ModelError` when adapter and model do not fit.
  func model(adapter: LoRAConfiguration, head: ClassificationHead?) throws -> AdaptedModel {
    let shape = Shape(adapter: adapter, head: head)
    return try caches.withLock { caches in
      if let cached = caches.model, cached.shape == shape { return cached.model }
      let made = try AdaptedModel(base: base, adapter: adapter, head: head)
      caches.model = (shape, made)
      return made
    }
  }

  /// The parameters that every client of a run starts from. Made once; blocks meanwhile.
  /// - Throws: `LinearAlgebraError` when the orthonormal start's QR fails.
  func start(of model: AdaptedModel, seed: UInt64) throws -> [Float] {
    let shape = Shape(adapter: model.adapter, head: model.head)
    return try caches.withLock { caches in
      if let cached = caches.start, cached.shape == shape, cached.seed == seed { return cached.values }
      let made = try AdapterInitialisation.parameters(of: model, seed: seed)
      caches.start = (shape, seed, made)
      return made
    }
  }

  /// The newest state that any client was sent, where it is this one bit by bit, so that a thousand clients hold it once.
  package func resident(_ state: TensorSet) -> TensorSet {
    let known = caches.withLock { $0.state }
    if let known, EngineSlots.areSame(known, state) { return known }
    caches.withLock { $0.state = state }
    return state
  }

  private static func areSame(_ left: TensorSet, _ right: TensorSet) -> Bool {
    guard left.count == right.count else { return false }
    return zip(left.entries, right.entries).allSatisfy { left, right in
      guard left.name == right.name, left.tensor.shape == right.tensor.shape else { return false }
      // As floats, 0 would equal −0.
      return left.tensor.values.withUnsafeBytes { left in
        right.tensor.values.withUnsafeBytes { right in
          guard let here = left.baseAddress, let there = right.baseAddress else { return left.count == right.count }
          return left.count == right.count && memcmp(here, there, left.count) == 0
        }
      }
    }
  }

  /// Clients that wait to be made ready.
  package var clientsInLine: Int { admission.waitingTasks }

  /// Waits for this client's turn to be made ready, the most work first, and runs `body`. Only a few are inside at a time, so that
  /// what is ready to train is little memory however many wait, and was paid for shortly before.
  /// - Parameter work: how long training takes beside that of other clients, in any unit.
  func admitted<T: Sendable>(work: Double, _ body: () async throws -> T) async throws -> T {
    try await admission.enter(work: work)
    defer { admission.leave() }
    return try await body()
  }

  /// Runs `body` on a compute thread with a runner for this adapter and head, or without head for a language model.
  /// - Parameter work: how long it takes beside other jobs, in any unit: the longest that waits goes first.
  /// - Throws: `ModelError` when adapter and model do not fit, `CancellationError`, or what `body` throws.
  public func withRunner<T: Sendable>(
    adapter: LoRAConfiguration,
    head: ClassificationHead?,
    work: Double = 0,
    _ body: @escaping @Sendable (ModelRunner) throws -> T
  ) async throws -> T {
    try await crew.perform(work: work) { [self] in
      let runner = try takeRunner(Shape(adapter: adapter, head: head))
      defer { giveBack(runner) }
      return try body(runner)
    }
  }

  /// The runner that was used last is the one whose activations are most likely in some cache.
  private func takeRunner(_ shape: Shape) throws -> ModelRunner {
    let cached = caches.withLock { caches in
      if caches.runners?.shape != shape { caches.runners = (shape, []) }
      return caches.runners?.idle.popLast()
    }
    if let cached { return cached }
    return ModelRunner(model: try model(adapter: shape.adapter, head: shape.head), pool: pool)
  }

  private func giveBack(_ runner: ModelRunner) {
    let shape = Shape(adapter: runner.model.adapter, head: runner.model.head)
    caches.withLock { caches in
      // One of another shape goes with its memory.
      if caches.runners?.shape == shape { caches.runners?.idle.append(runner) }
    }
  }
}
