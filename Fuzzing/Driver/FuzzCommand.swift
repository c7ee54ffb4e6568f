#if !LIBFUZZER
  import ArgumentParser
  import FedLoRAFuzzing
  import Foundation

  /// `fuzz`.
  @main
  struct FuzzCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "fuzz",
      abstract: "Feeds fedlora's parsers with inputs that nobody meant.",
      discussion: """
        Each target is one parser of bytes from outside the process. Inputs are run in a child process, which a bad one may
        kill; what it ran is kept, made small, and printed with the command that runs it again.

          swift run -c release fuzz --target all --seconds 600 --seed 1
          swift run -c release fuzz replay --target tokenizer Fuzzing/Corpus/tokenizer/seed-00

        docs/testing.md tells the rest. Exit codes: 0 nothing found, 1 something found, 64 wrong use.
        """,
      subcommands: [RunCommand.self, ReplayCommand.self, SeedsCommand.self, ListCommand.self, ChildCommand.self],
      defaultSubcommand: RunCommand.self
    )
  }

  /// Which targets, and where their inputs are.
  struct TargetOptions: ParsableArguments {
    @Option(help: "A target by name, or all.")
    var target = "all"
    @Option(help: "Folder with a subfolder of inputs for each target.")
    var corpus = "Fuzzing/Corpus"

    var targets: [FuzzTarget] {
      get throws {
        if target == "all" { return FuzzTargets.all }
        guard let found = FuzzTargets.named(target) else {
          let known = FuzzTargets.all.map(\.name).joined(separator: ", ")
          throw ValidationError("no target is named '\(target)'; known are \(known)")
        }
        return [found]
      }
    }

    var inputs: FuzzCorpus { FuzzCorpus(URL(fileURLWithPath: corpus)) }
  }

  /// `fuzz run`.
  struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "run",
      abstract: "Run the corpus, then mutations of it."
    )

    @OptionGroup var options: TargetOptions
    @Option(help: "Seconds for all targets together.")
    var seconds = 60.0
    @Option(help: "Most mutated inputs of each target; 0 for as many as the time allows.")
    var executions: UInt64 = 0
    @Option(help: "What all mutations follow from.")
    var seed: UInt64 = 1
    @Option(help: "Folder for inputs that were found.")
    var findings = "fuzz-findings"
    @Flag(help: "Keep what was found as it is.")
    var noMinimise = false

    func run() throws {
      let targets = try options.targets
      var total = 0
      for target in targets {
        let campaign = try Campaign(
          target: target,
          corpus: options.inputs,
          seed: seed,
          findings: URL(fileURLWithPath: findings),
          minimises: !noMinimise
        )
        let report = try campaign.run(seconds: seconds / Double(targets.count), executions: executions)
        Campaign.say(report.line)
        total += report.findings
      }
      if total > 0 { throw ExitCode(1) }
    }
  }

  /// `fuzz replay`.
  struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "replay",
      abstract: "Run inputs of one target in this process, under its limits."
    )

    @OptionGroup var options: TargetOptions
    @Argument(help: "Files, or folders of files.")
    var files: [String]

    func run() throws {
      guard let target = FuzzTargets.named(options.target) else {
        throw ValidationError("name one target: --target NAME")
      }
      let session = try Session(target: target, record: nil)
      try session.warmUp()
      var hasFailed = false
      for file in files {
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: file)))
        do {
          let (isAccepted, peak) = try session.execute(bytes, index: 0)
          print("\(file): \(isAccepted ? "accepted" : "refused"), \(bytes.count) bytes, \(peak) bytes of memory")
        } catch let failure {
          print("\(file): FAILED: \(failure)")
          hasFailed = true
        }
      }
      if hasFailed { throw ExitCode(1) }
    }
  }

  /// `fuzz seeds`.
  struct SeedsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "seeds",
      abstract: "Write the seeds that the targets' code makes into the corpus, replacing its seed-* files."
    )

    @OptionGroup var options: TargetOptions

    func run() throws {
      for target in try options.targets { print("\(target.name): \(try options.inputs.writeSeeds(of: target)) seeds") }
    }
  }

  /// `fuzz list`.
  struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "list",
      abstract: "The targets and what they may cost."
    )

    func run() throws {
      for target in FuzzTargets.all {
        let limits = target.limits
        print(
          "\(target.name): \(target.about); \(limits.memory >> 10) KiB and \(limits.memoryPerByte) bytes a byte, "
            + "\(limits.milliseconds) ms, inputs to \(limits.length) bytes"
        )
      }
    }
  }
#endif
