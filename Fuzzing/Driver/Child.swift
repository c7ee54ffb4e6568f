#if !LIBFUZZER
  import CMeter
  import FedLoRAFuzzing
  import Foundation

  /// Starts child processes of one target and says how they ended.
  struct Child {
    private let target: String
    private let corpus: URL
    private let scratch: FuzzScratch
    /// What a child leaves behind when it is killed lies here.
    private var leavings: URL { scratch.folder.appendingPathComponent("child") }
    private let record: FlightRecord

    /// An input on which a child makes no progress for so long hangs without using the processor.
    private static let patience = Duration.seconds(120)

    init(target: String, corpus: URL) throws {
      self.target = target
      self.corpus = corpus
      scratch = try FuzzScratch()
      record = try FlightRecord(creating: scratch.folder.appendingPathComponent("record"))
    }

    /// How a child died.
    struct Death {
      enum Cause: String {
        case crash, memory, time, property
        case stuck = "stuck without using the processor"
      }
      let cause: Cause
      /// What it wrote to standard error.
      let text: String
    }

    struct Ending {
      let reading: FlightRecord.Reading
      /// Nil where the child came to the end of its work.
      let death: Death?
    }

    /// Runs one input, and nothing else.
    func run(input: [UInt8], backtrace: Bool = false) throws -> Death? {
      let file = scratch.folder.appendingPathComponent("input")
      try Data(input).write(to: file)
      return try run(["--file", file.path], backtrace: backtrace).death
    }

    func run(_ arguments: [String], backtrace: Bool = false) throws -> Ending {
      let empty = try FileHandle(forWritingTo: record.url)
      try empty.write(contentsOf: Data(count: 32))
      try empty.close()
      let errors = scratch.folder.appendingPathComponent("errors")
      try Data().write(to: errors)
      let process = Process()
      process.executableURL = URL(
        fileURLWithPath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
      )
      process.arguments =
        ["child", "--target", target, "--corpus", corpus.path, "--record", record.url.path] + arguments
      var environment = ProcessInfo.processInfo.environment
      environment["SWIFT_BACKTRACE"] =
        backtrace
        ? "enable=yes,color=no,limit=60,threads=crashed,images=none,registers=none,symbolicate=fast" : "enable=no"
      environment[FuzzScratch.parentVariable] = leavings.path
      process.environment = environment
      process.standardError = try FileHandle(forWritingTo: errors)
      process.standardInput = FileHandle.nullDevice
      try process.run()
      let isStuck = try wait(for: process)
      try? FileManager.default.removeItem(at: leavings)
      let text = String(decoding: try Data(contentsOf: errors), as: UTF8.self)
      let reading = try record.read()
      let cause: Death.Cause?
      switch (process.terminationReason, process.terminationStatus) {
      case (.exit, 0): cause = nil
      case _ where isStuck: cause = .stuck
      case (.exit, ChildCommand.propertyStatus): cause = .property
      case (.exit, let status): throw FuzzFailure("a child ended with status \(status): \(text)")
      default:
        switch Int(reading.cause) {
        case METER_MEMORY: cause = .memory
        case METER_TIME: cause = .time
        default: cause = .crash
        }
      }
      return Ending(reading: reading, death: cause.map { Death(cause: $0, text: text) })
    }

    /// Waits for the end, and ends a child that stands still.
    private func wait(for process: Process) throws -> Bool {
      var last: UInt64?
      let clock = ContinuousClock()
      var since = clock.now
      while process.isRunning {
        usleep(2000)
        guard clock.now - since > .seconds(5) else { continue }
        let index = try record.read().index
        if index != last { (last, since) = (index, clock.now) }
        if clock.now - since > Child.patience {
          kill(process.processIdentifier, SIGKILL)
          process.waitUntilExit()
          return true
        }
      }
      process.waitUntilExit()
      return false
    }

    /// The function of a backtrace's line; nil where it is the meter's, the harness's or a library's.
    private static func function(_ line: Substring) -> String? {
      guard let end = line.firstRange(of: " in fuzz at "), let address = line.firstRange(of: " 0x") else { return nil }
      let words = line[address.upperBound..<end.lowerBound].split(separator: " ").dropFirst()
      let name = words.prefix { $0 != "+" }.joined(separator: " ")
      let meter = [
        "malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "memalign", "refuse_memory", "time_is_over",
      ]
      return meter.contains { name.hasPrefix($0) } ? nil : name
    }

    /// What kind of finding this is: the cause, with the first function of ours in the backtrace, so that one bug that was hit
    /// many times counts as one.
    func kind(of bytes: [UInt8], _ death: Death) throws -> String {
      if death.cause == .property { return "property: " + death.text.prefix(120).replacing("\n", with: " ") }
      guard let again = try run(input: bytes, backtrace: true) else { return "\(death.cause.rawValue), not again" }
      let place = again.text.split(separator: "\n").lazy.compactMap(Child.function).first
      return "\(death.cause.rawValue) in \(place ?? "an unknown place")"
    }
  }
#endif
