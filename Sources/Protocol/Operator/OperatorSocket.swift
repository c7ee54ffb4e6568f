import Foundation
import NIOCore
import NIOPosix

/// Where a coordinator listens for its operator: a Unix socket in the run's folder that only its owner may open.
///
/// It carries no certificate: whoever may write the run's folder is its operator.
public enum OperatorSocket {
  /// The socket's name in the run's folder.
  public static let name = "operator.sock"
  /// Longest request, and longest time for one.
  static let largestRequest = 4096
  static let largestReply = 4 << 20
  static let patience = Duration.seconds(10)

  /// A path to `name` in `folder` that fits a socket address however long the folder's own path is.
  ///
  /// An address holds 107 bytes; the system resolves the folder through the descriptor instead.
  static func withPath<T>(in folder: URL, name: String, _ body: (String) async throws -> T) async throws -> T {
    let descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "open \(folder.path)") }
    defer { close(descriptor) }
    return try await body("/proc/self/fd/\(descriptor)/\(name)")
  }

  /// Sends one request to the coordinator that serves the run in `folder`.
  /// - Returns: nil where no coordinator serves it.
  /// - Throws: `OperatorSocketError`.
  public static func ask(_ request: OperatorRequest, folder: URL) async throws -> OperatorReply? {
    let channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>
    do {
      channel = try await withPath(in: folder, name: name) { path in
        try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
          .connect(unixDomainSocketPath: path) { channel in
            channel.eventLoop.makeCompletedFuture { try NIOAsyncChannel(wrappingChannelSynchronously: channel) }
          }
      }
    } catch let error as IOError where [ENOENT, ECONNREFUSED, ENOTDIR].contains(error.errnoCode) {
      // Never begun, or left behind by a coordinator that was killed.
      return nil
    } catch {
      throw OperatorSocketError(reason: "\(error)")
    }
    let line = try JSONEncoder().encode(request) + Data([10])
    let reply = try await answered(within: patience) {
      try await channel.executeThenClose { inbound, outbound in
        try await outbound.write(ByteBuffer(bytes: line))
        return try await readLine(inbound, limit: largestReply)
      }
    }
    guard let reply, let decoded = try? JSONDecoder().decode(OperatorReply.self, from: reply) else {
      throw OperatorSocketError(reason: "the coordinator gave no answer that can be read")
    }
    return decoded
  }

  /// The first line, without its end; nil where the peer closes before one is whole, or it is too long.
  package static func readLine(_ inbound: NIOAsyncChannelInboundStream<ByteBuffer>, limit: Int) async throws -> Data? {
    var line = Data()
    for try await part in inbound {
      line.append(contentsOf: part.readableBytesView)
      if let end = line.firstIndex(of: 10) { return line.prefix(upTo: end) }
      if line.count > limit { return nil }
    }
    return nil
  }

  /// The result of `body`, or nil when it takes longer.
  static func answered<T: Sendable>(
    within time: Duration,
    _ body: @escaping @Sendable () async throws -> T?
  ) async throws -> T? {
    try await withThrowingTaskGroup(of: T?.self) { group in
      group.addTask { try await body() }
      group.addTask {
        try? await Task.sleep(for: time)
        return nil
      }
      defer { group.cancelAll() }
      return try await group.next() ?? nil
    }
  }
}

/// The operator's socket could not be used.
public struct OperatorSocketError: Error, CustomStringConvertible {
  /// What was wrong.
  public let reason: String
  /// One sentence for people.
  public var description: String { "the coordinator's operator socket could not be used: \(reason)" }
}
