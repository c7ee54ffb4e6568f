import FedLoRACheckpoint
import FedLoRAProtocol

/// What is sent to a client.
package enum OutgoingMessage: Sendable {
  /// A message without tensors.
  case message(WireEnvelope)
  /// A message with tensors.
  case stream(WireEnvelope, TensorPayload)
  /// Nothing more comes: close once everything before it is sent.
  case end
}

/// Where a conductor's messages, timers and reports go, and what time it is there: sockets and the machine's clock, or
/// a simulation.
package protocol RunOutlet: AnyObject {
  /// A monotonic clock.
  var now: RunInstant { get }
  /// Bytes of frames so far.
  var traffic: Traffic { get }
  /// For each client whose update is arriving, a number that grows as long as more of it comes.
  var uploads: [String: Int] { get }
  /// Sends to the client of this name; where none is connected the message is dropped. Must not wait.
  func send(_ message: OutgoingMessage, to name: String)
  /// Calls `RunConductor.fire` with these numbers after `delay`.
  func arm(round: Int, attempt: Int, after delay: Duration)
  /// Tells what happened. Must not wait.
  func report(_ event: CoordinatorEvent)
  /// The run is over.
  func ended(_ outcome: RunOutcome)
  /// Every client that took part has been told the end.
  func everybodyKnows()
}
