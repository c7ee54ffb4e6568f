import Foundation

/// Holds a run's folder for one coordinator; the system lets go of it when the process ends, however it ends.
final class RunLock: Sendable {
  private let descriptor: Int32

  /// - Throws: `RunStoreError.inUse` when somebody holds it.
  init(directory: URL) throws {
    let path = directory.appendingPathComponent("lock").path
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
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
  }

  deinit { close(descriptor) }
}
