import Synchronization

/// Many clients of one server in this process.
enum LoadCrowd {
  /// As many wait for a place in the run at a time: a crowd that knocks at once would meet the limit on handshakes.
  private static let joiningAtOnce = 48

  /// Lets all take part until each is done; the first that fails ends the server, and so the others, and its error is thrown.
  static func takePart(_ clients: [LoadClient], in server: ServedProcess, _ record: LoadClient.Record) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      do {
        for (number, client) in clients.enumerated() {
          group.addTask {
            do { try await client.run(record) } catch {
              record.hasFailed.store(true, ordering: .relaxed)
              throw error
            }
          }
          while number - record.joined.withLock({ $0 }) > joiningAtOnce, !record.hasFailed.load(ordering: .relaxed) {
            try await Task.sleep(for: .milliseconds(2))
          }
        }
        try await group.waitForAll()
      } catch {
        server.stop()
        throw error
      }
    }
  }
}
