import Foundation
import Logging
import NIOCore
import NIOPosix

/// Answers the operator's requests on the socket in a run's folder.
public final class OperatorServer: Sendable {
  private typealias Connection = NIOAsyncChannel<ByteBuffer, ByteBuffer>

  private let channel: NIOAsyncChannel<Connection, Never>
  private let folder: URL
  private let logger: Logger

  /// Connections that are served at a time; more wait in the system's queue.
  private static let largestCount = 8

  private init(channel: NIOAsyncChannel<Connection, Never>, folder: URL, logger: Logger) {
    self.channel = channel
    self.folder = folder
    self.logger = logger
  }

  /// Listens in `folder`, which must be held by this process alone; a socket that a killed process left is replaced.
  /// - Throws: `OperatorSocketError`.
  public static func bind(in folder: URL, logger: Logger) async throws -> OperatorServer {
    let aside = ".\(OperatorSocket.name).\(UUID().uuidString.prefix(8))"
    do {
      let channel = try await OperatorSocket.withPath(in: folder, name: aside) { path in
        try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
          .bind(unixDomainSocketPath: path) { channel in
            channel.eventLoop.makeCompletedFuture { try Connection(wrappingChannelSynchronously: channel) }
          }
      }
      // Nobody can connect before the mode is set: the socket has its name only afterwards.
      let (made, named) = (
        folder.appendingPathComponent(aside).path, folder.appendingPathComponent(OperatorSocket.name).path
      )
      guard chmod(made, 0o600) == 0, rename(made, named) == 0 else {
        let reason = String(cString: strerror(errno))
        unlink(made)
        try await channel.channel.close()
        throw OperatorSocketError(reason: reason)
      }
      return OperatorServer(channel: channel, folder: folder, logger: logger)
    } catch let error as OperatorSocketError {
      throw error
    } catch {
      throw OperatorSocketError(reason: "\(error)")
    }
  }

  /// Serves until the task is cancelled; then the socket is gone.
  public func run(_ answer: @escaping @Sendable (OperatorRequest) async -> OperatorReply) async {
    do {
      try await channel.executeThenClose { connections in
        try await withThrowingDiscardingTaskGroup { group in
          let permits = PermitPool(capacity: OperatorServer.largestCount)
          for try await connection in connections {
            let permit = try await permits.acquire(1)
            group.addTask {
              await OperatorServer.serve(connection, answer)
              withExtendedLifetime(permit) {}
            }
          }
        }
      }
    } catch {
      logger.debug("operator socket closed", metadata: ["reason": .string("\(error)")])
    }
    unlink(folder.appendingPathComponent(OperatorSocket.name).path)
  }

  private static func serve(
    _ connection: Connection,
    _ answer: @escaping @Sendable (OperatorRequest) async -> OperatorReply
  ) async {
    _ = try? await OperatorSocket.answered(within: OperatorSocket.patience) { () -> Bool? in
      try await connection.executeThenClose { inbound, outbound in
        guard let line = try await OperatorSocket.readLine(inbound, limit: OperatorSocket.largestRequest) else {
          return nil
        }
        // A request that was heard is answered, also where it ends the run and this task with it.
        try await Task {
          let reply: OperatorReply
          if let request = try? JSONDecoder().decode(OperatorRequest.self, from: line) {
            reply = await answer(request)
          } else {
            reply = OperatorReply(
              message:
                "a request is one line such as {\"verb\":\"status\",\"reason\":\"\"}; verbs are "
                + OperatorRequest.Verb.allCases.map(\.rawValue).joined(separator: ", "),
              isAccepted: false,
              status: nil
            )
          }
          try await outbound.write(ByteBuffer(bytes: try JSONEncoder().encode(reply) + Data([10])))
        }.value
        return true
      }
    }
  }
}
