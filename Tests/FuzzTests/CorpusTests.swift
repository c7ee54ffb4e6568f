import FedLoRAFuzzing
import Foundation
import Testing

@Suite("Fuzzed parsers")
struct CorpusTests {
  private static let corpus = FuzzCorpus(FuzzProgram.repository.appendingPathComponent("Fuzzing/Corpus"))

  @Test("keep their promises on every input of the corpus", arguments: FuzzTargets.all.map(\.name))
  func corpus(name: String) throws {
    let target = try #require(FuzzTargets.named(name))
    let scratch = try FuzzScratch()
    for item in try Self.corpus.items(of: target) {
      let comment: Comment = "Fuzzing/Corpus/\(name)/\(item.name)"
      #expect(throws: Never.self, comment) { _ = try target.accepts(item.bytes, scratch) }
    }
  }

  @Test("accept their own seeds, which lie in the corpus", arguments: FuzzTargets.all.map(\.name))
  func seeds(name: String) throws {
    let target = try #require(FuzzTargets.named(name))
    let scratch = try FuzzScratch()
    let folder = Self.corpus.folder.appendingPathComponent(name).path
    let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("seed-") }
    #expect(files.count == (try target.seeds().count), "run: swift run -c release fuzz seeds --target \(name)")
    let accepted = try target.seeds().filter { try target.accepts($0, scratch) }
    #expect(accepted.count * 2 > files.count)
  }

  @Test("keep their promises and limits on a short burst of mutations")
  func burst() throws {
    let (status, output) = try FuzzProgram.run(["--executions", "400", "--seconds", "14", "--seed", "1"])
    #expect(status == 0, "\(output)")
    #expect(FuzzTargets.all.allSatisfy { output.contains("\($0.name): ") }, "\(output)")
  }
}

@Suite("The fuzzer")
struct FuzzerTests {
  @Test("finds a trap, a gigabyte for a few bytes, a loop, and a property that does not hold, and makes them small")
  func finds() throws {
    let scratch = FileManager.default.temporaryDirectory.appendingPathComponent("fuzz-scratch-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: scratch) }
    let (status, output) = try FuzzProgram.run(
      ["--target", "self-test", "--executions", "80", "--seed", "1"],
      scratch: scratch
    )
    #expect(status == 1)
    // Children that were killed leave nothing behind.
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
    for kind in ["crash", "memory", "time", "property"] {
      #expect(output.contains("self-test: \(kind)"), "\(output)")
    }
    for size in [5, 7, 6] { #expect(output.contains(" \(size) after minimising"), "\(output)") }
  }

  @Test("makes the same input of the same seed and number, and others of others")
  func repeats() throws {
    let target = try #require(FuzzTargets.named("csv"))
    let corpus = try target.seeds()
    let inputs = (0..<200).map { Mutator.input($0, of: target, corpus: corpus, seed: 5) }
    #expect(inputs == (0..<200).map { Mutator.input($0, of: target, corpus: corpus, seed: 5) })
    #expect(inputs != (0..<200).map { Mutator.input($0, of: target, corpus: corpus, seed: 6) })
    #expect(Set(inputs).count > 150)
    #expect(inputs.allSatisfy { $0.count <= target.limits.length })
  }

  @Test(
    "repairs what a mutation breaks, so that it gets past lengths and hashes",
    arguments: ["safetensors", "ledger", "frames"]
  )
  func repairs(name: String) throws {
    let target = try #require(FuzzTargets.named(name))
    let repair = try #require(target.repair)
    let scratch = try FuzzScratch()
    let seeds = try target.seeds()
    for seed in seeds where try target.accepts(seed, scratch) {
      #expect(try target.accepts(repair(seed), scratch))
    }
  }
}
