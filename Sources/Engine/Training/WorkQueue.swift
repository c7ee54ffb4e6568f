/// What waits for a thread: the longest work first, because short work that is left for the end fills the cores evenly.
///
/// Nobody waits for ever: what came among the first `groupSize` since the queue was last empty goes before what came later,
/// however long that is.
package struct WorkQueue<Element: Sendable>: Sendable {
  /// Names something that waits.
  package typealias Number = Int

  /// Later ones than this cannot overtake.
  package static var groupSize: Int { 1024 }

  private struct Entry: Sendable {
    let group: Int
    let work: Double
    let number: Number
    let element: Element

    func comesBefore(_ other: Entry) -> Bool {
      if group != other.group { return group < other.group }
      if work != other.work { return work > other.work }
      return number < other.number
    }
  }

  /// The next one last.
  private var entries: [Entry] = []
  private var nextNumber = 0
  private var arrivals = 0

  /// Nothing waits.
  package init() {}

  /// How many wait.
  package var count: Int { entries.count }

  /// Takes something up.
  /// - Parameter work: how long it takes beside the others, in any unit; of equal ones the first goes first.
  @discardableResult
  package mutating func insert(_ element: Element, work: Double) -> Number {
    if entries.isEmpty { arrivals = 0 }
    let entry = Entry(
      group: arrivals / Self.groupSize,
      work: work.isNaN ? 0 : work,
      number: nextNumber,
      element: element
    )
    arrivals += 1
    nextNumber += 1
    var (low, high) = (0, entries.count)
    while low < high {
      let middle = (low + high) / 2
      if entry.comesBefore(entries[middle]) { low = middle + 1 } else { high = middle }
    }
    entries.insert(entry, at: low)
    return entry.number
  }

  /// Takes out what comes next; nil where nothing waits.
  package mutating func next() -> Element? { entries.popLast()?.element }

  /// Takes out something that need not wait any more; nil where it waits no longer.
  package mutating func remove(_ number: Number) -> Element? {
    guard let place = entries.lastIndex(where: { $0.number == number }) else { return nil }
    return entries.remove(at: place).element
  }
}
