import Foundation
import Synchronization

/// Holds a run's folder for one coordinator; the system lets go of it when the process ends, however it ends.
final class RunLock: Sendable {
  private let descriptor: Mutex<Int32?>

  /// - Throws: `RunStoreError.inUse` when somebody holds it.
  init(directory: URL) throws {
    let path = directory.appendingPathComponent("lock").path
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw RunStoreError.cannotOpen(path: directory.path, reason: String(cString: strerror(errno)))
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      close(descriptor)
      throw code == EWOULDBLOCK
        ? RunStoreError.inUse(path: directory.path)
        : RunStoreError.cannotOpen(path: directory.path, reason: String(cString: strerror(code)))
    }
    self.descriptor = Mutex(descriptor)
  }

  deinit { release() }

  /// Whether a coordinator holds the folder now; takes nothing and makes nothing.
  static func isHeld(directory: URL) -> Bool {
    let descriptor = open(directory.appendingPathComponent("lock").path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    // A shared lock is granted unless somebody holds the exclusive one; it goes with the descriptor.
    return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
  }

  /// Lets go of the folder; doing so again does nothing.
  func release() {
    descriptor.withLock { held in
      if let held {
        // Closing alone would leave the lock to a child process that was forked meanwhile and has not begun its program.
        flock(held, LOCK_UN)
        close(held)
      }
      held = nil
    }
  }
}
