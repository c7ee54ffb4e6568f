#if !LIBFUZZER
  import FedLoRAFuzzing
  import Foundation

  /// Fuzzes one target for a time: starts children, collects what kills them, and goes on behind it.
  struct Campaign {
    let target: FuzzTarget
    let corpus: FuzzCorpus
    let seed: UInt64
    let findings: URL
    let minimises: Bool
    private let child: Child

    /// After so many findings of a target more tell nothing new.
    private static let mostFindings = 40

    init(target: FuzzTarget, corpus: FuzzCorpus, seed: UInt64, findings: URL, minimises: Bool) throws {
      self.target = target
      self.corpus = corpus
      self.seed = seed
      self.findings = findings
      self.minimises = minimises
      child = try Child(target: target.name, corpus: corpus.folder)
    }

    struct Report {
      let target: String
      var executions: UInt64 = 0
      var accepted: UInt64 = 0
      var peak: UInt64 = 0
      var seconds = 0.0
      var findings = 0
      var kinds: [String: Int] = [:]

      var line: String {
        let rate = Double(executions) / max(seconds, 1e-9)
        let text = String(
          format: "%@: %llu executions in %.0f s (%.0f/s), %llu accepted, at most %llu KiB",
          target,
          executions,
          seconds,
          rate,
          accepted,
          peak >> 10
        )
        return text + (findings == 0 ? ", nothing found" : ", \(findings) FOUND, \(kinds.count) kinds")
      }
    }

    /// Runs the corpus, then mutations.
    func run(seconds: Double, executions: UInt64) throws -> Report {
      var report = Report(target: target.name)
      let items = try corpus.items(of: target)
      var next: UInt64 = 0
      while next < items.count {
        let ending = try child.run(["--corpus-only", "--start", "\(next)"])
        report.add(ending.reading)
        guard let death = ending.death else { break }
        try note(death, ending.reading, "corpus file \(items[Int(ending.reading.index)].name)", &report)
        next = ending.reading.index + 1
      }
      next = 0
      while report.findings < Campaign.mostFindings, executions == 0 || next < executions {
        let left = seconds - report.seconds
        guard left > 0 else { break }
        let clock = ContinuousClock()
        let begin = clock.now
        let ending = try child.run(
          ["--seed", "\(seed)", "--start", "\(next)", "--seconds", "\(left)"]
            + (executions > 0 ? ["--executions", "\(executions)"] : [])
        )
        report.seconds += begin.duration(to: clock.now) / .seconds(1)
        report.add(ending.reading)
        report.executions += ending.reading.index + 1 - next
        next = ending.reading.index + 1
        guard let death = ending.death else { break }
        try note(death, ending.reading, "execution \(ending.reading.index) with seed \(seed)", &report)
      }
      return report
    }

    private func note(_ death: Child.Death, _ reading: FlightRecord.Reading, _ place: String, _ report: inout Report)
      throws
    {
      report.findings += 1
      let kind = try child.kind(of: reading.bytes, death)
      report.kinds[kind, default: 0] += 1
      guard report.kinds[kind] == 1 else { return }
      let small = minimises ? try Minimiser(child: child, death: death.cause).minimised(reading.bytes) : reading.bytes
      let folder = findings.appendingPathComponent(target.name)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let file = folder.appendingPathComponent("found-\(Campaign.hash(small))")
      try Data(small).write(to: file)
      Campaign.say(
        """
        \(target.name): \(kind) at \(place): \(reading.bytes.count) bytes, \(small.count) after minimising
          \(death.text.split(separator: "\n").first ?? "")
          swift run -c release fuzz replay --target \(target.name) \(file.relativePath)
        """
      )
    }

    /// Written at once, also into a pipe: who waits for a long run reads along.
    static func say(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

    /// FNV-1a, for a name.
    private static func hash(_ bytes: [UInt8]) -> String {
      String(bytes.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }, radix: 16)
    }
  }

  extension Campaign.Report {
    mutating func add(_ reading: FlightRecord.Reading) {
      accepted += reading.accepted
      peak = max(peak, reading.peak)
    }
  }
#endif
