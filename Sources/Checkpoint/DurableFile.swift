import Foundation

/// Writes files so that after a crash at any instruction a reader sees the old content or the new, never a part.
public enum DurableFile {
  /// Replaces the file at `url` by `data`: written aside, synced, renamed, and the folder synced.
  /// - Parameter permissions: POSIX mode of the new file, before the process's umask does not apply.
  /// - Throws: `DurableFileError` with the path and the system's reason.
  public static func write(_ data: Data, to url: URL, permissions: mode_t = 0o644) throws {
    let aside = url.deletingLastPathComponent().appendingPathComponent(
      ".\(url.lastPathComponent).\(UUID().uuidString).tmp"
    )
    let descriptor = open(aside.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, permissions)
    guard descriptor >= 0 else { throw DurableFileError(path: url.path, operation: "create") }
    do {
      try writeAll(data, to: descriptor, path: url.path)
      guard fsync(descriptor) == 0 else { throw DurableFileError(path: url.path, operation: "sync") }
    } catch {
      close(descriptor)
      unlink(aside.path)
      throw error
    }
    close(descriptor)
    guard rename(aside.path, url.path) == 0 else {
      let failure = DurableFileError(path: url.path, operation: "rename into place")
      unlink(aside.path)
      throw failure
    }
    try syncDirectory(url.deletingLastPathComponent())
  }

  /// Makes a folder with all that are missing above it, and the entry of each durable in its parent.
  /// - Throws: `DurableFileError`; also where a file has the name.
  public static func makeDirectory(_ url: URL) throws {
    var information = stat()
    if stat(url.path, &information) == 0, information.st_mode & S_IFMT == S_IFDIR { return }
    let parent = url.deletingLastPathComponent()
    if parent.path != url.path { try makeDirectory(parent) }
    // Another process may have made it in between.
    if mkdir(url.path, 0o755) != 0 {
      let failure = DurableFileError(path: url.path, operation: "make the folder")
      guard failure.code == EEXIST, stat(url.path, &information) == 0, information.st_mode & S_IFMT == S_IFDIR else {
        throw failure
      }
    }
    try syncDirectory(parent)
  }

  /// Makes renames and removals in `directory` durable.
  public static func syncDirectory(_ directory: URL) throws {
    let descriptor = open(directory.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw DurableFileError(path: directory.path, operation: "open") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw DurableFileError(path: directory.path, operation: "sync") }
  }

  private static func writeAll(_ data: Data, to descriptor: Int32, path: String) throws {
    try data.withUnsafeBytes { buffer in
      var offset = 0
      while offset < buffer.count {
        let written = Foundation.write(descriptor, buffer.baseAddress?.advanced(by: offset), buffer.count - offset)
        if written < 0 {
          if errno == EINTR { continue }
          throw DurableFileError(path: path, operation: "write")
        }
        offset += written
      }
    }
  }
}

/// A file could not be made durable.
public struct DurableFileError: Error, Equatable, CustomStringConvertible {
  /// The file or folder concerned.
  public let path: String
  /// What was tried.
  public let operation: String
  /// The system's error number.
  public let code: Int32

  /// Takes the error number of the call that just failed.
  init(path: String, operation: String) {
    self.path = path
    self.operation = operation
    self.code = errno
  }

  /// One sentence for people.
  public var description: String { "cannot \(operation) \(path): \(String(cString: strerror(code)))" }
}
