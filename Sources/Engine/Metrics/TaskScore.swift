/// A measure of what a model does on examples that it has not learnt from.
public enum Measure: String, Codable, CaseIterable, Sendable {
  /// Mean of the F1 of the classes that occur.
  case macroF1 = "macro_f1"
  /// F1 of the second of two classes.
  case f1
  /// Matthews' correlation.
  case matthews
  /// Mean squared error: the lower the better.
  case meanSquaredError = "mse"
  /// Pearson's r.
  case pearson
  /// Spearman's ρ.
  case spearman
  /// Share of generated answers that are the right ones.
  case exactMatch = "exact_match"
  /// Share of questions whose right answer the model holds likeliest.
  case multipleChoice = "multiple_choice"

  /// Whether less of it is better.
  public var isLowerBetter: Bool { self == .meanSquaredError }
}

/// How well a model did on some examples, as counts and sums: those of examples apart add up to those of all of them.
/// So a measure that is no mean over examples is of all examples together, never a mean of measures.
public struct TaskScore: Sendable, Equatable {
  /// Losses, and right ones where examples have classes or tokens.
  public var losses: LossSummary
  /// Of a classifier.
  public var confusion: ConfusionMatrix?
  /// Of a regression.
  public var numbers: NumberScore?
  /// Answers that a language model generated.
  public var answers: AnswerScore?
  /// Answers that a language model chose.
  public var choices: AnswerScore?

  /// Takes the losses alone: all there is of a language model.
  public init(losses: LossSummary = LossSummary()) { self.losses = losses }

  /// Compares decisions with labels; the losses stay at 0.
  /// - Parameter classCount: labels and decisions are below it.
  public init(labels: [Int], decisions: [Int], classCount: Int) {
    var matrix = ConfusionMatrix(classCount: classCount)
    for (label, decision) in zip(labels, decisions) { matrix.add(label: label, prediction: decision) }
    losses = LossSummary(correct: matrix.correct, count: matrix.total)
    confusion = matrix
  }

  /// Compares numbers in pairs; the losses are the squared errors.
  /// - Throws: `MetricError` for two lists of different length.
  public init(found: [Double], expected: [Double]) throws(MetricError) {
    let score = try NumberScore(found: found, expected: expected)
    losses = LossSummary(lossSum: score.squaredErrors, correct: 0, count: score.count)
    numbers = score
  }

  /// The scores of both together.
  public static func + (left: TaskScore, right: TaskScore) -> TaskScore {
    var sum = TaskScore(losses: left.losses + right.losses)
    sum.confusion = joined(left.confusion, right.confusion, +)
    sum.numbers = joined(left.numbers, right.numbers, +)
    sum.answers = joined(left.answers, right.answers, +)
    sum.choices = joined(left.choices, right.choices, +)
    return sum
  }

  private static func joined<T>(_ left: T?, _ right: T?, _ sum: (T, T) -> T) -> T? {
    guard let left, let right else { return left ?? right }
    return sum(left, right)
  }

  /// What follows from the counts and sums, in the order in which it is shown; what is not defined for them is left
  /// out.
  public var measures: [(measure: Measure, value: Double)] {
    var result: [(Measure, Double?)] = []
    if let confusion, confusion.total > 0 {
      if confusion.classCount == 2 { result.append((.f1, confusion.f1(.binary))) }
      result += [(.macroF1, confusion.f1(.macro)), (.matthews, confusion.matthewsCorrelation)]
    }
    if let numbers {
      result += [
        (.pearson, numbers.pearson), (.spearman, numbers.spearman), (.meanSquaredError, numbers.meanSquaredError),
      ]
    }
    result += [(.exactMatch, answers?.share), (.multipleChoice, choices?.share)]
    return result.compactMap { measure, value in value.flatMap { $0.isFinite ? (measure, $0) : nil } }
  }

  /// One of `measures`.
  public subscript(measure: Measure) -> Double? { measures.first { $0.measure == measure }?.value }
}
