import ArgumentParser

/// `fedlora bench`.
struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure this machine.",
    subcommands: [BenchEngine.self, BenchStep.self]
  )
}
