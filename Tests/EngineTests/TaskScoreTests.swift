import FedLoRAEngine
import Testing

/// Scores of parts add up to the score of the whole, also where the mean of the parts' measures is another number.
@Suite("Scores of parts")
struct TaskScoreTests {
  @Test("of a classifier add up to the F1 and Matthews' correlation of all examples")
  func classes() {
    var generator = SeededGenerator(seed: 3)
    let labels = (0..<200).map { $0 < 150 ? 0 : Int(generator.next() % 3) }
    let decisions = labels.map { generator.next() % 4 == 0 ? Int(generator.next() % 3) : $0 }
    let whole = TaskScore(labels: labels, decisions: decisions, classCount: 3)
    let cuts = [0, 7, 90, 151, 200]
    let parts = zip(cuts, cuts.dropFirst()).map {
      TaskScore(labels: Array(labels[$0..<$1]), decisions: Array(decisions[$0..<$1]), classCount: 3)
    }
    #expect(parts.reduce(TaskScore(), +) == whole)
    let mean = parts.compactMap { $0[.macroF1] }.reduce(0, +) / Double(parts.count)
    #expect(abs(mean - (whole[.macroF1] ?? 0)) > 0.01)
    #expect(whole.measures.map(\.measure) == [.macroF1, .matthews])
    let two = TaskScore(labels: [1, 1, 0, 0], decisions: [1, 0, 0, 1], classCount: 2)
    #expect(two[.f1] == 0.5 && two[.macroF1] == 0.5 && two[.matthews] == 0)
  }

  @Test("of a regression add up to the error and Pearson's r of all examples, not to their ranks")
  func numbers() throws {
    var generator = SeededGenerator(seed: 4)
    // Far from zero, where sums of raw squares would have nothing left.
    let expected = (0..<300).map { 1e7 + Double($0 % 7) + ($0 < 100 ? 40 : 0) }
    let found = expected.map { 0.5 * $0 + generator.normal() }
    let whole = try TaskScore(found: found, expected: expected)
    #expect(whole[.spearman] == (try Correlation.spearman(found, expected)))
    let pearson = try #require(try Correlation.pearson(found, expected))
    #expect(abs(try #require(whole[.pearson]) - pearson) < 1e-9)
    let cuts = [0, 0, 1, 100, 170, 300]
    let parts = try zip(cuts, cuts.dropFirst()).map {
      try TaskScore(found: Array(found[$0..<$1]), expected: Array(expected[$0..<$1]))
    }
    let sum = parts.reduce(TaskScore(), +)
    #expect(abs(try #require(sum[.pearson]) - pearson) < 1e-9)
    #expect(sum[.spearman] == nil && sum.losses.count == 300)
    let error = try #require(whole[.meanSquaredError])
    #expect(abs(try #require(sum[.meanSquaredError]) - error) < 1e-9 * error)
    let mean = parts.compactMap { $0[.pearson] }.reduce(0, +) / Double(parts.compactMap { $0[.pearson] }.count)
    #expect(abs(mean - pearson) > 0.01)
  }

  @Test("of nothing have no measure, and adding nothing changes nothing")
  func empty() throws {
    #expect(TaskScore().measures.isEmpty)
    #expect(try TaskScore(found: [], expected: []).measures.isEmpty)
    let one = try TaskScore(found: [1, 2, 4], expected: [1, 3, 2])
    let nothing = try TaskScore(found: [], expected: [])
    #expect(TaskScore() + one == one && one + nothing == one && nothing + one == one)
    // A constant has no correlation, but an error.
    let constant = try TaskScore(found: [2, 2], expected: [1, 3])
    #expect(constant.measures.map(\.measure) == [.meanSquaredError] && constant[.meanSquaredError] == 1)
    #expect(throws: MetricError.self) { try TaskScore(found: [1], expected: []) }
  }
}
