import FedLoRACheckpoint
import Foundation

/// Files and folders as a process sees them, and beside them how they would be after a power failure.
struct FileTree {
  /// A change of content that waits for its sync, with what undoes it.
  private struct Change {
    let offset: Int
    let old: [UInt8]
    let new: [UInt8]
    let oldSize: Int
    /// nil for a write.
    let truncatesTo: Int?
  }

  private struct File {
    var content: [UInt8] = []
    var waiting: [Change] = []
  }

  /// A change of names that waits for its sync.
  private struct NameChange {
    let removes: String?
    let sets: (name: String, node: Int)?
  }

  private struct Folder {
    var entries: [String: Int] = [:]
    var durable: [String: Int] = [:]
    var waiting: [NameChange] = []
  }

  private var files: [Int: File] = [:]
  private var folders: [Int: Folder] = [0: Folder()]
  private var next = 1

  // MARK: Finding

  private func node(_ path: [String]) -> Int? {
    var node = 0
    for name in path {
      guard let entry = folders[node]?.entries[name] else { return nil }
      node = entry
    }
    return node
  }

  private func parent(_ path: [String]) throws -> (folder: Int, name: String) {
    guard let name = path.last, let folder = node(Array(path.dropLast())), folders[folder] != nil else {
      throw DurableFileError(path: path.joined(separator: "/"), operation: "find", code: ENOENT)
    }
    return (folder, name)
  }

  func file(_ path: [String]) -> Int? { node(path).flatMap { files[$0] == nil ? nil : $0 } }

  func exists(_ path: [String]) -> Bool { node(path) != nil }

  func content(_ node: Int) -> [UInt8] { files[node]?.content ?? [] }

  func read(_ node: Int, at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard let content = files[node]?.content, offset < content.count else { return 0 }
    let count = min(buffer.count, content.count - offset)
    content.withUnsafeBytes { bytes in
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]))
    }
    return count
  }

  func names(_ path: [String]) throws -> [String] {
    guard let node = node(path), let folder = folders[node] else {
      throw DurableFileError(path: path.joined(separator: "/"), operation: "list", code: ENOENT)
    }
    return folder.entries.keys.sorted()
  }

  /// Whether a file would be there after a power failure whatever else is lost, with its content.
  func isDurable(_ path: [String]) -> Bool {
    var node = 0
    for name in path {
      guard let folder = folders[node], let entry = folder.durable[name] else { return false }
      // A change that waits may still take the name away.
      guard !folder.waiting.contains(where: { $0.removes == name || $0.sets?.name == name }) else { return false }
      node = entry
    }
    return files[node]?.waiting.isEmpty ?? true
  }

  // MARK: Changing

  mutating func create(_ path: [String]) throws -> Int {
    let (folder, name) = try parent(path)
    let node = next
    next += 1
    files[node] = File()
    set(name, node, in: folder)
    return node
  }

  /// - Returns: whether it was made now.
  mutating func makeDirectory(_ path: [String]) throws -> Bool {
    let (folder, name) = try parent(path)
    let node = next
    next += 1
    folders[node] = Folder()
    set(name, node, in: folder)
    return true
  }

  private mutating func set(_ name: String, _ node: Int, in folder: Int) {
    folders[folder]?.entries[name] = node
    folders[folder]?.waiting.append(NameChange(removes: nil, sets: (name, node)))
  }

  mutating func rename(_ from: [String], _ to: [String]) throws {
    let (folder, old) = try parent(from)
    let (target, new) = try parent(to)
    guard folder == target, let node = folders[folder]?.entries[old] else {
      throw DurableFileError(
        path: to.joined(separator: "/"),
        operation: "rename",
        code: folder == target ? ENOENT : EXDEV
      )
    }
    if let there = folders[folder]?.entries[new], let occupied = folders[there], !occupied.entries.isEmpty {
      throw DurableFileError(path: to.joined(separator: "/"), operation: "rename", code: ENOTEMPTY)
    }
    folders[folder]?.entries[old] = nil
    folders[folder]?.entries[new] = node
    folders[folder]?.waiting.append(NameChange(removes: old, sets: (new, node)))
  }

  mutating func remove(_ path: [String]) throws {
    let (folder, name) = try parent(path)
    guard let node = folders[folder]?.entries[name] else {
      throw DurableFileError(path: path.joined(separator: "/"), operation: "remove", code: ENOENT)
    }
    // What is in a folder goes first; each removal is a change of its own.
    if let entries = folders[node]?.entries.keys.sorted() { for entry in entries { try remove(path + [entry]) } }
    folders[folder]?.entries[name] = nil
    folders[folder]?.waiting.append(NameChange(removes: name, sets: nil))
  }

  mutating func write(_ node: Int, at offset: Int?, _ bytes: UnsafeRawBufferPointer) {
    guard let size = files[node]?.content.count else { return }
    let offset = offset ?? size
    let end = offset + bytes.count
    let old = offset < size ? Array(content(node)[offset..<min(end, size)]) : []
    files[node]?.waiting.append(
      Change(offset: offset, old: old, new: Array(bytes), oldSize: size, truncatesTo: nil)
    )
    put(Array(bytes), at: offset, node)
  }

  private mutating func put(_ bytes: [UInt8], at offset: Int, _ node: Int) {
    let end = offset + bytes.count
    if let size = files[node]?.content.count, size < end {
      files[node]?.content.append(contentsOf: repeatElement(0, count: end - size))
    }
    files[node]?.content.replaceSubrange(offset..<end, with: bytes)
  }

  mutating func truncate(_ node: Int, to size: Int) {
    guard let old = files[node]?.content.count else { return }
    let lost = size < old ? Array(content(node)[size...]) : []
    files[node]?.waiting.append(Change(offset: size, old: lost, new: [], oldSize: old, truncatesTo: size))
    resize(node, size)
  }

  private mutating func resize(_ node: Int, _ size: Int) {
    guard let old = files[node]?.content.count else { return }
    if size < old {
      files[node]?.content.removeLast(old - size)
    } else {
      files[node]?.content.append(contentsOf: repeatElement(0, count: size - old))
    }
  }

  mutating func sync(_ node: Int) { files[node]?.waiting = [] }

  mutating func syncDirectory(_ path: [String]) throws {
    guard let node = node(path), let folder = folders[node] else {
      throw DurableFileError(path: path.joined(separator: "/"), operation: "sync", code: ENOENT)
    }
    folders[node]?.durable = folder.entries
    folders[node]?.waiting = []
  }

  // MARK: Losing

  /// Which of `count` waiting changes are kept, in order; the last value says that the last of them is kept in part.
  private static func survivors(_ count: Int, _ random: inout SplitMixGenerator) -> [Int] {
    guard count > 0 else { return [] }
    // A disk that keeps the order loses an end; one that does not, anything.
    if Bool.random(using: &random) { return Array(0..<Int.random(in: 0...count, using: &random)) }
    return (0..<count).filter { _ in Bool.random(using: &random) }
  }

  mutating func powerFailure(_ random: inout SplitMixGenerator) {
    for node in folders.keys.sorted() {
      guard let folder = folders[node] else { continue }
      var entries = folder.durable
      for index in FileTree.survivors(folder.waiting.count, &random) {
        let change = folder.waiting[index]
        if let name = change.removes { entries[name] = nil }
        if let (name, node) = change.sets { entries[name] = node }
      }
      folders[node] = Folder(entries: entries, durable: entries, waiting: [])
    }
    for node in files.keys.sorted() {
      guard let waiting = files[node]?.waiting, !waiting.isEmpty else { continue }
      takeBack(waiting, node)
      let kept = FileTree.survivors(waiting.count, &random)
      for index in kept {
        let change = waiting[index]
        if let size = change.truncatesTo {
          resize(node, size)
          continue
        }
        // The last one that is kept may be torn.
        let isTorn = index == kept.last && Bool.random(using: &random)
        let count = isTorn ? Int.random(in: 0...change.new.count, using: &random) : change.new.count
        put(Array(change.new.prefix(count)), at: change.offset, node)
      }
      files[node]?.waiting = []
    }
  }

  private mutating func takeBack(_ changes: [Change], _ node: Int) {
    for change in changes.reversed() {
      if !change.old.isEmpty { put(change.old, at: change.offset, node) }
      resize(node, change.oldSize)
    }
  }

  /// Loses everything that was not synced.
  mutating func loseWhatWaits() {
    for (node, folder) in folders { folders[node] = Folder(entries: folder.durable, durable: folder.durable) }
    for (node, file) in files {
      takeBack(file.waiting, node)
      files[node]?.waiting = []
    }
  }
}
