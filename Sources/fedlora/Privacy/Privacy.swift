import ArgumentParser
import FedLoRAClient
import FedLoRAConfiguration

/// `fedlora privacy`.
struct Privacy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Plan what a private run costs, read what was spent, and attack the code that promises it.",
    subcommands: [PrivacyPlan.self, Report.self, PrivacyPolicy.self, Audit.self]
  )
}

/// `fedlora privacy policy`.
struct PrivacyPolicy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "policy",
    abstract: "Print the standard policy of a client, as a file to start from.",
    discussion: """
      A policy says what the owner of the data agrees to; a run that asks for more is refused before the data are read.

        fedlora privacy policy > policy.yaml
        fedlora client --policy policy.yaml …
      """
  )

  func run() async throws { Output.write(ClientPolicy.defaults) }
}
