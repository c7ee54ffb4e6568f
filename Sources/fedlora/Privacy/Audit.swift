import ArgumentParser
import FedLoRAFederation
import FedLoRASimulation
import Foundation

extension Privacy {
  /// `fedlora privacy audit`.
  struct Audit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "audit",
      abstract: "Attack the private training code and bound its epsilon from below.",
      discussion: """
        An accountant says how much epsilon is at most, for steps as they are meant to be. An audit runs the steps as they \
        are, and asks how well an attacker tells two worlds apart: a client's records without and with one more, a ticket \
        with a wrong label. The attacker is the coordinator. It sees what is uploaded after the steps and knows both data \
        sets, the model it sent and every setting; only the noise is hidden.

          fedlora privacy audit
          fedlora privacy audit --strategy fedsvd --runs 4000
          fedlora privacy audit --break unsound-fedsa --strategy fedsa-lora

        If an attacker is right too often for the claimed epsilon, the claim is false, and something is wrong with the \
        noise, the clipping or the accounting. That is a lower bound above the claim, and the only thing that \
        an audit can prove. A lower bound below the claim proves nothing: a better attack, other data or more runs may give a \
        higher one, and no mistake that hides from this attack is seen. With few runs even a perfect attack gives a low \
        bound.

        So that its silence means something, the audit also attacks code that is broken on purpose, which no run can be \
        configured to use: noise-off claims noise and adds none, per-tensor-clipping bounds each tensor where the joint \
        norm has to be bounded, and unsound-fedsa trains FedSA's own B without noise in the steps whose noised gradients of \
        A are uploaded (the gradient of A contains B). Not to catch one of them is a failure as well.

        It audits the embedded model and data with full batches and without dropout, at record level; how records are \
        sampled is not audited. Two bounds are \
        computed for a row: one that holds for any mechanism, and a sharper one against the claim that the steps are a \
        Gaussian mechanism, which full batches with Gaussian noise are. The lower bound is the larger. --confidence is that \
        of the whole table: all of its bounds hold together with it (each has its share of the rest, after Bonferroni), so a \
        sound program is said to leak with probability 1 - confidence at most. That a broken one is missed by bad luck comes \
        on top; it is rare from about 100 runs on. Exit code 1 says that a sound configuration leaks or a broken one was not \
        caught. The default takes one to two minutes on two cores.
        """
    )

    /// Which of the configurations that are broken on purpose are audited.
    enum Break: String, ExpressibleByArgument, CaseIterable {
      case none
      case noiseOff = "noise-off"
      case perTensorClipping = "per-tensor-clipping"
      case unsoundFedSA = "unsound-fedsa"
      case all
    }

    @Option(
      parsing: .upToNextOption,
      help: ArgumentHelp(
        "Strategies to audit; FedSA in all three forms of its personal tensors. Default: fedsvd, ffa-lora, fedit and "
          + "fedsa-lora.",
        valueName: "name"
      )
    )
    var strategy: [StrategyName] = []
    @Option(
      name: .customLong("break"),
      help: "What else is audited, broken on purpose. Default: all, or none with --strategy."
    )
    var broken: Break?
    @Option(help: "Runs in each of the two worlds of a configuration, 20 or more.")
    var runs = PrivacyAudit.Options().runs
    @Option(help: "The noise that is claimed, over the clipping norm.")
    var noiseMultiplier = PrivacyAudit.Options().noiseMultiplier
    @Option(help: "Noised steps of a run. unsound-fedsa needs 2 to leak.")
    var steps = PrivacyAudit.Options().steps
    @Option(help: "The probability with which all bounds hold together.")
    var confidence = PrivacyAudit.Options().confidence
    @Option(help: "Takes the noise from a seed, to repeat an audit. Default: the system's generator, as in a real run.")
    var seed: UInt64?
    @Option(help: "How to print the table: text or json.")
    var format: OutputFormat = .text

    func validate() throws {
      guard runs >= 20 else { throw ValidationError("--runs is \(runs), expected 20 or more") }
      guard steps >= 1 else { throw ValidationError("--steps is \(steps), expected 1 or more") }
      guard noiseMultiplier > 0, noiseMultiplier.isFinite else {
        throw ValidationError("--noise-multiplier is \(noiseMultiplier), expected above 0")
      }
      guard confidence > 0, confidence < 1 else {
        throw ValidationError("--confidence is \(confidence), expected above 0 and below 1")
      }
    }

    func run() async throws {
      var options = PrivacyAudit.Options()
      options.runs = runs
      options.noiseMultiplier = noiseMultiplier
      options.steps = steps
      options.confidence = confidence
      options.seed = seed
      let audit = try PrivacyAudit(subjects, options: options)
      let progress = Progress()
      progress.show(.started(name: "audit", rounds: nil))
      let report = try await Interrupt.cancelling(notice: "stopping; an audit that was stopped says nothing") {
        try await audit.run { event in
          switch event {
          case .progress(let fraction): progress.show(.progress(name: "audit", fraction: fraction))
          case .finished(let row):
            progress.line(
              row.name + String(format: ": epsilon %.2f claimed, at least %.2f found", row.claimed, row.lowerBound)
            )
          }
        }
      }
      progress.line("")
      let status: ExitStatus = report.hasPassed ? .done : .failed
      switch format {
      case .json: try Output.printJSON(report, status: status)
      case .text: Output.write(report.table + "\n\n" + explanation(report))
      }
      guard report.hasPassed else {
        throw CommandFailure(status: .failed, description: failure(report), isPrinted: true)
      }
    }

    private var subjects: [AuditSubject] {
      let sound = AuditSubject.sound(strategy.isEmpty ? AuditSubject.standardStrategies : strategy)
      switch broken ?? (strategy.isEmpty ? .all : .none) {
      case .none: return sound
      case .all: return sound + AuditSubject.BrokenForm.allCases.map { .broken($0) }
      case .noiseOff: return sound + [.broken(.noiseOff)]
      case .perTensorClipping: return sound + [.broken(.perTensorClipping)]
      case .unsoundFedSA: return sound + [.broken(.unsoundFedSA)]
      }
    }

    private func explanation(_ report: AuditReport) -> String {
      let share = String(format: "%g", 100 * report.confidence)
      var text = """
        \(report.runs) runs in each world of \(report.steps) step\(report.steps == 1 ? "" : "s") with noise multiplier \
        \(report.noiseMultiplier), delta \(report.delta), \(String(format: "%.0f", report.seconds)) s.
        With \(share) % confidence all bounds of this table hold together: a sound program fails such an audit with
        probability \(String(format: "%g", 1 - report.confidence)) at most (each of the \(2 * report.rows.count) bounds with \
        \(String(format: "%.2g", report.significance))). A lower bound below the claim proves nothing:
        more runs or a better attack may raise it.
        """
      if report.isSeeded { text += "\nThe noise came from a seed, so the audit says the same every time." }
      return text
    }

    private func failure(_ report: AuditReport) -> String {
      func names(_ verdict: AuditReport.Verdict) -> String {
        report.rows.filter { $0.verdict == verdict }.map(\.name).joined(separator: ", ")
      }
      var parts: [String] = []
      if report.rows.contains(where: { $0.verdict == .leaks }) {
        parts.append(
          "\(names(.leaks)) leaked more than was claimed; audit again with more runs and another seed, and if it happens "
            + "again do not trust the program's privacy"
        )
      }
      if report.rows.contains(where: { $0.verdict == .missed }) {
        parts.append("\(names(.missed)) is broken on purpose and was not caught; take more runs, or 2 steps and more")
      }
      return parts.joined(separator: ". ")
    }
  }
}

extension StrategyName: ExpressibleByArgument {}
