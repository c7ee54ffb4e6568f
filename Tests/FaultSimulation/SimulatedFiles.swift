import CSimulatedFiles
import FedLoRACheckpoint
import Foundation
import Synchronization

/// Leads SQLite's calls for paths "/simulated/DISK/BOOT/…" to the disks of this process.
enum SimulatedFiles {
  private struct Weak: Sendable {
    weak var disk: SimulatedDisk?
  }

  private struct State: Sendable {
    var disks: [Int: Weak] = [:]
    var next = 1
    var isRegistered = false
  }

  private static let state = Mutex(State())

  static func register() -> Int {
    state.withLock { state in
      if !state.isRegistered {
        _ = simulated_files_register(SimulatedFiles.calls)
        state.isRegistered = true
      }
      state.next += 1
      return state.next
    }
  }

  static func connect(_ disk: SimulatedDisk) { state.withLock { $0.disks[disk.number] = Weak(disk: disk) } }

  static func forget(_ number: Int) { state.withLock { _ = $0.disks.removeValue(forKey: number) } }

  private static func disk(_ number: Int) -> SimulatedDisk? { state.withLock { $0.disks[number]?.disk } }

  /// Handles that SQLite holds name their disk in the upper bits.
  private static func split(_ handle: Int64) -> (disk: SimulatedDisk?, handle: Int64) {
    (disk(Int(handle >> 40)), handle & ((1 << 40) - 1))
  }

  private static func place(_ path: UnsafePointer<CChar>?) -> (disk: SimulatedDisk, boot: Int, path: [String])? {
    guard let path else { return nil }
    let parts = String(cString: path).split(separator: "/").map(String.init)
    guard parts.count > 3, let number = Int(parts[1]), let boot = Int(parts[2]), let disk = disk(number) else {
      return nil
    }
    return (disk, boot, Array(parts[3...]))
  }

  private static func code(_ body: () throws -> Void) -> Int32 {
    do {
      try body()
      return 0
    } catch let error as DurableFileError {
      return error.code
    } catch {
      return EIO
    }
  }

  private static var calls: simulated_file_calls {
    simulated_file_calls(
      open: { path, create, result in
        SimulatedFiles.code {
          guard let (disk, boot, path) = SimulatedFiles.place(path) else { throw SimulatedDisk.Down() }
          let handle =
            create != 0 ? try disk.create(path, boot: boot, orOpen: true) : try disk.open(path, boot: boot)
          result?.pointee = Int64(disk.number) << 40 | handle
        }
      },
      read: { handle, buffer, amount, offset, got in
        SimulatedFiles.code {
          let (disk, handle) = SimulatedFiles.split(handle)
          guard let disk else { throw SimulatedDisk.Down() }
          let target = UnsafeMutableRawBufferPointer(start: buffer, count: Int(amount))
          got?.pointee = Int64(try disk.bytes(handle, at: Int(offset), into: target))
        }
      },
      write: { handle, buffer, amount, offset in
        SimulatedFiles.code {
          let (disk, handle) = SimulatedFiles.split(handle)
          guard let disk else { throw SimulatedDisk.Down() }
          try disk.write(handle, at: Int(offset), UnsafeRawBufferPointer(start: buffer, count: Int(amount)))
        }
      },
      truncate: { handle, size in
        SimulatedFiles.code {
          let (disk, handle) = SimulatedFiles.split(handle)
          guard let disk else { throw SimulatedDisk.Down() }
          try disk.truncate(handle, to: Int(size))
        }
      },
      sync: { handle in
        SimulatedFiles.code {
          let (disk, handle) = SimulatedFiles.split(handle)
          guard let disk else { throw SimulatedDisk.Down() }
          try disk.sync(handle, isDatabase: true)
        }
      },
      size: { handle, size in
        SimulatedFiles.code {
          let (disk, handle) = SimulatedFiles.split(handle)
          guard let disk else { throw SimulatedDisk.Down() }
          size?.pointee = Int64(try disk.size(handle))
        }
      },
      close: { handle in
        let (disk, handle) = SimulatedFiles.split(handle)
        disk?.close(handle)
      },
      remove: { path, sync in
        SimulatedFiles.code {
          guard let (disk, boot, path) = SimulatedFiles.place(path) else { throw SimulatedDisk.Down() }
          try disk.remove(path, boot: boot)
          if sync != 0 { try disk.syncDirectory(Array(path.dropLast()), boot: boot) }
        }
      },
      exists: { path in
        guard let (disk, boot, path) = SimulatedFiles.place(path) else { return 0 }
        return disk.exists(path, boot: boot) ? 1 : 0
      }
    )
  }
}
