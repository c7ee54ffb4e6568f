/// Finds the matches of a pattern, one after the other.
///
/// Backtracking can take exponential time. This one notices when it has worked much more than it has advanced, and from
/// then on remembers which step failed at which place: without back-references a step that failed at a place fails
/// there for ever. So a text costs at most about steps times length.
struct PatternMatcher {
  private let pattern: Pattern
  private var frames: [Frame] = []
  /// A bit for each slot and place, set where the step is known to fail; empty as long as nothing is remembered.
  private var failed: [UInt64] = []
  private var work = 0

  /// A step that has alternatives left.
  private struct Frame {
    let step: Int32
    /// Where the step began.
    let place: Int
    /// Of a choice the branches not yet tried, as bits; of a run where it ends now.
    var rest: UInt64
    /// Of a run where it ended first.
    var furthest: Int
  }

  init(_ pattern: Pattern) { self.pattern = pattern }

  /// Calls `body` with each match in `range`, from the left, none overlapping. A match may be empty, but not right
  /// behind another one.
  mutating func forEachMatch(
    in scalars: UnsafeBufferPointer<UInt32>,
    _ range: Range<Int>,
    _ body: (Range<Int>) -> Void
  ) {
    failed.removeAll(keepingCapacity: true)
    work = 0
    var place = range.lowerBound
    var lastEnd = -1
    while place <= range.upperBound {
      let index = place == range.upperBound ? 129 : Int(min(scalars[place], 128))
      guard pattern.start.viable[index] != 0, let end = end(in: scalars, range, from: place) else {
        place += 1
        continue
      }
      if end == place, end == lastEnd {
        place += 1
        continue
      }
      body(place..<end)
      lastEnd = end
      place = end
    }
  }

  @inline(__always)
  private func contains(_ set: Int32, _ scalar: UInt32) -> Bool {
    if scalar < 128 { return pattern.asciiBits[Int(set) * 2 + Int(scalar >> 6)] >> UInt64(scalar & 63) & 1 == 1 }
    let (low, high) = (Int(pattern.setStarts[Int(set)]), Int(pattern.setStarts[Int(set) + 1]))
    return pattern.bounds.withUnsafeBufferPointer {
      ScalarSet.contains(scalar, in: UnsafeBufferPointer(rebasing: $0[low..<high]))
    }
  }

  private func bit(_ slot: Int32, _ place: Int, _ range: Range<Int>) -> Int {
    Int(slot) * (range.count + 1) + place - range.lowerBound
  }

  private func isFailed(_ slot: Int32, _ place: Int, _ range: Range<Int>) -> Bool {
    if failed.isEmpty { return false }
    let bit = bit(slot, place, range)
    return failed[bit >> 6] >> UInt64(bit & 63) & 1 == 1
  }

  private mutating func markFailed(_ slot: Int32, _ places: ClosedRange<Int>, _ range: Range<Int>) {
    if failed.isEmpty { return }
    for place in places {
      let bit = bit(slot, place, range)
      failed[bit >> 6] |= 1 << UInt64(bit & 63)
    }
  }

  /// Where the match that starts at `start` ends.
  private mutating func end(in scalars: UnsafeBufferPointer<UInt32>, _ range: Range<Int>, from start: Int) -> Int? {
    frames.removeAll(keepingCapacity: true)
    var step: Int32 = 0
    var place = start
    while true {
      var goesOn = true
      switch pattern.steps[Int(step)] {
      case .accept: return place
      case .one(let set):
        if place < range.upperBound, contains(set, scalars[place]) {
          place += 1
          step += 1
        } else {
          goesOn = false
        }
      case .jump(let to): step = to
      case .look(let set, let behind, let negated):
        let other = behind ? place - 1 : place
        let isThere = range.contains(other) && contains(set, scalars[other])
        if isThere != negated { step += 1 } else { goesOn = false }
      case .possessive(let set, let most):
        let limit = min(range.upperBound, place + Int(most))
        let first = place
        while place < limit, contains(set, scalars[place]) { place += 1 }
        work += place - first
        step += 1
      case .run(let set, let slot):
        if isFailed(slot, place, range) {
          goesOn = false
          break
        }
        let first = place
        while place < range.upperBound, contains(set, scalars[place]) { place += 1 }
        work += place - first
        frames.append(Frame(step: step, place: first, rest: UInt64(place), furthest: place))
        step += 1
      case .choice(let table, let slot):
        if isFailed(slot, place, range) {
          goesOn = false
          break
        }
        let index = place == range.upperBound ? 129 : Int(min(scalars[place], 128))
        let viable = pattern.choices[Int(table)].viable[index]
        guard viable != 0 else {
          goesOn = false
          break
        }
        if viable & (viable - 1) != 0 || !failed.isEmpty {
          frames.append(Frame(step: step, place: place, rest: viable & (viable - 1), furthest: place))
        }
        step = pattern.choices[Int(table)].branches[viable.trailingZeroBitCount]
      }
      if goesOn { continue }
      guard let (nextStep, nextPlace) = backtrack(range, from: start) else { return nil }
      (step, place) = (nextStep, nextPlace)
    }
  }

  /// The latest alternative that is left.
  private mutating func backtrack(_ range: Range<Int>, from start: Int) -> (Int32, Int)? {
    work += 1
    if failed.isEmpty, work > 4096 + 64 * (start - range.lowerBound) {
      failed = [UInt64](repeating: 0, count: (pattern.slots * (range.count + 1) + 63) / 64)
    }
    while var frame = frames.popLast() {
      switch pattern.steps[Int(frame.step)] {
      case .run(_, let slot):
        if Int(frame.rest) > frame.place {
          frame.rest -= 1
          frames.append(frame)
          return (frame.step + 1, Int(frame.rest))
        }
        markFailed(slot, frame.place...frame.furthest, range)
      case .choice(let table, let slot):
        if frame.rest != 0 {
          let branch = frame.rest.trailingZeroBitCount
          frame.rest &= frame.rest - 1
          if frame.rest != 0 || !failed.isEmpty { frames.append(frame) }
          return (pattern.choices[Int(table)].branches[branch], frame.place)
        }
        markFailed(slot, frame.place...frame.place, range)
      default: break
      }
    }
    return nil
  }
}
