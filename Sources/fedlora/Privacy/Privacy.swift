import ArgumentParser

/// `fedlora privacy`.
struct Privacy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "privacy",
    abstract: "What a data set has spent of its privacy.",
    subcommands: [Report.self]
  )
}
