import Foundation
import Synchronization

/// Another file system, but that it waits for the disk once for everything that was written, in `settle`.
///
/// For changes that nobody relies on before something else is committed: a database row that names the file, say. Until
/// `settle` a crash may leave such a file under its name without its content. Removals that must not come before that commit
/// are put off with `removeLater`.
public final class DeferredSyncs: FileSystem {
  private struct Pending {
    var files: [any WritableFile] = []
    var folders: [URL] = []
    var removals: [URL] = []
  }

  private let disk: any FileSystem
  private let pending = Mutex(Pending())

  /// Nothing is waited for yet.
  public init(_ disk: any FileSystem) { self.disk = disk }

  /// Waits for the disk.
  public func settle() throws {
    let due = pending.withLock { pending in
      defer { (pending.files, pending.folders) = ([], []) }
      return (pending.files, pending.folders)
    }
    defer { for file in due.0 { file.close() } }
    try disk.sync(due.0, folders: due.1)
  }

  /// Forgets what was to be waited for or removed: what relied on it is not committed.
  public func abandon() {
    let files = pending.withLock { pending in
      defer { pending = Pending() }
      return pending.files
    }
    for file in files { file.close() }
  }

  /// Puts off a removal until `removeNow`.
  public func removeLater(_ url: URL) { pending.withLock { $0.removals.append(url) } }

  /// Removes what was put off, as far as it is there.
  public func removeNow() {
    let removals = pending.withLock { pending in
      defer { pending.removals = [] }
      return pending.removals
    }
    for url in removals { try? disk.remove(url) }
  }

  /// Makes a file whose `sync` is put off.
  public func create(_ url: URL, permissions: mode_t) throws -> any WritableFile {
    File(try disk.create(url, permissions: permissions)) { file in
      self.pending.withLock { $0.files.append(file) }
    }
  }

  /// Is put off.
  public func syncDirectory(_ directory: URL) throws {
    pending.withLock { pending in if !pending.folders.contains(directory) { pending.folders.append(directory) } }
  }

  /// At once: for what must be durable whatever is committed.
  public func sync(_ files: [any WritableFile], folders: [URL]) throws { try disk.sync(files, folders: folders) }
  /// The whole content of a file.
  public func read(_ url: URL) throws -> Data { try disk.read(url) }
  /// The whole content of a file, mapped where the other file system does so.
  public func map(_ url: URL) throws -> MappedFile { try disk.map(url) }
  /// Whether a file or folder has this name.
  public func exists(_ url: URL) -> Bool { disk.exists(url) }
  /// Makes one folder.
  public func makeDirectory(_ url: URL, permissions: mode_t) throws -> Bool {
    try disk.makeDirectory(url, permissions: permissions)
  }
  /// Names of everything in a folder.
  public func names(in directory: URL) throws -> [String] { try disk.names(in: directory) }
  /// Gives a file another name, at once.
  public func rename(_ from: URL, to: URL) throws { try disk.rename(from, to: to) }
  /// Removes at once.
  public func remove(_ url: URL) throws { try disk.remove(url) }
  /// Takes a lock, at once.
  public func lock(_ url: URL) throws -> (any FileLock)? { try disk.lock(url) }

  /// Stays open after `close` until what it holds is durable.
  private final class File: WritableFile {
    private let file: any WritableFile
    private let putOff: @Sendable (any WritableFile) -> Void
    private let isPutOff = Mutex(false)

    init(_ file: any WritableFile, putOff: @escaping @Sendable (any WritableFile) -> Void) {
      self.file = file
      self.putOff = putOff
    }

    func write(_ data: Data) throws { try file.write(data) }

    func sync() throws {
      isPutOff.withLock { $0 = true }
      putOff(file)
    }

    func close() { if !isPutOff.withLock({ $0 }) { file.close() } }
  }
}
