import Foundation
import Synchronization

/// The openssl program of this machine, which knows TLS, X.509 and revocation lists from another library than ours.
enum OpenSSLTool {
  static let path: String? = ["/usr/bin/openssl", "/usr/local/bin/openssl"]
    .first { FileManager.default.isExecutableFile(atPath: $0) }
  static let isInstalled = path != nil

  /// Runs to its end, with nothing on standard input.
  static func run(_ arguments: [String]) async throws -> (status: Int32, output: String) {
    let running = try Running(arguments)
    try running.closeInput()
    return await running.end()
  }

  /// A process whose input is ours.
  final class Running: Sendable {
    private let process: Mutex<Process>
    private let input: FileHandle
    private let text = Mutex(Data())
    private let ends: AsyncStream<Int32>
    private let outputEnds: AsyncStream<Void>
    private let heard: AsyncStream<Void>

    init(_ arguments: [String]) throws {
      let process = Process()
      process.executableURL = URL(fileURLWithPath: OpenSSLTool.path ?? "/nonexistent")
      process.arguments = arguments
      let (input, output) = (Pipe(), Pipe())
      process.standardInput = input
      process.standardOutput = output
      process.standardError = output
      let (ends, end) = AsyncStream<Int32>.makeStream()
      let (outputEnds, outputEnd) = AsyncStream<Void>.makeStream()
      let (heard, hear) = AsyncStream<Void>.makeStream()
      (self.ends, self.outputEnds, self.heard) = (ends, outputEnds, heard)
      process.terminationHandler = { end.yield($0.terminationStatus) }
      try process.run()
      self.process = Mutex(process)
      self.input = input.fileHandleForWriting
      let read = output.fileHandleForReading
      Thread {
        while case let part = read.availableData, !part.isEmpty {
          self.text.withLock { $0.append(part) }
          hear.yield()
        }
        hear.finish()
        outputEnd.yield()
      }.start()
    }

    /// What was printed so far. Bytes that are no text come out as replacement characters.
    var output: String { String(decoding: text.withLock { $0 }, as: UTF8.self) }
    var bytes: Data { text.withLock { $0 } }

    func write(_ data: Data) throws { try input.write(contentsOf: data) }
    func closeInput() throws { try input.close() }
    func stop() { process.withLock { if $0.isRunning { $0.terminate() } } }

    /// Waits until something is printed that contains `sign`, or until the end.
    func waitFor(_ sign: Data) async -> Bool {
      for await _ in heard where bytes.range(of: sign) != nil { return true }
      return bytes.range(of: sign) != nil
    }

    func end() async -> (status: Int32, output: String) {
      let status = await ends.first() ?? -1
      _ = await outputEnds.first()
      return (status, output)
    }
  }
}
