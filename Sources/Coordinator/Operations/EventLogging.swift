import FedLoRAFederation
import FedLoRAProtocol
import Logging

extension Logger {
  /// Logs what a coordinator reports, with round and client where they are known; the run is a field of the logger.
  ///
  /// Refusals of connections and most notices are logged where they are made, and not again here.
  /// - Parameter hidesCohorts: whether who takes part in a round is secret: it is then logged at `debug` only.
  func log(_ event: CoordinatorEvent, hidesCohorts: Bool) {
    let personal: Logger.Level = hidesCohorts ? .debug : .info
    func fields(_ round: Int? = nil, _ client: String? = nil, code: String? = nil, reason: String? = nil) -> Metadata {
      var fields: Metadata = [:]
      if let round { fields["round"] = .stringConvertible(round) }
      if let client { fields["client"] = .string(client) }
      if let code { fields["code"] = .string(code) }
      if let reason, !reason.isEmpty { fields["reason"] = .string(reason) }
      return fields
    }
    switch event {
    case .clientReady(let name, let ready):
      info("client ready", metadata: fields(nil, name).merging(["ready": .stringConvertible(ready)]) { $1 })
    case .clientLost(let name, let reason): info("client lost", metadata: fields(nil, name, reason: reason))
    case .refused: break
    case .notice(let code, let text):
      if code == "identity-reloaded" { notice("identity reloaded", metadata: fields(code: code, reason: text)) }
    case .roundOpened(let round, let attempt, let cohort):
      var all = fields(round).merging(["attempt": .stringConvertible(attempt)]) { $1 }
      if !hidesCohorts { all["clients"] = .stringConvertible(cohort.count) }
      info("round opened", metadata: all)
    case .cohortExtended(let round, let names):
      info("cohort extended", metadata: fields(round).merging(["clients": .stringConvertible(names.count)]) { $1 })
    case .updateAccepted(let round, let name, _): log(level: personal, "update accepted", metadata: fields(round, name))
    case .updateRefused(let round, let name, let code, let reason):
      log(level: personal, "update refused", metadata: fields(round, name, code: code, reason: reason))
    case .declined(let round, let name, let code, let reason):
      // Round 0 is the whole run.
      let number = round == 0 ? nil : round
      log(
        level: round == 0 ? .info : personal,
        "client declined",
        metadata: fields(number, name, code: code, reason: reason)
      )
    case .clientOutcome(let round, let name, let code, let reason):
      log(level: personal, "client outcome", metadata: fields(round, name, code: code, reason: reason))
    case .aggregated(let round, let rule, let updates, let leftOut, let scaledDown, let seconds):
      var all = fields(round)
      all["rule"] = .string(rule.rawValue)
      all["updates"] = .stringConvertible(updates)
      all["seconds"] = .stringConvertible(seconds)
      if !leftOut.isEmpty { all["left_out"] = .array(leftOut.map { .string($0) }) }
      if !scaledDown.isEmpty { all["scaled_down"] = .array(scaledDown.map { .string($0) }) }
      info("round aggregated", metadata: all)
    case .roundCommitted(let round, let updates, _, let loss, let traffic, let epsilon):
      var all = fields(round)
      if !hidesCohorts {
        all["updates"] = .stringConvertible(updates)
        all["bytes_sent"] = .stringConvertible(traffic.sent)
        all["bytes_received"] = .stringConvertible(traffic.received)
      }
      if let loss { all["loss"] = .stringConvertible(loss) }
      if let epsilon { all["epsilon"] = .stringConvertible(epsilon) }
      notice("round committed", metadata: all)
    case .finished(let outcome):
      let (word, reason) = outcome.words
      notice("run over", metadata: fields(code: word, reason: reason))
    }
  }
}
