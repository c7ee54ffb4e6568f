/// What is going to happen, in the order of a virtual clock; at the same time, in the order in which it was planned.
struct Timeline {
  private struct Item {
    let time: Duration
    let order: Int
    let body: () -> Void
  }

  private(set) var now = Duration.zero
  private var heap: [Item] = []
  private var planned = 0

  var isEmpty: Bool { heap.isEmpty }

  mutating func plan(after delay: Duration, _ body: @escaping () -> Void) { plan(at: now + max(.zero, delay), body) }

  mutating func plan(at time: Duration, _ body: @escaping () -> Void) {
    planned += 1
    heap.append(Item(time: max(time, now), order: planned, body: body))
    var child = heap.count - 1
    while child > 0, Timeline.precedes(heap[child], heap[(child - 1) / 2]) {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  /// Moves the clock to the next event; its body is for the caller to run.
  mutating func advance() -> (() -> Void)? {
    guard let first = heap.first else { return nil }
    let last = heap.removeLast()
    if !heap.isEmpty {
      heap[0] = last
      var parent = 0
      while true {
        var least = parent
        for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
          if Timeline.precedes(heap[child], heap[least]) { least = child }
        }
        if least == parent { break }
        heap.swapAt(parent, least)
        parent = least
      }
    }
    now = first.time
    return first.body
  }

  private static func precedes(_ left: Item, _ right: Item) -> Bool {
    left.time == right.time ? left.order < right.order : left.time < right.time
  }
}
