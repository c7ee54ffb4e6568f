import CoreMetrics
import Synchronization

/// A number that only grows. Amounts that are no positive numbers are ignored.
final class CounterSeries: CounterHandler, FloatingPointCounterHandler {
  private let state = Mutex(0.0)

  var value: Double { state.withLock { $0 } }

  func increment(by amount: Int64) { increment(by: Double(amount)) }
  func increment(by amount: Double) { if amount > 0 { state.withLock { $0 += amount } } }
  func reset() { state.withLock { $0 = 0 } }
}

/// A number that goes up and down.
final class GaugeSeries: MeterHandler, RecorderHandler {
  private let state = Mutex(0.0)

  var value: Double { state.withLock { $0 } }

  func set(_ value: Int64) { set(Double(value)) }
  func set(_ value: Double) { state.withLock { $0 = value } }
  func increment(by amount: Double) { state.withLock { $0 += amount } }
  func decrement(by amount: Double) { state.withLock { $0 -= amount } }
  func record(_ value: Int64) { set(Double(value)) }
  func record(_ value: Double) { set(value) }
}

/// Observations, counted by size. What is no number is counted in the bucket of everything alone, and makes the sum
/// none.
final class HistogramSeries: RecorderHandler, TimerHandler {
  struct Snapshot: Equatable {
    /// Observations of each bucket, not added up; the last is the bucket of everything.
    var counts: [Int]
    var sum = 0.0
  }

  let bounds: [Double]
  private let state: Mutex<Snapshot>

  /// - Parameter bounds: the largest value of each bucket, ascending.
  init(bounds: [Double]) {
    self.bounds = bounds
    state = Mutex(Snapshot(counts: Array(repeating: 0, count: bounds.count + 1)))
  }

  var snapshot: Snapshot { state.withLock { $0 } }

  func record(_ value: Double) {
    let bucket = bounds.firstIndex { value <= $0 } ?? bounds.count
    state.withLock {
      $0.counts[bucket] += 1
      $0.sum += value
    }
  }

  func record(_ value: Int64) { record(Double(value)) }

  /// Seconds are Prometheus' unit of time.
  func recordNanoseconds(_ duration: Int64) { record(Double(duration) / 1e9) }
}
