import FedLoRACheckpoint
import FedLoRAFaultSimulation
import Foundation
import Testing

@Suite("The simulated disk")
struct SimulatedDiskTests {
  /// What is in a file after a power failure, over many seeds.
  private func contents(_ write: (MountedDisk, URL) throws -> Void) throws -> Set<String?> {
    var found: Set<String?> = []
    for seed in 1...60 as ClosedRange<UInt64> {
      var random = SplitMixGenerator(seed: seed)
      let disk = SimulatedDisk()
      let mount = disk.mount()
      try write(mount, mount.root.appendingPathComponent("file"))
      disk.powerFailure(&random)
      let again = disk.mount()
      let url = again.root.appendingPathComponent("file")
      found.insert(again.exists(url) ? String(decoding: try again.read(url), as: UTF8.self) : nil)
    }
    return found
  }

  @Test("keeps what was synced, name and content")
  func synced() throws {
    #expect(try contents { try DurableFile.write(Data("new".utf8), to: $1, on: $0) } == ["new"])
  }

  @Test("loses the name of a file whose folder was not synced, sometimes")
  func name() throws {
    let found = try contents { disk, url in
      let file = try disk.create(url, permissions: 0o644)
      try file.write(Data("new".utf8))
      try file.sync()
      file.close()
    }
    #expect(found == [nil, "new"])
  }

  @Test("loses or tears content that was not synced, sometimes")
  func content() throws {
    let found = try contents { disk, url in
      let file = try disk.create(url, permissions: 0o644)
      try disk.syncDirectory(disk.root)
      try file.write(Data("ab".utf8))
      file.close()
    }
    #expect(found == ["", "a", "ab"])
  }

  @Test("a rename that was not synced leaves the old content or the new")
  func rename() throws {
    let found = try contents { disk, url in
      try DurableFile.write(Data("old".utf8), to: url, on: disk)
      let aside = disk.root.appendingPathComponent("aside")
      let file = try disk.create(aside, permissions: 0o644)
      try file.write(Data("new".utf8))
      try file.sync()
      file.close()
      try disk.rename(aside, to: url)
    }
    #expect(found == ["old", "new"])
  }

  @Test("a killed process loses nothing, and its mount is of no use any more")
  func kill() throws {
    let disk = SimulatedDisk()
    let mount = disk.mount()
    let url = mount.root.appendingPathComponent("file")
    let file = try disk.mount().create(mount.root.appendingPathComponent("other"), permissions: 0o644)
    #expect(throws: SimulatedDisk.Down.self) { try mount.create(url, permissions: 0o644) }
    try file.write(Data("kept".utf8))
    disk.kill()
    #expect(throws: SimulatedDisk.Down.self) { try file.write(Data("lost".utf8)) }
    let again = disk.mount()
    #expect(try again.read(again.root.appendingPathComponent("other")) == Data("kept".utf8))
  }

  @Test("a full disk takes no more, and says so")
  func full() throws {
    let disk = SimulatedDisk()
    let mount = disk.mount()
    disk.isFull = true
    let error = #expect(throws: DurableFileError.self) {
      try DurableFile.write(Data("x".utf8), to: mount.root.appendingPathComponent("file"), on: mount)
    }
    #expect(error?.code == ENOSPC)
    #expect(try mount.names(in: mount.root) == [])
  }
}
