import FedLoRACheckpoint
import Foundation
import Synchronization

/// A disk in memory that keeps for certain only what was synced.
///
/// Every change to a file's content, and every change to the names in a folder, waits until the file or folder is synced.
/// When the power fails, some of what waits is lost: the changes after some point, or any of them, and one that is kept
/// may be kept in part. When only a process is killed, nothing is lost.
///
/// The disk is used through a `MountedDisk`; after a kill or a power failure the old one answers nothing but errors,
/// and what still holds it can do no harm.
package final class SimulatedDisk: Sendable {
  /// What can be left out, to see that it is missed.
  package enum Neglect: Sendable {
    case fileSyncs, directorySyncs, databaseSyncs
  }

  /// The power failed, or the process was killed, before this operation.
  package struct Down: Error, CustomStringConvertible {
    package var description: String { "the simulated machine is down" }
  }

  private struct Handle {
    let node: Int
    let boot: Int
    let path: [String]
  }

  private struct State: ~Copyable {
    var tree = FileTree()
    var boot = 0
    var isDown = false
    var isFull = false
    var operations = 0
    var failsAt: Int?
    var neglects: Set<Neglect> = []
    var handles: [Int64: Handle] = [:]
    var nextHandle: Int64 = 1
    var locks: Set<String> = []
  }

  private let state = Mutex(State())
  /// Identifies the disk among all in this process.
  let number: Int

  /// An empty disk.
  package init() { number = SimulatedFiles.register() }

  deinit { SimulatedFiles.forget(number) }

  /// Starts the machine: everything that was mounted before is of no use any more.
  package func mount() -> MountedDisk {
    let boot = state.withLock { state in
      state.boot += 1
      state.isDown = false
      state.failsAt = nil
      state.locks = []
      return state.boot
    }
    SimulatedFiles.connect(self)
    return MountedDisk(disk: self, boot: boot)
  }

  /// Kills the process that uses the disk; what it wrote stays.
  package func kill() { state.withLock { $0.isDown = true } }

  /// The power fails: `random` says what becomes of what was not synced.
  package func powerFailure(_ random: inout SplitMixGenerator) {
    state.withLock { state in
      state.isDown = true
      state.tree.powerFailure(&random)
    }
  }

  /// Lets the machine go down before the n-th change from now (from 1); the caller finds out by `isDown`.
  package func goDown(atChange count: Int) { state.withLock { $0.failsAt = $0.operations + count } }

  /// Whether the machine is down.
  package var isDown: Bool { state.withLock { $0.isDown } }

  /// Whether there is no room; changes fail then.
  package var isFull: Bool {
    get { state.withLock { $0.isFull } }
    set { state.withLock { $0.isFull = newValue } }
  }

  /// Leaves out syncs from now on.
  package func neglect(_ what: Neglect) { state.withLock { _ = $0.neglects.insert(what) } }

  /// Whether this file would be there after a power failure, whatever else is lost. Without the mount's own part.
  package func isDurable(_ path: [String]) -> Bool { state.withLock { $0.tree.isDurable(path) } }

  /// Another disk, with what would be left of this one if its power failed now and everything was lost that can be.
  package func afterTheWorst() -> SimulatedDisk {
    var tree = state.withLock { $0.tree }
    tree.loseWhatWaits()
    let other = SimulatedDisk()
    other.state.withLock { $0.tree = tree }
    return other
  }

  // MARK: Operations

  private func checked<T>(boot: Int, path: String, _ body: (inout FileTree) throws -> T) throws -> T {
    try state.withLock { state in
      guard boot == state.boot, !state.isDown else { throw Down() }
      return try body(&state.tree)
    }
  }

  private func changing<T>(boot: Int, path: String, grows: Bool, _ body: (inout FileTree) throws -> T) throws -> T {
    try state.withLock { state in
      guard boot == state.boot, !state.isDown else { throw Down() }
      state.operations += 1
      if let failsAt = state.failsAt, state.operations >= failsAt {
        state.isDown = true
        throw Down()
      }
      if grows, state.isFull { throw DurableFileError(path: path, operation: "write", code: ENOSPC) }
      return try body(&state.tree)
    }
  }

  private func neglects(_ what: Neglect) -> Bool { state.withLock { $0.neglects.contains(what) } }

  func create(_ path: [String], boot: Int, orOpen: Bool) throws -> Int64 {
    let text = path.joined(separator: "/")
    let node = try changing(boot: boot, path: text, grows: true) { tree in
      if let node = tree.file(path) {
        guard orOpen else { throw DurableFileError(path: text, operation: "create", code: EEXIST) }
        return node
      }
      return try tree.create(path)
    }
    return newHandle(node, boot: boot, path)
  }

  func open(_ path: [String], boot: Int) throws -> Int64 {
    let text = path.joined(separator: "/")
    let node = try checked(boot: boot, path: text) { tree in
      guard let node = tree.file(path) else { throw DurableFileError(path: text, operation: "open", code: ENOENT) }
      return node
    }
    return newHandle(node, boot: boot, path)
  }

  private func newHandle(_ node: Int, boot: Int, _ path: [String]) -> Int64 {
    state.withLock { state in
      state.nextHandle += 1
      state.handles[state.nextHandle] = Handle(node: node, boot: boot, path: path)
      return state.nextHandle
    }
  }

  private func find(_ handle: Int64) throws -> Handle {
    guard let found = state.withLock({ $0.handles[handle] }) else {
      throw DurableFileError(path: "handle \(handle)", operation: "use", code: EBADF)
    }
    return found
  }

  func close(_ handle: Int64) { state.withLock { _ = $0.handles.removeValue(forKey: handle) } }

  func write(_ handle: Int64, at offset: Int?, _ bytes: UnsafeRawBufferPointer) throws {
    let file = try find(handle)
    try changing(boot: file.boot, path: "", grows: true) { $0.write(file.node, at: offset, bytes) }
  }

  func truncate(_ handle: Int64, to size: Int) throws {
    let file = try find(handle)
    try changing(boot: file.boot, path: "", grows: false) { $0.truncate(file.node, to: size) }
  }

  func sync(_ handle: Int64, isDatabase: Bool) throws {
    let file = try find(handle)
    let isLeftOut = neglects(isDatabase ? .databaseSyncs : .fileSyncs)
    try changing(boot: file.boot, path: "", grows: false) { tree in
      if isLeftOut { return }
      tree.sync(file.node)
      // SQLite makes the name of a journal durable with its content.
      if isDatabase, let name = file.path.last, name.hasSuffix("-wal") || name.hasSuffix("-journal") {
        try tree.syncDirectory(Array(file.path.dropLast()))
      }
    }
  }

  func bytes(_ handle: Int64, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws -> Int {
    let file = try find(handle)
    return try checked(boot: file.boot, path: "") { $0.read(file.node, at: offset, into: buffer) }
  }

  func size(_ handle: Int64) throws -> Int {
    let file = try find(handle)
    return try checked(boot: file.boot, path: "") { $0.content(file.node).count }
  }

  func content(_ path: [String], boot: Int) throws -> Data {
    let text = path.joined(separator: "/")
    return try checked(boot: boot, path: text) { tree in
      guard let node = tree.file(path) else { throw DurableFileError(path: text, operation: "read", code: ENOENT) }
      return Data(tree.content(node))
    }
  }

  func exists(_ path: [String], boot: Int) -> Bool {
    (try? checked(boot: boot, path: "") { $0.exists(path) }) ?? false
  }

  func makeDirectory(_ path: [String], boot: Int) throws -> Bool {
    if exists(path, boot: boot) { return false }
    return try changing(boot: boot, path: path.joined(separator: "/"), grows: true) { try $0.makeDirectory(path) }
  }

  func names(_ path: [String], boot: Int) throws -> [String] {
    try checked(boot: boot, path: "") { try $0.names(path) }
  }

  func rename(_ from: [String], _ to: [String], boot: Int) throws {
    try changing(boot: boot, path: to.joined(separator: "/"), grows: false) { try $0.rename(from, to) }
  }

  func remove(_ path: [String], boot: Int) throws {
    try changing(boot: boot, path: path.joined(separator: "/"), grows: false) { try $0.remove(path) }
  }

  func syncDirectory(_ path: [String], boot: Int) throws {
    let isLeftOut = neglects(.directorySyncs)
    try changing(boot: boot, path: "", grows: false) { if !isLeftOut { try $0.syncDirectory(path) } }
  }

  func lock(_ path: [String], boot: Int) throws -> Bool {
    if !exists(path, boot: boot) { _ = try create(path, boot: boot, orOpen: true) }
    return state.withLock { $0.locks.insert(path.joined(separator: "/")).inserted }
  }

  func unlock(_ path: [String], boot: Int) {
    state.withLock { if $0.boot == boot { $0.locks.remove(path.joined(separator: "/")) } }
  }
}
