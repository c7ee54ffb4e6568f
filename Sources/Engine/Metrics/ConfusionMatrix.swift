/// How often each class was taken for each: what measures of a classifier follow from.
public struct ConfusionMatrix: Sendable, Equatable {
  /// How the classes' F1 become one number.
  public enum Average: String, Sendable, CaseIterable {
    /// Of class 1 alone: the positive one of two.
    case binary
    /// The mean over the classes that occur in labels or predictions.
    case macro
    /// Of all decisions together, which is the accuracy where every example has one label.
    case micro
    /// The mean weighted by how often a class is the label.
    case weighted
  }

  /// Number of classes.
  public let classCount: Int
  /// By label · classes + prediction.
  private var counts: [Int]

  /// Nothing seen yet.
  public init(classCount: Int) {
    self.classCount = max(0, classCount)
    counts = [Int](repeating: 0, count: self.classCount * self.classCount)
  }

  /// Counts labels and predictions in pairs; the number of classes follows from the largest.
  /// - Throws: `MetricError` for two lists of different length, or a class below 0.
  public init(labels: [Int], predictions: [Int]) throws(MetricError) {
    try MetricError.check(labels.count, predictions.count)
    if let negative = (labels + predictions).first(where: { $0 < 0 }) { throw .badClass(negative) }
    self.init(classCount: max(labels.max() ?? 0, predictions.max() ?? 0) + 1)
    for (label, prediction) in zip(labels, predictions) { add(label: label, prediction: prediction) }
  }

  /// Counts one decision.
  public mutating func add(label: Int, prediction: Int) {
    precondition((0..<classCount).contains(label) && (0..<classCount).contains(prediction), "a class has no row")
    counts[label * classCount + prediction] += 1
  }

  /// How often `label` was taken for `prediction`.
  public subscript(label: Int, prediction: Int) -> Int { counts[label * classCount + prediction] }

  /// The counts, a row for each label.
  public var rows: [[Int]] { (0..<classCount).map { Array(counts[$0 * classCount..<($0 + 1) * classCount]) } }

  /// The counts of both together.
  public static func + (left: ConfusionMatrix, right: ConfusionMatrix) -> ConfusionMatrix {
    precondition(left.classCount == right.classCount, "matrices of different classes")
    var sum = left
    for index in sum.counts.indices { sum.counts[index] += right.counts[index] }
    return sum
  }

  /// Decisions in all.
  public var total: Int { counts.reduce(0, +) }
  /// Right decisions.
  public var correct: Int { (0..<classCount).reduce(0) { $0 + self[$1, $1] } }
  /// Share of right decisions; 0 over nothing.
  public var accuracy: Double { total == 0 ? 0 : Double(correct) / Double(total) }

  /// How often `class` is the label.
  public func support(_ class: Int) -> Int { (0..<classCount).reduce(0) { $0 + self[`class`, $1] } }
  /// How often `class` is the prediction.
  public func predicted(_ class: Int) -> Int { (0..<classCount).reduce(0) { $0 + self[$1, `class`] } }

  /// F1 of one class: 2 TP / (2 TP + FP + FN); 0 where it occurs nowhere.
  public func f1(of class: Int) -> Double {
    let occurrences = support(`class`) + predicted(`class`)
    return occurrences == 0 ? 0 : 2 * Double(self[`class`, `class`]) / Double(occurrences)
  }

  /// F1, as scikit-learn's `f1_score` with `zero_division=0`.
  public func f1(_ average: Average) -> Double {
    let classes = (0..<classCount).filter { support($0) + predicted($0) > 0 }
    switch average {
    case .binary: return classCount > 1 ? f1(of: 1) : 0
    case .macro: return classes.isEmpty ? 0 : classes.reduce(0) { $0 + f1(of: $1) } / Double(classes.count)
    case .micro: return accuracy
    case .weighted:
      return total == 0 ? 0 : classes.reduce(0) { $0 + f1(of: $1) * Double(support($1)) } / Double(total)
    }
  }

  /// Matthews' correlation for any number of classes (Gorodkin, "Comparing two K-category assignments by a K-category
  /// correlation coefficient", 2004), from −1 to 1; 0 where labels or predictions are all the same.
  public var matthewsCorrelation: Double {
    let (all, right) = (Double(total), Double(correct))
    var (cross, labels, predictions) = (0.0, 0.0, 0.0)
    for each in 0..<classCount {
      let (label, prediction) = (Double(support(each)), Double(predicted(each)))
      cross += label * prediction
      labels += label * label
      predictions += prediction * prediction
    }
    let scale = ((all * all - labels) * (all * all - predictions)).squareRoot()
    return scale == 0 ? 0 : (right * all - cross) / scale
  }
}

/// Lists that cannot be compared.
public enum MetricError: Error, Equatable, CustomStringConvertible {
  /// Two lists that should be of one length.
  case differentCounts(Int, Int)
  /// A class below 0.
  case badClass(Int)

  /// What was wrong.
  public var description: String {
    switch self {
    case .differentCounts(let left, let right): "\(left) expected values stand against \(right) found ones"
    case .badClass(let found): "class \(found) is below 0"
    }
  }

  static func check(_ left: Int, _ right: Int) throws(MetricError) {
    guard left == right else { throw .differentCounts(left, right) }
  }
}
