import FedLoRAEngine
import Foundation
import Testing

/// Measures against scikit-learn and scipy (Tests/Oracles/make_metric_vectors.py).
@Suite("Metrics")
struct MetricTests {
  private struct Vectors: Decodable {
    struct Classification: Decodable {
      let labels, predictions: [Int]
      let accuracy, binary, macro, micro, weighted, matthews: Double
    }
    struct Pair: Decodable {
      let left, right: [Double]
      let pearson, spearman: Double
    }
    struct Squad: Decodable {
      struct Text: Decodable {
        let text: String
        let words: [String]
      }
      struct Scored: Decodable {
        let left, right: String
        let f1: Double
      }
      let texts: [Text]
      let pairs: [Scored]
    }
    let classification: [Classification]
    let correlation: [Pair]
    let squad: Squad

    static func read() throws -> Vectors {
      let url = OracleFolder.packageRoot.appendingPathComponent("Tests/EngineTests/Fixtures/metrics.json")
      return try JSONDecoder().decode(Vectors.self, from: Data(contentsOf: url))
    }
  }

  @Test("of classifiers")
  func classification() throws {
    let cases = try Vectors.read().classification
    #expect(cases.count == 10)
    for each in cases {
      let matrix = try ConfusionMatrix(labels: each.labels, predictions: each.predictions)
      #expect(abs(matrix.accuracy - each.accuracy) < 1e-12)
      #expect(abs(matrix.f1(.binary) - each.binary) < 1e-12)
      #expect(abs(matrix.f1(.macro) - each.macro) < 1e-12)
      #expect(abs(matrix.f1(.micro) - each.micro) < 1e-12)
      #expect(abs(matrix.f1(.weighted) - each.weighted) < 1e-12)
      #expect(abs(matrix.matthewsCorrelation - each.matthews) < 1e-12)
    }
    #expect(ConfusionMatrix(classCount: 3).accuracy == 0 && ConfusionMatrix(classCount: 3).f1(.macro) == 0)
    #expect(throws: MetricError.differentCounts(1, 2)) { try ConfusionMatrix(labels: [0], predictions: [0, 1]) }
    #expect(throws: MetricError.badClass(-1)) { try ConfusionMatrix(labels: [0], predictions: [-1]) }
  }

  @Test("of numbers that go together, equals included")
  func correlation() throws {
    let cases = try Vectors.read().correlation
    #expect(cases.count == 7)
    for each in cases {
      let pearson = try #require(try Correlation.pearson(each.left, each.right))
      let spearman = try #require(try Correlation.spearman(each.left, each.right))
      #expect(abs(pearson - each.pearson) < 1e-9)
      #expect(abs(spearman - each.spearman) < 1e-12)
    }
    #expect(try Correlation.pearson([1, 1], [1, 2]) == nil && Correlation.pearson([1], [1]) == nil)
    #expect(try Correlation.spearman([1, .nan], [1, 2]) == nil)
    #expect(throws: MetricError.differentCounts(2, 1)) { try Correlation.spearman([1, 2], [1]) }
  }

  @Test("of answers in words")
  func words() throws {
    let vectors = try Vectors.read().squad
    for each in vectors.texts { #expect(AnswerMatch.words(each.text) == each.words, "\(each.text)") }
    for each in vectors.pairs { #expect(abs(AnswerMatch.wordF1(each.left, each.right) - each.f1) < 1e-12) }
    #expect(AnswerMatch.squad.matches("The  Eiffel-Tower!", "eiffeltower"))
    #expect(!AnswerMatch.squad.matches("Eiffel", "Eiffel Tower"))
    #expect(AnswerMatch.plain.matches(" 4\n", "4") && !AnswerMatch.plain.matches("4.", "4"))
  }

  @Test(
    "of answers in numbers",
    arguments: [
      ("so it is 7 #### 1,234", "#### 1234", true, true), ("#### -5.", "#### -5", true, true),
      ("#### 5", "#### -5", false, false),
      ("####+3.00", "x #### 3", true, true), ("#### $1,000.50", "#### 1000.5", true, true),
      ("The answer is 18.", "9 + 9 #### 18", false, true), ("3 - 4 = -1", "#### -1", false, true),
      ("7 #### 3 #### 4", "#### 4", true, true), ("no number", "#### 4", false, false),
      ("#### none", "#### 4", false, false), ("#### 0", "#### -0.0", true, true), ("a 10-4", "#### 4", false, true),
      ("#### .5", "#### 0.50", true, true), ("#### -$4", "#### -4", true, true), ("#### 12,", "#### 12", true, true),
      ("", "", false, false),
    ]
  )
  func numbers(answer: String, expected: String, strict: Bool, loose: Bool) {
    #expect(AnswerMatch.gsm8k.matches(answer, expected) == strict)
    #expect(AnswerMatch.lastNumber.matches(answer, expected) == loose)
  }

  @Test("of answers as a share")
  func share() throws {
    #expect(try AnswerMatch.plain.share(answers: ["a", "b", "c", "d"], expected: ["a", "x", "c", "y"]) == 0.5)
    #expect(try AnswerMatch.plain.share(answers: [], expected: []) == 0)
    #expect(throws: MetricError.differentCounts(0, 1)) { try AnswerMatch.plain.share(answers: ["a"], expected: []) }
  }

  @Test("of choices, by each length")
  func choices() {
    func likelihood(_ sum: Double, _ count: Int) -> SequenceLikelihood {
      var result = SequenceLikelihood()
      (result.logLikelihood, result.count) = (sum, count)
      return result
    }
    // Sums −4, −6, −5; by tokens −4, −1.5, −2.5; by scalars −4/3, −6/4, −5/2; by bytes −4/3, −6/12, −5/2.
    let endings = [("abc", likelihood(-4, 1)), ("日本語字", likelihood(-6, 4)), ("ab", likelihood(-5, 2))]
    let wanted: [MultipleChoice.Length: Int] = [.none: 0, .tokens: 1, .characters: 0, .bytes: 1]
    for (length, choice) in wanted { #expect(MultipleChoice.choice(endings, by: length) == choice) }
    #expect(MultipleChoice.choice([], by: .none) == nil)
    #expect(MultipleChoice.choice([("a", likelihood(-1, 1)), ("b", likelihood(-1, 1))], by: .none) == 0)
  }

  @Test("of a language model's loss")
  func perplexity() {
    let summary = LossSummary(lossSum: 6 * log(5), correct: 3, count: 6)
    #expect(abs(summary.perplexity - 5) < 1e-12 && summary.tokenAccuracy == 0.5)
  }
}
