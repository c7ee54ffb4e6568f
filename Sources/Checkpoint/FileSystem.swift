import Foundation

/// The operations on files that durability is made of.
///
/// Nothing is durable before it is synced: the content of a file by `WritableFile.sync`, its name, and that it is gone,
/// by `syncDirectory` of its folder. What is written against this protocol can be played on a disk that keeps nothing
/// but what was synced.
///
/// All methods block; all throw `DurableFileError` where nothing else is said.
public protocol FileSystem: Sendable {
  /// Makes a file that must not be there yet.
  /// - Parameter permissions: POSIX mode, before the process's umask.
  func create(_ url: URL, permissions: mode_t) throws -> any WritableFile
  /// The whole content of a file.
  func read(_ url: URL) throws -> Data
  /// The whole content of a file, without a copy where the system can map it.
  func map(_ url: URL) throws -> MappedFile
  /// Whether a file or folder has this name.
  func exists(_ url: URL) -> Bool
  /// Makes one folder; does nothing where it is there.
  /// - Parameter permissions: POSIX mode of a new folder, before the process's umask.
  /// - Returns: whether it was made now.
  func makeDirectory(_ url: URL, permissions: mode_t) throws -> Bool
  /// Names of everything in a folder, in no order.
  func names(in directory: URL) throws -> [String]
  /// Gives a file or folder another name on the same file system, in place of a file that has it.
  func rename(_ from: URL, to: URL) throws
  /// Removes a file, or a folder with all that is in it.
  func remove(_ url: URL) throws
  /// Makes every new, changed and removed name in a folder durable.
  func syncDirectory(_ directory: URL) throws
  /// Waits until what was written to all these files is durable, and every name in these folders; where the system can, for
  /// all at the same time.
  func sync(_ files: [any WritableFile], folders: [URL]) throws
  /// Takes the lock that this file stands for, making the file where it is not there; nil where somebody holds it.
  func lock(_ url: URL) throws -> (any FileLock)?
}

extension FileSystem {
  /// Waits for one after the other.
  public func sync(_ files: [any WritableFile], folders: [URL]) throws {
    for file in files { try file.sync() }
    for folder in folders { try syncDirectory(folder) }
  }
}

/// A file that is being written, from its start.
public protocol WritableFile: Sendable {
  /// Appends all of `data`.
  func write(_ data: Data) throws
  /// Waits until what was written is durable.
  func sync() throws
  /// Lets go of the file; doing so again does nothing.
  func close()
}

/// A lock that its holder's end lets go of, however it ends.
public protocol FileLock: Sendable {
  /// Lets go of the lock; doing so again does nothing.
  func release()
}
