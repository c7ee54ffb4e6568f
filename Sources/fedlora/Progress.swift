import FedLoRACoordinator
import FedLoRASimulation
import Foundation
import Synchronization

/// Progress on standard error: a line that is rewritten on a terminal, plain lines otherwise.
final class Progress: Sendable {
  private struct State {
    var title = ""
    var rounds: Int?
    var start = ContinuousClock.now
    var lastFraction = 0.0
    var isLineOpen = false
  }
  private let state = Mutex(State())

  func show(_ event: SimulationEvent) {
    switch event {
    case .loaded(let clients, let train, let test, let labels, let parameters):
      line(
        "\(clients) clients, \(train) training and \(test) held-out examples of \(labels) classes, base model of "
          + String(format: "%.1f M parameters", Double(parameters) / 1e6)
      )
    case .cell(let name, let number, let total): line("run \(number) of \(total): \(name)")
    case .started(let name, let rounds):
      state.withLock {
        $0.title = name
        $0.rounds = rounds
        $0.start = .now
        $0.lastFraction = 0
      }
    case .progress(_, let fraction): step(fraction, detail: "")
    case .coordinator(_, let event): show(event)
    case .finished(let row):
      let score =
        row.meanClientPerplexity.map { String(format: "perplexity %.2f", $0) }
        ?? row.meanClientAccuracy.map { String(format: "accuracy %.1f %%", 100 * $0) } ?? "accuracy -"
      line("\(row.name): clients' mean \(score) in \(String(format: "%.1f s", row.seconds))")
    }
  }

  func begin(_ title: String, rounds: Int) {
    state.withLock {
      $0.title = title
      $0.rounds = rounds
      $0.start = .now
    }
  }

  func show(_ event: CoordinatorEvent) {
    switch event {
    case .roundCommitted(let round, let updates, let counts, let loss, _, _):
      let total = state.withLock { $0.rounds } ?? round
      let lossText = loss.map { String(format: ", loss %.4f", $0) } ?? ""
      let faults = counts.filter { $0.key != "accepted" && $0.value > 0 }.sorted { $0.key < $1.key }
        .map { ", \($0.value) \($0.key)" }.joined()
      step(
        Double(round) / Double(max(1, total)),
        detail: "round \(round)/\(total): \(updates) updates\(faults)\(lossText)",
        always: true
      )
    case .updateRefused(let round, let name, let code, let reason):
      line("round \(round): update of \(name) refused: \(reason) (\(code))")
    case .declined(let round, let name, let code, let reason):
      line("\(name) declines \(round == 0 ? "the run" : "round \(round)"): \(reason) (\(code))")
    case .clientOutcome(let round, let name, let code, let reason) where code == "drained" || code == "removed":
      line("round \(round): \(name) is \(code): \(reason)")
    case .refused(let address, let code, let reason): line("connection from \(address) refused: \(reason) (\(code))")
    case .notice(let code, let text): line("\(text) (\(code))")
    case .roundOpened(let round, let attempt, _) where attempt > 1:
      line("round \(round): attempt \(attempt) with a new cohort")
    case .clientReady, .clientLost, .roundOpened, .cohortExtended, .updateAccepted, .clientOutcome, .aggregated,
      .finished:
      break
    }
  }

  func line(_ text: String) {
    state.withLock { state in
      if state.isLineOpen { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
      state.isLineOpen = false
      Output.note(text)
    }
  }

  /// Shows a share of the work with its rate and the time that is left.
  private func step(_ fraction: Double, detail: String, always: Bool = false) {
    state.withLock { state in
      let elapsed = (ContinuousClock.now - state.start).inSeconds
      guard always || fraction >= 1 || fraction - state.lastFraction >= (Output.isTerminal ? 0.01 : 0.25) else {
        return
      }
      state.lastFraction = fraction
      let left =
        fraction > 0 && fraction < 1 ? String(format: ", %.0f s left", elapsed / fraction * (1 - fraction)) : ""
      let text =
        "\(state.title): \(detail.isEmpty ? String(format: "%.0f %%", 100 * fraction) : detail)"
        + String(format: ", %.1f s", elapsed) + left
      if Output.isTerminal {
        let width = 20
        let filled = Int((fraction * Double(width)).rounded())
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
        FileHandle.standardError.write(Data("\r\u{1B}[K[\(bar)] \(text)".utf8))
        state.isLineOpen = true
      } else {
        Output.note(text)
      }
    }
  }
}

extension Duration {
  /// This span in seconds.
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
