import Foundation

/// Writes files so that after a crash at any instruction a reader sees the old content or the new, never a part.
public enum DurableFile {
  /// Replaces the file at `url` by `data`: written aside, synced, renamed, and the folder synced.
  /// - Parameter permissions: POSIX mode of the new file, before the process's umask does not apply.
  /// - Throws: `DurableFileError` with the path and the system's reason.
  public static func write(
    _ data: Data,
    to url: URL,
    permissions: mode_t = 0o644,
    on files: any FileSystem = LocalFileSystem()
  ) throws {
    let folder = url.deletingLastPathComponent()
    let aside = folder.appendingPathComponent(".\(url.lastPathComponent).\(UUID().uuidString).tmp")
    let file = try files.create(aside, permissions: permissions)
    do {
      defer { file.close() }
      try file.write(data)
      try file.sync()
    } catch {
      try? files.remove(aside)
      throw error
    }
    do { try files.rename(aside, to: url) } catch {
      try? files.remove(aside)
      throw error
    }
    try files.syncDirectory(folder)
  }

  /// Makes a folder with all that are missing above it, and the entry of each durable in its parent; also that of a folder
  /// that is there, since who made it may have been killed before it was durable.
  /// - Parameter permissions: POSIX mode of the folder itself where it is new, before the process's umask; folders above it are
  ///   open to be read.
  /// - Throws: `DurableFileError`; also where a file has the name.
  public static func makeDirectory(
    _ url: URL,
    permissions: mode_t = 0o755,
    on files: any FileSystem = LocalFileSystem()
  ) throws {
    let parent = url.deletingLastPathComponent()
    guard parent.path != url.path else { return }
    if !files.exists(url) { try makeDirectory(parent, on: files) }
    _ = try files.makeDirectory(url, permissions: permissions)
    try files.syncDirectory(parent)
  }

  /// Makes renames and removals in `directory` durable.
  public static func syncDirectory(_ directory: URL) throws { try LocalFileSystem().syncDirectory(directory) }
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
  init(path: String, operation: String) { self.init(path: path, operation: operation, code: errno) }

  /// Takes everything.
  public init(path: String, operation: String, code: Int32) {
    self.path = path
    self.operation = operation
    self.code = code
  }

  /// One sentence for people.
  public var description: String { "cannot \(operation) \(path): \(String(cString: strerror(code)))" }
}
