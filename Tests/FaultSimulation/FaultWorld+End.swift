import FedLoRAClient
import FedLoRACoordinator

/// What must be true when nothing more happens.
extension FaultWorld {
  func checkEnd() {
    guard let outcome = coordinator?.conductor.outcome else {
      return promises.violated(
        "no end after \(now): the coordinator is \(coordinator.map { "in \($0.conductor.state.phase)" } ?? "down")"
      )
    }
    switch outcome {
    case .completed:
      if promises.commits.count != settings.rounds { promises.violated("completed without all rounds") }
      for client in clients {
        if client.ending == nil { promises.violated("\(client.name) never learned of the end") }
        if client.ending == .completed, client.finalState != promises.states.last {
          promises.violated("\(client.name) was sent another final state")
        }
      }
    case .failed(let reason):
      if !reason.contains("attempts"), !reason.contains("clients are left") { promises.violated("failed: \(reason)") }
    case .budgetSpent:
      for client in clients where client.ending == .completed && client.finalState != promises.states.last {
        promises.violated("\(client.name) was sent another final state")
      }
      if let charges = try? storeAfterTheWorst().chargedReleases(), (try? run.account?.refusal(after: charges)) == nil {
        promises.violated("the run ended at its budget after \(charges) releases, which leave room for another")
      }
    case .stopped: promises.violated("no end after \(now): \(outcome)")
    }
    if let account = run.account, let charges = try? storeAfterTheWorst().chargedReleases(),
      let spent = try? account.spent(releases: charges), spent.epsilon > account.terms.epsilon
    {
      promises.violated("the run spent \(spent.epsilon) of its budget of \(account.terms.epsilon)")
    }
  }
}
