import Crypto
import FedLoRACheckpoint
import FedLoRAClient
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import SwiftProtobuf
import Testing

/// What a client makes of the end that it is told.
@Suite("A Goodbye")
struct GoodbyeTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func ending(_ outcome: WireRunOutcome, _ reason: String, _ tensors: TensorSet?) throws
    -> ClientSessionMachine.Ending?
  {
    let run = try ToyRun()
    var machine = ClientSessionMachine(
      name: "c",
      stateDirectory: scratch.appending(UUID().uuidString),
      logger: Project.silent
    )
    var welcome = WireWelcome()
    welcome.manifest = try run.manifest.serializedBytes()
    welcome.manifestSha256 = Data(SHA256.hash(data: welcome.manifest))
    _ = try machine.handle(.connected)
    _ = try machine.handle(.heard(WireEnvelope(.welcome(welcome)), tensors: nil))
    _ = try machine.handle(.checked(.success(5)))
    var goodbye = WireGoodbye()
    goodbye.runID = run.manifest.runID
    goodbye.outcome = outcome
    goodbye.reason = reason
    let steps = try machine.handle(.heard(WireEnvelope(.goodbye(goodbye)), tensors: tensors))
    for case .over(let ending) in steps { return ending }
    return nil
  }

  @Test("with the last state completes the run, also where it ended at its privacy budget")
  func lastState() throws {
    let state = try ToyRun().initialState
    for (outcome, reason) in [(WireRunOutcome.completed, ""), (.stopped, "the budget is spent")] {
      let end = try #require(try ending(outcome, reason, state))
      #expect(end.ending == .completed && end.finalState == state)
    }
  }

  @Test("without it says why there is none")
  func noState() throws {
    #expect(try ending(.stopped, "sent away", nil)?.ending == .stopped("sent away"))
    #expect(try ending(.failed, "no quorum", nil)?.ending == .failed("no quorum"))
  }
}
