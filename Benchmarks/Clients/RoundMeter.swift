import FedLoRAEngine
import Foundation
import Synchronization

/// Holds each round of a simulation beside its local steps alone.
final class RoundMeter: Sendable {
  private struct Round: Sendable {
    let alone: LocalStepsAlone.Outcome
    let start: UInt64
    let processorStart: Double
    var end: UInt64 = 0
    var processorEnd = 0.0
    var spans: [ComputeLog.Span] = []

    var seconds: Double { Double(end - start) * 1e-9 }
    var processorSeconds: Double { processorEnd - processorStart }
  }

  private let log: ComputeLog
  private let cores: Int
  private let rounds = Mutex<[Round]>([])

  init(log: ComputeLog, cores: Int) {
    self.log = log
    self.cores = cores
  }

  /// A round is about to be sent to its cohort.
  func begin(alone: LocalStepsAlone.Outcome) throws {
    _ = log.takeSpans()
    let processor = SystemUsage.processorSeconds
    rounds.withLock { $0.append(Round(alone: alone, start: ComputeLog.now, processorStart: processor)) }
  }

  /// The round is committed.
  func end() {
    let (now, processor, spans) = (ComputeLog.now, SystemUsage.processorSeconds, log.takeSpans())
    rounds.withLock { rounds in
      guard !rounds.isEmpty else { return }
      rounds[rounds.count - 1].end = now
      rounds[rounds.count - 1].processorEnd = processor
      rounds[rounds.count - 1].spans = spans
    }
  }

  func measured(_ crowd: BenchmarkCrowd, loadBefore: [Double], meanTokens: Double) -> RoundsMeasured {
    // The first round warms caches, and its clients have just been checked.
    let counted = rounds.withLock { Array($0.dropFirst($0.count > 1 ? 1 : 0)) }.filter { $0.end > 0 }
    let changes = counted.flatMap { switches($0.spans) }
    let byTheClock = changes.map(\.clock).sorted()
    return RoundsMeasured(
      clients: crowd.clients,
      cohort: crowd.cohort,
      steps: crowd.steps,
      batch: crowd.batch,
      tokensAClient: meanTokens.rounded(),
      cores: cores,
      threads: crowd.threads,
      strategy: crowd.strategy,
      isPrivate: crowd.isPrivate,
      rounds: counted.count,
      secondsARound: median(counted.map(\.seconds)),
      boundSeconds: median(counted.map { $0.alone.coreSeconds / Double(cores) }),
      boundWallSeconds: median(counted.map(\.alone.wallSeconds)),
      boundShare: median(counted.map { $0.alone.coreSeconds / Double(cores) / $0.seconds }),
      processorSecondsARound: median(counted.map(\.processorSeconds)),
      boundProcessorSeconds: median(counted.map(\.alone.processorSeconds)),
      processorShare: median(counted.map { $0.alone.processorSeconds / $0.processorSeconds }),
      switchMicroseconds: median(changes.map(\.processor)),
      switchByTheClockP10: quantile(byTheClock, 0.1),
      switchByTheClockMedian: quantile(byTheClock, 0.5),
      switchByTheClockP90: quantile(byTheClock, 0.9),
      firstWorkSeconds: median(counted.map { Double(($0.spans.map(\.start).min() ?? $0.start) - $0.start) * 1e-9 }),
      idleBeforeLastWorkSeconds: median(counted.map { idle($0, until: $0.spans.map(\.end).max() ?? $0.end) }),
      idleBeforeCommitSeconds: median(counted.map { idle($0, until: $0.end) }),
      peakMegabytes: SystemUsage.peakMegabytes,
      loadBefore: loadBefore,
      loadAfter: SystemUsage.load
    )
  }

  /// Microseconds between a client's last step and the next client's first on one thread: of the thread's own processor time,
  /// and by the clock, where other threads and programs may have had the core meanwhile.
  private func switches(_ spans: [ComputeLog.Span]) -> [(processor: Double, clock: Double)] {
    let training = spans.filter { $0.kind == .training }
    return Dictionary(grouping: training, by: \.thread).values.flatMap { own in
      let sorted = own.sorted { $0.start < $1.start }
      return zip(sorted, sorted.dropFirst()).map { last, next in
        (Double(next.processorStart - last.processorEnd) * 1e-3, Double(next.start - last.end) * 1e-3)
      }
    }
  }

  /// Mean seconds from a core's last work of any kind to `end`.
  private func idle(_ round: Round, until end: UInt64) -> Double {
    let last = Dictionary(grouping: round.spans, by: \.thread).values.compactMap { $0.map(\.end).max() }
    let idle = last.map { Double(end - min($0, end)) * 1e-9 }
    // A core that never worked has been idle all the time.
    let never = Double(max(0, cores - last.count)) * Double(end - round.start) * 1e-9
    return (idle.reduce(0, +) + never) / Double(cores)
  }
}

/// What is printed of one simulation. Times are medians over rounds, in seconds unless their names say otherwise.
struct RoundsMeasured: Encodable {
  let clients, cohort, steps, batch: Int
  let tokensAClient: Double
  let cores, threads: Int
  let strategy: String
  let isPrivate: Bool
  let rounds: Int
  let secondsARound, boundSeconds, boundWallSeconds: Double
  /// The bound over the round, by the clock.
  let boundShare: Double
  let processorSecondsARound, boundProcessorSeconds: Double
  /// The same by processor time, which other programs on the machine disturb less, and which does not see idle cores.
  let processorShare: Double
  /// From a client's last step to the next client's first on the same thread: the thread's processor time, median.
  let switchMicroseconds: Double
  /// The same by the clock, in microseconds.
  let switchByTheClockP10, switchByTheClockMedian, switchByTheClockP90: Double
  /// From the round's opening to the first local step.
  let firstWorkSeconds: Double
  /// Mean over cores, from a core's last work to the last work of all, and to the round's commit.
  let idleBeforeLastWorkSeconds, idleBeforeCommitSeconds: Double
  let peakMegabytes: Double
  let loadBefore, loadAfter: [Double]
}

func median(_ values: [Double]) -> Double { quantile(values.sorted(), 0.5) }

/// The value below which this share of `sorted` lies; 0 where there is none.
func quantile(_ sorted: [Double], _ share: Double) -> Double {
  sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))]
}
