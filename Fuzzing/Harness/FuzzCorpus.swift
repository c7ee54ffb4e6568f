import Foundation

/// A folder with a subfolder for each target: inputs as files. `seed-*` were made by code (`fuzz seeds`), all others were
/// found and stay.
public struct FuzzCorpus: Sendable {
  /// The folder.
  public let folder: URL

  /// One file.
  public struct Item: Sendable {
    /// The file's name.
    public let name: String
    /// What it holds.
    public let bytes: [UInt8]
  }

  /// The corpus in `folder`, which need not exist.
  public init(_ folder: URL) { self.folder = folder }

  /// Inputs of a target in the order of their names; the target's own seeds where the folder has none.
  public func items(of target: FuzzTarget) throws -> [Item] {
    let place = folder.appendingPathComponent(target.name)
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: place.path)) ?? []).filter { !$0.hasPrefix(".") }
    var items = try names.sorted().map { name in
      Item(name: name, bytes: [UInt8](try Data(contentsOf: place.appendingPathComponent(name))))
    }
    if !items.contains(where: { $0.name.hasPrefix("seed-") }) {
      items += try target.seeds().enumerated().map { Item(name: FuzzCorpus.seedName($0.offset), bytes: $0.element) }
    }
    return items
  }

  /// Replaces the seeds of `target` by those that its code makes now.
  /// - Returns: how many there are.
  public func writeSeeds(of target: FuzzTarget) throws -> Int {
    let place = folder.appendingPathComponent(target.name)
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    for name in try FileManager.default.contentsOfDirectory(atPath: place.path) where name.hasPrefix("seed-") {
      try FileManager.default.removeItem(at: place.appendingPathComponent(name))
    }
    let seeds = try target.seeds()
    for (index, bytes) in seeds.enumerated() {
      try Data(bytes).write(to: place.appendingPathComponent(FuzzCorpus.seedName(index)))
    }
    return seeds.count
  }

  private static func seedName(_ index: Int) -> String { index < 10 ? "seed-0\(index)" : "seed-\(index)" }
}
