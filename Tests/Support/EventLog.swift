import Foundation
import Synchronization

/// Collects events from callbacks, and lets a test wait for one of them.
package final class EventLog<Event: Sendable>: Sendable {
  private struct Waiter {
    let isIt: @Sendable (Event) -> Bool
    let continuation: CheckedContinuation<Event?, Never>
  }
  private struct State {
    var events: [Event] = []
    var waiters: [Int: Waiter] = [:]
    var nextID = 0
  }
  private let state = Mutex(State())

  package init() {}

  /// Everything so far, in order.
  package var events: [Event] { state.withLock { $0.events } }

  package func record(_ event: Event) {
    let ready = state.withLock { state -> [CheckedContinuation<Event?, Never>] in
      state.events.append(event)
      let hits = state.waiters.filter { $0.value.isIt(event) }
      for id in hits.keys { state.waiters[id] = nil }
      return hits.values.map(\.continuation)
    }
    for continuation in ready { continuation.resume(returning: event) }
  }

  /// The first event, past or future, that is it.
  /// - Throws: `DeadlineExceeded` where none comes within `deadline`.
  @discardableResult
  package func first(
    within deadline: Duration = .seconds(20),
    where isIt: @escaping @Sendable (Event) -> Bool
  ) async throws -> Event {
    let id = state.withLock { state in
      state.nextID += 1
      return state.nextID
    }
    let clock = Task {
      try await Task.sleep(for: deadline)
      self.giveUp(id)
    }
    defer { clock.cancel() }
    let found: Event? = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let known: Event?? = state.withLock { state in
          if let event = state.events.first(where: isIt) { return event }
          if Task.isCancelled { return .some(nil) }
          state.waiters[id] = Waiter(isIt: isIt, continuation: continuation)
          return nil
        }
        if let known { continuation.resume(returning: known) }
      }
    } onCancel: {
      self.giveUp(id)
    }
    guard let found else {
      try Task.checkCancellation()
      throw DeadlineExceeded(seen: events.map { "\($0)" })
    }
    return found
  }

  private func giveUp(_ id: Int) {
    state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume(returning: nil)
  }
}

/// What was waited for did not come.
package struct DeadlineExceeded: Error, CustomStringConvertible {
  package let seen: [String]
  package var description: String { "nothing came in time; seen: \(seen.joined(separator: "\n  "))" }
}

/// A door that tasks wait at until it is opened.
package final class Gate: Sendable {
  private let log = EventLog<Bool>()

  package init(isOpen: Bool = false) { if isOpen { log.record(true) } }

  package func open() { log.record(true) }
  package func pass() async throws {
    try await log.first { $0 }
    try Task.checkCancellation()
  }
}

/// A folder that is removed when its owner is.
package final class ScratchFolder: Sendable {
  package let url: URL

  package init() throws {
    url = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: url) }

  package func appending(_ path: String) -> URL { url.appendingPathComponent(path) }
}

/// Every file below `folder` with its bytes.
package func contents(of folder: URL) throws -> [String: Data] {
  guard let walk = FileManager.default.enumerator(atPath: folder.path) else { return [:] }
  var result: [String: Data] = [:]
  for case let path as String in walk {
    let url = folder.appendingPathComponent(path)
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder), !isFolder.boolValue else {
      continue
    }
    result[path] = try Data(contentsOf: url)
  }
  return result
}
