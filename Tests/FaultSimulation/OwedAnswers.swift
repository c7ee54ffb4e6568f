/// Answers that a coordinator owes for updates that it has taken up.
struct OwedAnswers {
  private struct Refusal {
    let client: String
    let round: Int
    let code: String
    let link: Int
  }

  private var refusals: [Refusal] = []
  private var acceptances: [Refusal] = []
  private(set) var wrongs: [String] = []

  /// An update with a flaw was taken up.
  mutating func isOwedRefusal(_ client: String, round: Int, code: String, link: Int) {
    refusals.append(Refusal(client: client, round: round, code: code, link: link))
  }

  /// A good update of the open round was taken up, by a client whose update was refused before.
  mutating func isOwedAcceptance(_ client: String, round: Int, link: Int) {
    acceptances.append(Refusal(client: client, round: round, code: "", link: link))
  }

  /// A client is told that its update was refused.
  mutating func isRefused(_ client: String, round: Int, reason: String) {
    guard let flaw = UpdateFlaw.allCases.first(where: { reason.hasPrefix("\($0.code): ") }) else { return }
    let owed = refusals.firstIndex { $0.client == client && $0.round == round && $0.code == flaw.code }
    if let owed {
      refusals.remove(at: owed)
    } else {
      wrongs.append("\(client) was told for nothing that its update of round \(round) was refused: \(reason)")
    }
  }

  /// A client is told that its update counts.
  mutating func isAccepted(_ client: String, round: Int) {
    acceptances.removeAll { $0.client == client && $0.round == round }
  }

  /// What was taken up is durable, and everything was sent that follows.
  /// - Parameter stands: whether the connection of this number is its client's still.
  mutating func settle(stands: (Int) -> Bool) -> [String] {
    defer { forget() }
    return wrongs
      + refusals.filter { stands($0.link) }.map {
        "\($0.client) was not told that its update of round \($0.round) was refused with \($0.code)"
      }
      + acceptances.filter { stands($0.link) }.map {
        "\($0.client) was refused once in round \($0.round), and could not send another update"
      }
  }

  /// What was taken up did not become durable: nobody is owed anything.
  mutating func forget() { self = OwedAnswers() }
}
