import Dispatch
import Foundation
import Synchronization

/// The files of this machine.
public struct LocalFileSystem: FileSystem {
  /// The only one there is.
  public init() {}

  /// Makes a file that must not be there yet.
  public func create(_ url: URL, permissions: mode_t) throws -> any WritableFile {
    let descriptor = open(url.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, permissions)
    guard descriptor >= 0 else { throw DurableFileError(path: url.path, operation: "create") }
    return LocalFile(path: url.path, descriptor: descriptor)
  }

  /// The whole content of a file.
  public func read(_ url: URL) throws -> Data {
    let file = try map(url)
    // The mapping goes with the object, which nothing else holds.
    return withExtendedLifetime(file) { Data(file.bytes) }
  }

  /// The whole content of a file, mapped.
  public func map(_ url: URL) throws -> MappedFile { try MappedFile(url) }

  /// Whether a file or folder has this name.
  public func exists(_ url: URL) -> Bool { access(url.path, F_OK) == 0 }

  /// Makes one folder; does nothing where it is there.
  public func makeDirectory(_ url: URL, permissions: mode_t) throws -> Bool {
    if isDirectory(url) { return false }
    if mkdir(url.path, permissions) == 0 { return true }
    let failure = DurableFileError(path: url.path, operation: "make the folder")
    // Another process may have made it in between.
    guard failure.code == EEXIST, isDirectory(url) else { throw failure }
    return false
  }

  private func isDirectory(_ url: URL) -> Bool {
    var information = stat()
    return stat(url.path, &information) == 0 && information.st_mode & S_IFMT == S_IFDIR
  }

  /// Names of everything in a folder.
  public func names(in directory: URL) throws -> [String] {
    guard let stream = opendir(directory.path) else {
      throw DurableFileError(path: directory.path, operation: "list")
    }
    defer { closedir(stream) }
    var names: [String] = []
    errno = 0
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
      errno = 0
    }
    guard errno == 0 else { throw DurableFileError(path: directory.path, operation: "list") }
    return names
  }

  /// Gives a file or folder another name.
  public func rename(_ from: URL, to: URL) throws {
    guard Foundation.rename(from.path, to.path) == 0 else {
      throw DurableFileError(path: to.path, operation: "rename into place")
    }
  }

  /// Removes a file, or a folder with all that is in it.
  public func remove(_ url: URL) throws {
    var information = stat()
    guard lstat(url.path, &information) == 0 else { throw DurableFileError(path: url.path, operation: "remove") }
    if information.st_mode & S_IFMT == S_IFDIR {
      for name in try names(in: url) { try remove(url.appendingPathComponent(name)) }
      guard rmdir(url.path) == 0 else { throw DurableFileError(path: url.path, operation: "remove") }
    } else {
      guard unlink(url.path) == 0 else { throw DurableFileError(path: url.path, operation: "remove") }
    }
  }

  /// Waits for all at the same time: the disk takes them together.
  public func sync(_ files: [any WritableFile], folders: [URL]) throws {
    let count = files.count + folders.count
    guard count > 0 else { return }
    let failure = Mutex<(any Error)?>(nil)
    // More at a time win little.
    let lanes = min(count, 32)
    @Sendable func wait(_ lane: Int) {
      for index in stride(from: lane, to: count, by: lanes) {
        do {
          if index < files.count { try files[index].sync() } else { try syncDirectory(folders[index - files.count]) }
        } catch { failure.withLock { $0 = error } }
      }
    }
    // Threads that wait and do nothing else: Dispatch would start as many as there are cores.
    let others = DispatchGroup()
    for lane in 1..<lanes {
      others.enter()
      let thread = Thread {
        wait(lane)
        others.leave()
      }
      thread.stackSize = 256 << 10
      thread.start()
    }
    wait(0)
    others.wait()
    if let failure = failure.withLock({ $0 }) { throw failure }
  }

  /// Makes every new, changed and removed name in a folder durable.
  public func syncDirectory(_ directory: URL) throws {
    let descriptor = open(directory.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw DurableFileError(path: directory.path, operation: "open") }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw DurableFileError(path: directory.path, operation: "sync") }
  }

  /// Takes an advisory lock (`flock`), which other programs of ours respect.
  public func lock(_ url: URL) throws -> (any FileLock)? {
    let descriptor = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw DurableFileError(path: url.path, operation: "open") }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let failure = DurableFileError(path: url.path, operation: "lock")
      close(descriptor)
      if failure.code == EWOULDBLOCK { return nil }
      throw failure
    }
    return LocalFileLock(descriptor: descriptor)
  }

  /// Whether somebody holds the lock of this file now; takes nothing and makes nothing.
  public func isLocked(_ url: URL) -> Bool {
    let descriptor = open(url.path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    // A shared lock is granted unless somebody holds the exclusive one; it goes with the descriptor.
    return flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
  }
}

private final class LocalFile: WritableFile {
  private let path: String
  private let descriptor: Mutex<Int32?>

  init(path: String, descriptor: Int32) {
    self.path = path
    self.descriptor = Mutex(descriptor)
  }

  deinit { close() }

  func write(_ data: Data) throws {
    try descriptor.withLock { descriptor in
      try data.withUnsafeBytes { buffer in
        var offset = 0
        while offset < buffer.count {
          let written = Foundation.write(
            descriptor ?? -1,
            buffer.baseAddress?.advanced(by: offset),
            buffer.count - offset
          )
          if written < 0 {
            if errno == EINTR { continue }
            throw DurableFileError(path: path, operation: "write")
          }
          offset += written
        }
      }
    }
  }

  func sync() throws {
    try descriptor.withLock { descriptor in
      guard fsync(descriptor ?? -1) == 0 else { throw DurableFileError(path: path, operation: "sync") }
    }
  }

  func close() {
    descriptor.withLock { descriptor in
      if let descriptor { _ = Foundation.close(descriptor) }
      descriptor = nil
    }
  }
}

private final class LocalFileLock: FileLock {
  private let descriptor: Mutex<Int32?>

  init(descriptor: Int32) { self.descriptor = Mutex(descriptor) }

  deinit { release() }

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
