import FedLoRAEngine

/// The counts and sums that a client's measures follow from, for owners who want those of all their clients together:
/// counts add up, measures do not. They are printed here and sent nowhere.
struct HeldOutCounts: Encodable {
  /// The sums of a regression, as `NumberScore` keeps them.
  struct Numbers: Encodable {
    let count: Int
    let squared_errors: Double
    let mean_found: Double
    let mean_expected: Double
    let moment_found: Double
    let moment_expected: Double
    let moment_cross: Double
  }

  /// How often each class (row) was taken for each (column).
  let confusion: [[Int]]?
  let numbers: Numbers?
  /// Generated answers, and those that were right; the same of chosen ones.
  let answers: [Int]?
  let choices: [Int]?

  /// Nil where there is nothing to count.
  init?(_ score: TaskScore) {
    guard score.confusion != nil || score.numbers != nil || score.answers != nil || score.choices != nil else {
      return nil
    }
    answers = score.answers.map { [$0.count, $0.right] }
    choices = score.choices.map { [$0.count, $0.right] }
    confusion = score.confusion?.rows
    numbers = score.numbers.map {
      Numbers(
        count: $0.count,
        squared_errors: $0.squaredErrors,
        mean_found: $0.means.found,
        mean_expected: $0.means.expected,
        moment_found: $0.moments.found,
        moment_expected: $0.moments.expected,
        moment_cross: $0.moments.cross
      )
    }
  }
}
