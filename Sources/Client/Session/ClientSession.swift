import FedLoRACheckpoint
import FedLoRAEngine
import FedLoRAProtocol
import Foundation
import Logging

/// One connection of a client: does what its `ClientSessionMachine` asks for.
struct ClientSession: Sendable {
  /// How a connection ended.
  enum Result: Sendable {
    /// The run is over.
    case over(End)
    /// The connection is gone; whether anything was achieved on it, and when to come back where the coordinator said so.
    case lost(reason: String, madeProgress: Bool, comeBackAfter: Duration?)
  }

  /// What is left when the run is over.
  struct End: Sendable {
    let ending: ClientOutcome.Ending
    let manifest: WireRunManifest?
    let finalState: TensorSet?
    let personal: TensorSet
    let roundsTrained: Int
  }

  let name: String
  let stateDirectory: URL
  let trainer: any LocalTrainer
  let log: ClientLog
  let onEvent: @Sendable (ClientEvent) -> Void

  /// What can happen while steps are not being done.
  private enum Happening: Sendable {
    /// A message, or the end of the connection and why.
    case received(Inbound)
    case lost(reason: String)
    /// The round's local steps are done, or failed.
    case trained(round: UInt64, Swift.Result<LocalUpdate, any Error>)
  }

  /// Reads and trains at the same time, so that the end of the run, or of this session, does not wait for a round.
  func run(_ connection: PeerConnection) async throws -> Result {
    var machine = ClientSessionMachine(name: name, stateDirectory: stateDirectory, logger: log.logger)
    /// The machine reads and writes its folder, so it runs where waiting for the disk is in nobody's way. What was trained is
    /// made durable even where this task is cancelled meanwhile.
    func handle(_ input: ClientSessionMachine.Input) async throws -> [ClientSessionMachine.Step] {
      let now = machine
      let (next, steps) = try await ClientDesk.crew.perform(isCancellable: false) {
        var machine = now
        var input = input
        if case .heard(let envelope, let tensors?) = input {
          input = .heard(envelope, tensors: trainer.resident(tensors))
        }
        let steps = try machine.handle(input)
        return (machine, steps)
      }
      machine = next
      return steps
    }
    var steps = try await handle(.connected)
    return try await withThrowingTaskGroup(of: Happening.self) { group in
      group.addTask { try await receive(connection, nil) }
      while true {
        while !steps.isEmpty {
          switch steps.removeFirst() {
          case .check(let manifest): steps = try await handle(.checked(try await check(manifest))) + steps
          case .send(let envelope): try await offer { try await connection.send(envelope) }
          case .sendSealed(let sealed): try await offer { try await connection.send(sealed) }
          case .train(let manifest, let round, let state, let personal):
            group.addTask {
              .trained(
                round: round,
                await Swift.Result { try await train(manifest, round: round, state: state, personal: personal) }
              )
            }
          case .report(let event): onEvent(event)
          case .over(let ending):
            group.cancelAll()
            return .over(try await end(ending))
          case .leave(let reason, let madeProgress, let comeBackAfter):
            group.cancelAll()
            return .lost(reason: reason, madeProgress: madeProgress, comeBackAfter: comeBackAfter)
          case .fail(let error): throw error
          }
        }
        switch try await group.next() {
        case .received(let inbound)?:
          steps = try await handle(.heard(inbound.envelope, tensors: inbound.tensors))
          let layout = machine.layout
          group.addTask { try await receive(connection, layout) }
        case .trained(let round, let result)?: steps = try await handle(.trained(round: round, result))
        case .lost(let reason)?: steps = try await handle(.connectionLost(reason: reason))
        case nil: return .lost(reason: "the connection ended", madeProgress: true, comeBackAfter: nil)
        }
      }
    }
  }

  /// Holds a manifest against the owner's policy; the example count is read only where the weights of the run need it.
  private func check(_ manifest: WireRunManifest) async throws -> Swift.Result<UInt64, ManifestRefusal> {
    do {
      try await trainer.check(manifest)
      switch manifest.strategy.weighting {
      case "uniform": return .success(0)
      case "capped":
        return .success(min(UInt64(try await trainer.statedExamples(manifest)), manifest.strategy.weightCap))
      default: return .success(UInt64(try await trainer.statedExamples(manifest)))
      }
    } catch let refusal as ManifestRefusal {
      return .failure(refusal)
    }
  }

  private func train(
    _ manifest: WireRunManifest,
    round: UInt64,
    state: TensorSet,
    personal: TensorSet?
  ) async throws -> LocalUpdate {
    let own: TensorSet
    if let personal { own = personal } else { own = try await trainer.initialPersonal(manifest) }
    return try await trainer.train(
      RoundAssignment(
        manifest: manifest,
        round: Int(clamping: round),
        clientName: name,
        state: state,
        personal: own
      )
    )
  }

  private func end(_ ending: ClientSessionMachine.Ending) async throws -> End {
    var personal = TensorSet()
    if let latest = ending.personal {
      personal = latest
    } else if case .declined = ending.ending {
    } else {
      personal = try await trainer.initialPersonal(ending.manifest)
    }
    if case .completed = ending.ending, let state = ending.finalState {
      personal = try await trainer.finish(
        RoundAssignment(
          manifest: ending.manifest,
          round: Int(ending.manifest.rounds),
          clientName: name,
          state: state,
          personal: personal
        )
      )
    }
    return End(
      ending: ending.ending,
      manifest: ending.manifest,
      finalState: ending.finalState,
      personal: personal,
      roundsTrained: ending.roundsTrained
    )
  }

  private func receive(_ connection: PeerConnection, _ layout: TensorLayout?) async throws -> Happening {
    do {
      var expectation = PeerConnection.expectNothing
      if let layout { expectation = { _ in .state(layout) } }
      guard let inbound = try await connection.receive(expecting: expectation) else {
        return .lost(reason: "the coordinator closed the connection")
      }
      return .received(inbound)
    } catch let error as TransportError {
      switch error {
      case .untrustedPeer, .refusedByPeer, .misuse, .peerReported: throw error
      default: return .lost(reason: error.description)
      }
    }
  }

  /// Sends; where the connection is gone, the reader will say so after what still lies in its queue, Goodbye perhaps.
  private func offer(_ send: () async throws -> Void) async throws {
    do { try await send() } catch let error as TransportError {
      switch error {
      case .untrustedPeer, .refusedByPeer, .misuse: throw error
      default: log.logger.debug("not sent", metadata: ["reason": .string(error.description)])
      }
    }
  }
}

extension Result where Failure == any Error {
  /// The outcome of asynchronous work.
  fileprivate init(_ body: () async throws -> Success) async {
    do { self = .success(try await body()) } catch { self = .failure(error) }
  }
}
