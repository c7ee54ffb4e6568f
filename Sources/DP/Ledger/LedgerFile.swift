import Foundation

/// The system calls that a ledger's durability rests on; tests take others, which fail or are recorded.
package struct LedgerSystem: Sendable {
  /// As `write(2)`.
  package var write: @Sendable (Int32, UnsafeRawBufferPointer) -> Int
  /// As `fsync(2)`.
  package var sync: @Sendable (Int32) -> Int32

  /// What the machine has.
  package static let real = LedgerSystem(
    write: { Foundation.write($0, $1.baseAddress, $1.count) },
    sync: { fsync($0) }
  )

  package init(
    write: @escaping @Sendable (Int32, UnsafeRawBufferPointer) -> Int,
    sync: @escaping @Sendable (Int32) -> Int32
  ) {
    self.write = write
    self.sync = sync
  }
}

/// A ledger's file, held open and locked for appending.
struct LedgerFile: ~Copyable {
  let url: URL
  private let descriptor: Int32
  private let system: LedgerSystem
  /// What the file holds, as far as this process knows.
  private var length = 0

  /// Opens and locks an existing file.
  /// - Throws: `LedgerError` when it cannot be opened or somebody holds it.
  init(opening url: URL, system: LedgerSystem) throws {
    let descriptor = open(url.path, O_RDWR | O_APPEND | O_CLOEXEC)
    guard descriptor >= 0 else { throw LedgerError.system(path: url.path, operation: "open", code: errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      close(descriptor)
      throw code == EWOULDBLOCK
        ? LedgerError.inUse(path: url.path)
        : LedgerError.system(path: url.path, operation: "lock", code: code)
    }
    self.url = url
    self.descriptor = descriptor
    self.system = system
  }

  deinit {
    // Closing alone would leave the lock to a child process that was forked meanwhile and has not begun its program.
    flock(descriptor, LOCK_UN)
    close(descriptor)
  }

  /// Makes a file with `bytes` unless one is there. It appears whole: written aside, synced, linked into place, and the folder
  /// synced.
  static func create(_ bytes: [UInt8], at url: URL, system: LedgerSystem) throws {
    let folder = url.deletingLastPathComponent()
    let aside = folder.appendingPathComponent(".\(url.lastPathComponent).\(UUID().uuidString).tmp")
    let descriptor = open(aside.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw LedgerError.system(path: url.path, operation: "create", code: errno) }
    defer {
      close(descriptor)
      unlink(aside.path)
    }
    try write(bytes, to: descriptor, path: url.path, system: system)
    guard system.sync(descriptor) == 0 else {
      throw LedgerError.system(path: url.path, operation: "sync", code: errno)
    }
    // Another process may have made it meanwhile; then that one is the ledger.
    guard link(aside.path, url.path) == 0 || errno == EEXIST else {
      throw LedgerError.system(path: url.path, operation: "create", code: errno)
    }
    try sync(folder: folder, path: url.path, system: system)
  }

  /// The whole file.
  mutating func read() throws -> Data {
    var data = Data()
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = pread(descriptor, &piece, piece.count, off_t(data.count))
      if count < 0 {
        if errno == EINTR { continue }
        throw LedgerError.system(path: url.path, operation: "read", code: errno)
      }
      if count == 0 { break }
      data += piece[..<count]
    }
    length = data.count
    return data
  }

  /// Appends and syncs; returns after the bytes are safe. After an error it is not known how the file ends.
  mutating func append(_ bytes: [UInt8]) throws {
    // Bytes appended to a file that was renamed away or removed meanwhile would be lost to the next who looks.
    var held = stat()
    var named = stat()
    guard fstat(descriptor, &held) == 0, stat(url.path, &named) == 0, held.st_ino == named.st_ino,
      held.st_dev == named.st_dev, Int(held.st_size) == length
    else { throw LedgerError.changed(path: url.path) }
    try Self.write(bytes, to: descriptor, path: url.path, system: system)
    guard system.sync(descriptor) == 0 else {
      throw LedgerError.system(path: url.path, operation: "sync", code: errno)
    }
    length += bytes.count
  }

  /// Takes the torn line off the end, after keeping it in the file beside it that has `.torn` in its name.
  mutating func removeEnd(_ torn: [UInt8]) throws {
    let beside = url.path + ".torn"
    let copy = open(beside, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard copy >= 0 else { throw LedgerError.system(path: beside, operation: "create", code: errno) }
    defer { close(copy) }
    try Self.write(torn + [UInt8(ascii: "\n")], to: copy, path: beside, system: system)
    guard system.sync(copy) == 0 else { throw LedgerError.system(path: beside, operation: "sync", code: errno) }
    try Self.sync(folder: url.deletingLastPathComponent(), path: beside, system: system)
    guard ftruncate(descriptor, off_t(length - torn.count)) == 0 else {
      throw LedgerError.system(path: url.path, operation: "shorten", code: errno)
    }
    guard system.sync(descriptor) == 0 else {
      throw LedgerError.system(path: url.path, operation: "sync", code: errno)
    }
    length -= torn.count
  }

  private static func write(_ bytes: [UInt8], to descriptor: Int32, path: String, system: LedgerSystem) throws {
    try bytes.withUnsafeBytes { buffer in
      var rest = buffer[...]
      while !rest.isEmpty {
        let written = system.write(descriptor, UnsafeRawBufferPointer(rebasing: rest))
        if written < 0 {
          if errno == EINTR { continue }
          throw LedgerError.system(path: path, operation: "write", code: errno)
        }
        rest = rest.dropFirst(written)
      }
    }
  }

  private static func sync(folder: URL, path: String, system: LedgerSystem) throws {
    let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw LedgerError.system(path: path, operation: "open the folder of", code: errno) }
    defer { close(descriptor) }
    guard system.sync(descriptor) == 0 else {
      throw LedgerError.system(path: path, operation: "sync the folder of", code: errno)
    }
  }
}
