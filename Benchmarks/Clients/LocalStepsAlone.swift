import FedLoRAClient
import FedLoRAConfiguration
import FedLoRADP
import FedLoRAEngine
import FedLoRAProtocol
import FedLoRASimulation
import Foundation
import Synchronization

/// The local steps of a round with no federation around them: each core takes one client after the other, from parameters that
/// lie ready. What is not counted: making the threads, the runners and the parameters.
final class LocalStepsAlone: Sendable {
  /// What a round's steps took.
  struct Outcome: Sendable {
    /// Seconds of training, over all cores.
    let coreSeconds: Double
    /// From the first step's begin to the last one's end.
    let wallSeconds: Double
    /// Processor seconds of this process meanwhile.
    let processorSeconds: Double
  }

  /// Tokens that a client trains on in a round, in the mean.
  let meanTokens: Double

  private let crowd: BenchmarkCrowd
  private let definition: RunDefinition
  private let data: SimulationData

  init(crowd: BenchmarkCrowd, definition: RunDefinition, data: SimulationData) {
    self.crowd = crowd
    self.definition = definition
    self.data = data
    let tokens = data.train.reduce(0) { $0 + $1.ids.count }
    meanTokens = Double(tokens * crowd.steps * crowd.batch) / Double(max(1, data.train.count))
  }

  /// Runs the steps of `cohort` in `round` and waits for them.
  func run(_ cohort: [String], round: Int) throws -> Outcome {
    let terms = try RunTerms(definition.manifest)
    let base = data.base
    let members = cohort.compactMap { name in data.clients.first { $0.name == name } }
      .sorted { $0.train.reduce(0) { $0 + $1.ids.count } > $1.train.reduce(0) { $0 + $1.ids.count } }
    let seed = definition.manifest.seed
    let next = Mutex(0)
    let failure = Mutex<(any Error)?>(nil)
    let (ready, go, done) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0), DispatchGroup())
    let times = Mutex<[(start: UInt64, end: UInt64)]>([])
    for _ in 0..<crowd.cores {
      done.enter()
      let thread = Thread { [crowd] in
        defer { done.leave() }
        do {
          let model = try AdaptedModel(base: base, adapter: terms.adapter, head: terms.head)
          let start = try AdapterInitialisation.parameters(of: model, seed: seed)
          let pool = ComputePool(threadCount: 1)
          defer { pool.shutDown() }
          let runner = ModelRunner(model: model, pool: pool)
          ready.signal()
          go.wait()
          while true {
            let index = next.withLock { next in
              defer { next += 1 }
              return next
            }
            guard index < members.count else { return }
            var parameters = start
            let begin = ComputeLog.now
            let own = SeededGenerator.derive(seed, "round", .name(members[index].name), .number(UInt64(round)))
            if let record = terms.privacy {
              let training = PrivateTraining(
                terms: record,
                options: terms.options,
                trained: terms.trained,
                randomness: .seeded(own, context: ["benchmark"]),
                dropoutSeed: own
              )
              try training.run(
                runner,
                parameters: &parameters,
                examples: members[index].train,
                steps: crowd.steps,
                firstStep: 0
              )
            } else {
              let training = LocalTraining(options: terms.options, trained: terms.trained, seed: own)
              _ = try training.run(
                runner,
                parameters: &parameters,
                examples: members[index].train,
                steps: crowd.steps,
                firstStep: 0
              )
            }
            times.withLock { $0.append((begin, ComputeLog.now)) }
          }
        } catch {
          failure.withLock { $0 = error }
          ready.signal()
        }
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    for _ in 0..<crowd.cores { ready.wait() }
    let before = SystemUsage.processorSeconds
    for _ in 0..<crowd.cores { go.signal() }
    done.wait()
    let after = SystemUsage.processorSeconds
    if let failure = failure.withLock({ $0 }) { throw failure }
    return times.withLock { times in
      Outcome(
        coreSeconds: times.reduce(0) { $0 + Double($1.end - $1.start) * 1e-9 },
        wallSeconds: Double((times.map(\.end).max() ?? 0) - (times.map(\.start).min() ?? 0)) * 1e-9,
        processorSeconds: after - before
      )
    }
  }
}
