import FedLoRACheckpoint
import FedLoRAProtocol

/// What a participant has to say to a run, once its form was checked.
package enum ParticipantWord: Sendable {
  /// It accepted the manifest.
  case ready(examples: Int, pendingRound: Int?)
  /// An update with its tensors.
  case update(WireUpdate, TensorSet)
  /// An update whose tensors are not what the run asks for.
  case invalidUpdate(round: Int, code: String, reason: String)
  /// It does not take part in a round, or with round 0 in the run.
  case decline(round: Int, code: String, reason: String)
}

/// The order of a participant's messages on one connection, checked: Hello, Ready, then Updates and Declines.
package struct ParticipantSession: Sendable {
  /// What follows from a message.
  package enum Step: Sendable {
    /// Send this.
    case answer(WireEnvelope)
    /// Pass this on to the run.
    case pass(ParticipantWord)
    /// Close; the participant went by itself.
    case leave(reason: String)
    /// Close with this error; `reason` is for the records.
    case refuse(code: String, text: String, reason: String)
  }

  private let run: ServedRun
  private let name: String
  private var hasGreeted = false
  private var words = 0
  /// Each word may become a line of the event log, so a connection has no more than a run can have use for.
  private var mostWords: Int {
    64 + min(run.policy.rounds, 1 << 20) * min(run.policy.maxAttempts, 1 << 10)
  }
  /// Whether the participant has accepted the run's terms.
  package private(set) var isReady = false

  /// A connection whose certificate has this name.
  package init(run: ServedRun, name: String) {
    self.run = run
    self.name = name
  }

  /// What follows from the next message.
  package mutating func heard(_ envelope: WireEnvelope, tensors: TensorSet?, violation: StreamViolation?) -> Step {
    guard hasGreeted else {
      let step = greet(envelope)
      if case .answer = step { hasGreeted = true }
      return step
    }
    words += 1
    guard words <= mostWords else {
      return .refuse(
        code: FedLoRAProtocol.ReasonCode.tooManyFrames.rawValue,
        text: "more than \(mostWords) messages on one connection; the run has no use for so many",
        reason: "sent too many messages"
      )
    }
    switch envelope.message {
    case .ready(let ready):
      guard ready.runID == run.manifest.runID, ready.manifestSha256 == run.hash else {
        return .refuse(
          code: "wrong-run",
          text: "Ready is for other terms than those of this run",
          reason: "ready for another run"
        )
      }
      isReady = true
      return .pass(
        .ready(
          examples: Int(clamping: ready.examples),
          pendingRound: ready.pendingRound == 0 ? nil : Int(clamping: ready.pendingRound)
        )
      )
    case .update(let update):
      if let tensors, isReady { return .pass(.update(update, tensors)) }
      if let violation, isReady {
        return .pass(
          .invalidUpdate(round: Int(clamping: update.round), code: violation.code.rawValue, reason: violation.text)
        )
      }
      return .refuse(
        code: "not-ready",
        text: "an Update before Ready, or without tensors",
        reason: "broke the protocol"
      )
    case .decline(let decline) where decline.runID == run.manifest.runID:
      return .pass(
        .decline(
          round: Int(clamping: decline.round),
          code: decline.code.oneLine(atMost: 64),
          reason: decline.reason.oneLine(atMost: 512)
        )
      )
    case .goodbye: return .leave(reason: "said goodbye")
    default:
      return .refuse(
        code: "unexpected-message",
        text: "a \(envelope.messageName) is not expected here",
        reason: "broke the protocol"
      )
    }
  }

  /// Checks Hello against the certificate and answers with the manifest.
  private func greet(_ envelope: WireEnvelope) -> Step {
    func refuse(_ code: String, _ text: String) -> Step { .refuse(code: code, text: text, reason: "refused") }
    guard case .hello(let hello)? = envelope.message else {
      return refuse("unexpected-message", "the first message must be Hello")
    }
    guard hello.protocolVersion == protocolVersion else {
      return refuse(
        "wrong-version",
        "protocol version \(hello.protocolVersion) is not served; this coordinator speaks \(protocolVersion)"
      )
    }
    guard hello.clientName == name else {
      return refuse(
        "name-mismatch",
        "the certificate is '\(name)'s, but Hello says '\(hello.clientName.oneLine(atMost: 64))'"
      )
    }
    var welcome = WireWelcome()
    welcome.manifest = run.bytes
    welcome.manifestSha256 = run.hash
    return .answer(WireEnvelope(.welcome(welcome)))
  }

  /// What the streams of this connection may hold.
  package var expectation: ExpectStream {
    let run = run
    return { envelope in
      guard case .update(let update)? = envelope.message, update.runID == run.manifest.runID else {
        throw StreamViolation(
          code: "wrong-run",
          text: "an update of run '\(run.manifest.runID)' was expected, not a \(envelope.messageName)"
        )
      }
      return .update(run.updateLayout)
    }
  }
}
