import FedLoRAProtocol
import Synchronization

/// How many clients are sent a state at the same time.
///
/// A stream under way holds chunks, encrypted and not, for its connection. Where a thousand clients are given a round, all
/// streams at once would take a hundred times the memory of ten, and none of them would be there any earlier: so each waits
/// for its turn, in order. A client that takes longer than `patience` keeps nobody waiting: its stream goes on, and the next
/// one begins.
package final class SendingTurns: Sendable {
  /// Streams at a time that have not run out of patience.
  package static let atATime = 32
  /// How long a stream counts.
  package static let patience = Duration.seconds(1)

  private let pool: PermitPool
  private let patience: Duration

  package init(atATime: Int = SendingTurns.atATime, patience: Duration = SendingTurns.patience) {
    pool = PermitPool(capacity: atATime)
    self.patience = patience
  }

  /// Sends when it is this stream's turn.
  /// - Throws: `CancellationError`, and what `send` throws.
  package func take(_ send: () async throws -> Void) async throws {
    let turn = Turn(try await pool.acquire(1))
    // Cancelled, and waited for, where this ends.
    async let _: Void = turn.end(after: patience)
    defer { turn.end() }
    try await send()
  }

  private final class Turn: Sendable {
    private let reservation: Mutex<PermitPool.Reservation?>

    init(_ reservation: PermitPool.Reservation) { self.reservation = Mutex(reservation) }

    func end() { reservation.withLock { $0 = nil } }

    func end(after time: Duration) async {
      try? await Task.sleep(for: time)
      end()
    }
  }
}
