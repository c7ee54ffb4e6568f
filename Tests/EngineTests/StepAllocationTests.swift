import Foundation
import Testing

/// Whether training steps ask for memory. They are counted in a program of their own (Tests/StepAllocations), in which counting
/// stands in for the allocator.
@Suite("Memory of a step", .timeLimit(.minutes(2)))
struct StepAllocationTests {
  enum Kind: String, CaseIterable { case plain, `private`, language }

  @Test("A step of a size that was seen asks for no memory", arguments: Kind.allCases, [1, 2])
  func stepsAfterTheFirst(_ kind: Kind, threads: Int) throws {
    let folders = kind == .language ? DecoderOracle.committed.map(\.folder) : OracleFolder.committed
    #expect(folders.count > 1)
    for folder in folders {
      let report = try StepAllocations.count(folder.url, kind: kind.rawValue, threads: threads)
      #expect(report.countsMemory && report.blocks.count == 8)
      // The first prepares: what it asked for tells that something was counted at all.
      #expect((report.blocks.first ?? 0) > 10)
      #expect(report.blocks.dropFirst().allSatisfy { $0 == 0 }, "\(folder): \(report.blocks)")
    }
  }
}

/// The program that was built beside these tests.
private enum StepAllocations {
  struct Report: Decodable {
    let countsMemory: Bool
    let blocks: [UInt64]
  }

  static func count(_ oracle: URL, kind: String, threads: Int) throws -> Report {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: own).deletingLastPathComponent()
      .appendingPathComponent("step-allocations")
    process.arguments = [
      oracle.appendingPathComponent("model").path, oracle.appendingPathComponent("adapter").path, kind, "\(threads)",
    ]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return try JSONDecoder().decode(Report.self, from: output)
  }
}
