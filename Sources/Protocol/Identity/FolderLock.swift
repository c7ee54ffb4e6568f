import Foundation

/// Holds the folder of an authority or of an identity for one change; the system lets go of it when the process ends,
/// however it ends.
enum FolderLock {
  /// Waits until nobody else holds `folder`, runs `body` and lets go.
  /// - Throws: `IdentityError.unwritable`, and what `body` throws.
  static func hold<T>(_ folder: URL, _ body: () throws -> T) throws -> T {
    let path = folder.appendingPathComponent("lock").path
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw IdentityError.unwritable(path: path, reason: String(cString: strerror(errno))) }
    defer {
      flock(descriptor, LOCK_UN)
      close(descriptor)
    }
    while flock(descriptor, LOCK_EX) != 0 {
      guard errno == EINTR else {
        throw IdentityError.unwritable(path: path, reason: String(cString: strerror(errno)))
      }
    }
    return try body()
  }
}
