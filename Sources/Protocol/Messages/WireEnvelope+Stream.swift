/// The version of the protocol that this module speaks, `Hello.protocol_version`.
public let protocolVersion: UInt32 = 1

extension WireEnvelope {
  /// Wraps one message.
  public init(_ message: OneOf_Message) {
    self.init()
    self.message = message
  }

  /// The name of the message as in the schema, for logs; "nothing" where it is not set.
  public var messageName: String {
    switch message {
    case .hello: "Hello"
    case .welcome: "Welcome"
    case .ready: "Ready"
    case .round: "Round"
    case .update: "Update"
    case .ack: "Ack"
    case .commit: "Commit"
    case .wait: "Wait"
    case .decline: "Decline"
    case .error: "Error"
    case .goodbye: "Goodbye"
    case .chunk: "Chunk"
    case .ping: "Ping"
    case .pong: "Pong"
    case .enrolmentRequest: "EnrolmentRequest"
    case .renewalRequest: "RenewalRequest"
    case .enrolmentAnswer: "EnrolmentAnswer"
    case nil: "nothing"
    }
  }

  /// What the message says about tensors that follow it.
  var streamDeclaration: StreamDeclaration {
    switch message {
    case .round(let round): .declared(round.state)
    case .update(let update): .declared(update.tensors)
    case .goodbye(let goodbye): goodbye.hasState ? .declared(goodbye.state) : .absent
    default: .absent
    }
  }

  /// Puts `stream` into a Round, Update or Goodbye.
  /// - Returns: false where the message cannot declare a stream.
  mutating func declare(_ stream: WireTensorStream) -> Bool {
    switch message {
    case .round(var round):
      round.state = stream
      message = .round(round)
    case .update(var update):
      update.tensors = stream
      message = .update(update)
    case .goodbye(var goodbye):
      goodbye.state = stream
      message = .goodbye(goodbye)
    default: return false
    }
    return true
  }
}

/// Whether tensors follow a message. A Round and an Update always declare a stream: where the field is left out,
/// it is one without tensors.
enum StreamDeclaration {
  case absent
  case declared(WireTensorStream)
}
