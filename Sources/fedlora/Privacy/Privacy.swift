import ArgumentParser

/// `fedlora privacy`.
struct Privacy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "privacy",
    abstract: "Differential privacy: what noise costs and gives, before a run.",
    subcommands: [PrivacyPlan.self]
  )
}
