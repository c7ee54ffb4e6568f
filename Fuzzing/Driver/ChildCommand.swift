#if !LIBFUZZER
  import ArgumentParser
  import CMeter
  import FedLoRAFuzzing
  import Foundation

  /// What the parent starts: runs inputs until the time or the number is over, or one of them kills the process.
  struct ChildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "child", abstract: "Run by run.", shouldDisplay: false)

    @OptionGroup var options: TargetOptions
    @Option var record: String
    @Option var seed: UInt64 = 1
    @Option var start: UInt64 = 0
    @Option var executions: UInt64 = .max
    @Option var seconds = 1e9
    /// One input to run and nothing else, for the minimiser.
    @Option var file: String?
    /// The corpus itself rather than mutations.
    @Flag var corpusOnly = false

    /// What the process ends with when a property does not hold.
    static let propertyStatus: Int32 = 70

    func run() throws {
      guard let target = FuzzTargets.named(options.target) else { throw ValidationError("no target \(options.target)") }
      let session = try Session(target: target, record: try FlightRecord.mapped(record))
      do {
        try session.warmUp()
        if let file {
          _ = try session.execute([UInt8](try Data(contentsOf: URL(fileURLWithPath: file))), index: 0)
          return
        }
        let corpus = try options.inputs.items(of: target)
        if corpusOnly {
          for (index, item) in corpus.enumerated().dropFirst(Int(clamping: start)) {
            _ = try session.execute(item.bytes, index: UInt64(index))
          }
          return
        }
        let inputs = corpus.map(\.bytes)
        let clock = ContinuousClock()
        let end = clock.now + .seconds(seconds)
        var index = start
        while index < executions, clock.now < end {
          _ = try session.execute(Mutator.input(index, of: target, corpus: inputs, seed: seed), index: index)
          index += 1
        }
      } catch let failure as FuzzFailure {
        FileHandle.standardError.write(Data("fuzz: \(failure)\n".utf8))
        throw ExitCode(Self.propertyStatus)
      }
    }
  }
#endif
