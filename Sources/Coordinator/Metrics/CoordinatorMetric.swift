import FedLoRAObservability

/// The metrics of a coordinator. Labels hold reason codes, phases and directions, never names of clients.
public enum CoordinatorMetric {
  static let round = "fedlora_round"
  static let attempt = "fedlora_round_attempt"
  static let attempts = "fedlora_round_attempts_total"
  static let planned = "fedlora_rounds_planned"
  static let committed = "fedlora_rounds_committed"
  static let committedAt = "fedlora_round_committed_timestamp_seconds"
  static let isOver = "fedlora_run_over"
  static let roundTime = "fedlora_round_seconds"
  static let phaseTime = "fedlora_round_phase_seconds"
  static let clientTime = "fedlora_client_phase_seconds"
  static let answerTime = "fedlora_client_answer_seconds"
  static let storeTime = "fedlora_update_store_seconds"
  static let acknowledgeTime = "fedlora_update_acknowledge_seconds"
  static let updates = "fedlora_updates_total"
  static let absences = "fedlora_absences_total"
  static let declines = "fedlora_declines_total"
  static let refusals = "fedlora_refusals_total"
  static let notices = "fedlora_notices_total"
  static let ready = "fedlora_clients_ready"
  static let atWork = "fedlora_clients_at_work"
  static let connections = "fedlora_connections"
  static let outgoing = "fedlora_outgoing_messages"
  static let jobs = "fedlora_driver_jobs"
  static let wireBytes = "fedlora_wire_bytes_total"
  static let frameBytes = "fedlora_frame_bytes_total"
  static let payloadBytes = "fedlora_payload_bytes_total"
  static let frames = "fedlora_frames_total"
  static let epsilonSpent = "fedlora_privacy_epsilon_spent"
  static let epsilonBudget = "fedlora_privacy_epsilon_budget"
  static let certificateRemaining = "fedlora_certificate_remaining_seconds"
  static let certificateEnds = "fedlora_certificate_ends_soon"

  /// Help and buckets, for an exporter.
  public static let descriptions: [MetricDescription] = [
    .gauge(round, "The newest round that was opened; 0 before the first."),
    .gauge(attempt, "The newest attempt at that round."),
    .counter(attempts, "Attempts at rounds that were opened by this process."),
    .gauge(planned, "Rounds that the run has in all."),
    .gauge(committed, "Committed rounds, over all restarts."),
    .gauge(committedAt, "When this process committed a round last, or was started, in seconds since 1970."),
    .gauge(isOver, "1 once the run has ended or was stopped."),
    .histogram(
      roundTime,
      "From the first attempt at a round to its commit, in seconds.",
      buckets: MetricDescription.longSpans
    ),
    .histogram(
      phaseTime,
      "Phases of a round, in seconds: waiting for clients, collecting updates, aggregating and committing.",
      buckets: MetricDescription.longSpans
    ),
    .histogram(
      clientTime,
      "Phases of one client's round, in seconds: sending the round, working on it, uploading the update.",
      buckets: MetricDescription.longSpans
    ),
    .histogram(
      answerTime,
      "From a round that is sent to the same client's update that has arrived whole, in seconds.",
      buckets: MetricDescription.longSpans
    ),
    .histogram(
      storeTime,
      "Verifying an accepted update and making it durable, with all that arrived at the same time, in seconds."
    ),
    .histogram(acknowledgeTime, "From an update that has arrived whole to its Ack on the socket, in seconds."),
    .counter(updates, "Updates by what became of them (accepted, refused, unused) and reason code."),
    .counter(absences, "Clients of which a round had no update, by reason code."),
    .counter(declines, "Rounds and runs that clients declined, by reason code."),
    .counter(refusals, "Connections that were refused, by reason code."),
    .counter(notices, "Notices about the coordinator itself, by code."),
    .gauge(ready, "Clients that are connected and accepted the run's terms."),
    .gauge(atWork, "Clients of the open round whose update is awaited."),
    .gauge(connections, "Connections by state: handshake or open."),
    .gauge(outgoing, "Messages that wait to be written to clients."),
    .gauge(jobs, "Jobs that wait for the run's queue."),
    .counter(wireBytes, "Bytes on TCP by direction, TLS and handshakes included."),
    .counter(frameBytes, "Bytes of frames by direction."),
    .counter(payloadBytes, "Bytes of tensors by direction."),
    .counter(frames, "Frames by direction."),
    .gauge(epsilonSpent, "What the run has spent of its own privacy budget."),
    .gauge(epsilonBudget, "The run's own privacy budget."),
    .gauge(certificateRemaining, "Time until the coordinator's certificate ends, in seconds."),
    .gauge(certificateEnds, "1 where the coordinator's certificate ends soon, or has ended."),
  ]

  /// Codes with which fedlora's clients decline; others are counted as `other`, because a peer chooses them.
  static let declineCodes: Set<String> = [
    "bad-term", "budget-spent", "diverged", "ledger", "no-such-round", "participations-spent", "policy", "stale-round",
    "terms-changed", "training-failed", "unknown-term", "wrong-labels", "wrong-length", "wrong-model", "wrong-tensors",
  ]

  /// A code that one of our own rules gave, as a label: were one of them ever a peer's, it would not become a series.
  static func label(_ code: String) -> String {
    let isWord = code.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 }
    return isWord && (1...40).contains(code.utf8.count) ? code : "other"
  }
}
