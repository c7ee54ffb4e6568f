import FedLoRAFuzzing
import Foundation

/// The `fuzz` program that was built beside these tests.
enum FuzzProgram {
  /// The root of the repository.
  static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  struct Missing: Error { let path: String }

  /// Runs it to its end.
  /// - Parameter scratch: where it makes its own folders.
  static func run(_ arguments: [String], scratch: URL? = nil) throws -> (status: Int32, output: String) {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let program = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent("fuzz")
    guard FileManager.default.isExecutableFile(atPath: program.path) else { throw Missing(path: program.path) }
    let findings = FileManager.default.temporaryDirectory.appendingPathComponent("fuzz-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: findings) }
    let process = Process()
    process.executableURL = program
    process.arguments = arguments + ["--findings", findings.path]
    process.currentDirectoryURL = repository
    if let scratch {
      process.environment = ProcessInfo.processInfo.environment
        .merging([FuzzScratch.parentVariable: scratch.path]) { $1 }
    }
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
  }
}
