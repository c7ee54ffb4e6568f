import FedLoRACheckpoint
import Foundation
import Synchronization

/// A simulated disk as one process sees it, from its start to its end.
package struct MountedDisk: FileSystem {
  private let disk: SimulatedDisk
  private let boot: Int

  init(disk: SimulatedDisk, boot: Int) {
    self.disk = disk
    self.boot = boot
  }

  /// The folder above everything on the disk.
  package var root: URL { URL(fileURLWithPath: "/simulated/\(disk.number)/\(boot)", isDirectory: true) }

  private func path(_ url: URL) -> [String] { url.path.split(separator: "/").dropFirst(3).map(String.init) }

  package func create(_ url: URL, permissions: mode_t) throws -> any WritableFile {
    SimulatedFile(disk: disk, handle: try disk.create(path(url), boot: boot, orOpen: false))
  }

  package func read(_ url: URL) throws -> Data { try disk.content(path(url), boot: boot) }

  package func map(_ url: URL) throws -> MappedFile { MappedFile(copying: try read(url)) }

  package func exists(_ url: URL) -> Bool { disk.exists(path(url), boot: boot) }

  package func makeDirectory(_ url: URL, permissions: mode_t) throws -> Bool {
    try disk.makeDirectory(path(url), boot: boot)
  }

  package func names(in directory: URL) throws -> [String] { try disk.names(path(directory), boot: boot) }

  package func rename(_ from: URL, to: URL) throws { try disk.rename(path(from), path(to), boot: boot) }

  package func remove(_ url: URL) throws { try disk.remove(path(url), boot: boot) }

  package func syncDirectory(_ directory: URL) throws { try disk.syncDirectory(path(directory), boot: boot) }

  package func lock(_ url: URL) throws -> (any FileLock)? {
    guard try disk.lock(path(url), boot: boot) else { return nil }
    return SimulatedLock(disk: disk, path: path(url), boot: boot)
  }
}

private struct SimulatedFile: WritableFile {
  let disk: SimulatedDisk
  let handle: Int64

  func write(_ data: Data) throws { try data.withUnsafeBytes { try disk.write(handle, at: nil, $0) } }
  func sync() throws { try disk.sync(handle, isDatabase: false) }
  func close() { disk.close(handle) }
}

private final class SimulatedLock: FileLock {
  private let disk: SimulatedDisk
  private let path: [String]
  private let boot: Int
  private let isHeld = Mutex(true)

  init(disk: SimulatedDisk, path: [String], boot: Int) {
    self.disk = disk
    self.path = path
    self.boot = boot
  }

  func release() {
    let wasHeld = isHeld.withLock { held in
      defer { held = false }
      return held
    }
    if wasHeld { disk.unlock(path, boot: boot) }
  }
}
