import Foundation

/// A file system of its own size in memory, where this machine lets tests mount one.
final class SmallDisk {
  private let folder: URL
  private var filler: URL { folder.appendingPathComponent("filler") }
  private var isMounted = true

  /// Mounts at `folder`, which is made; nil where that is not allowed.
  init?(at folder: URL, megabytes: Int) throws {
    self.folder = folder
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    guard try SmallDisk.run("mount", "-t", "tmpfs", "-o", "size=\(megabytes)m", "tmpfs", folder.path) else {
      return nil
    }
  }

  deinit { unmount() }

  /// Takes all the room that is left.
  func fill() throws {
    try Data().write(to: filler)
    let handle = try FileHandle(forWritingTo: filler)
    defer { try? handle.close() }
    let block = Data(repeating: 1, count: 4096)
    while (try? handle.write(contentsOf: block)) != nil {}
  }

  /// Gives the room back.
  func empty() throws { try FileManager.default.removeItem(at: filler) }

  func makeReadOnly() throws { _ = try SmallDisk.run("mount", "-o", "remount,ro", folder.path) }

  func unmount() {
    if isMounted { _ = try? SmallDisk.run("umount", "-l", folder.path) }
    isMounted = false
  }

  private static func run(_ arguments: String...) throws -> Bool {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus == 0
  }
}
