import FedLoRAEngine
import Foundation

/// What a comparison found, with intervals over its seeds.
public struct ComparisonReport: Encodable, Sendable {
  /// One run.
  public struct Run: Encodable, Sendable {
    /// The method's name.
    public let method: String
    /// Target ε; 0 without privacy; nil where the scenario's own section holds.
    public let epsilon: Double?
    /// What hostile clients sent; nil where the scenario's own section holds.
    public let attack: String?
    /// The seed.
    public let seed: UInt64
    /// Factor on the learning rates that was chosen on the tuning seed.
    public let factor: Double
    /// The outcome.
    public let row: ResultRow
  }

  /// Mean and 95 % interval of one number over the seeds.
  public struct Estimate: Encodable, Sendable, Equatable {
    /// Mean.
    public let mean: Double
    /// Half the width of Student's 95 % interval; nil with fewer than two seeds.
    public let halfWidth: Double?

    /// Student's interval of the mean.
    init?(_ values: [Double]) {
      guard !values.isEmpty else { return nil }
      mean = values.reduce(0, +) / Double(values.count)
      let centre = mean
      guard values.count > 1 else {
        halfWidth = nil
        return
      }
      let variance = values.reduce(0) { $0 + ($1 - centre) * ($1 - centre) } / Double(values.count - 1)
      halfWidth =
        StudentT.quantile975(degreesOfFreedom: values.count - 1) * (variance / Double(values.count)).squareRoot()
    }
  }

  /// One line of the table: a method at one ε under one attack.
  public struct Line: Encodable, Sendable {
    /// The method's name.
    public let method: String
    /// Target ε.
    public let epsilon: Double?
    /// What hostile clients sent.
    public let attack: String?
    /// Chosen factor on the learning rates.
    public let factor: Double
    /// Mean over clients of the accuracy on the client's own mix.
    public let clients: Estimate?
    /// The worst client's.
    public let worst: Estimate?
    /// Accuracy on the pooled held-out set.
    public let global: Estimate?
    /// This method's clients' mean minus that of the first method at the same ε and under the same attack, seed by seed.
    public let againstFirst: Estimate?
    /// The same of perplexities; nil where no language model is trained.
    public let perplexity: Perplexity?
    /// The task's other measures; empty where there are none.
    public let measures: [MeasureLine]
    /// Bytes that the clients sent and received, mean over seeds.
    public let bytesUp: Double
    /// Bytes that the clients received, mean over seeds.
    public let bytesDown: Double
    /// The largest ε that any client of any seed spent.
    public let largestEpsilon: Double?
    /// Seconds that the coordinator took to make one update of a round's updates, mean over rounds and seeds.
    public let aggregationSeconds: Double?
    /// Seeds.
    public let runs: Int
  }

  /// Perplexities of a line.
  public struct Perplexity: Encodable, Sendable {
    /// Mean over clients on their own held-out texts.
    public let clients: Estimate?
    /// The worst client's.
    public let worst: Estimate?
    /// On the pooled held-out set.
    public let global: Estimate?
    /// This method's clients' mean minus that of the first method at the same ε and under the same attack, seed by seed.
    public let againstFirst: Estimate?
  }

  /// One measure of a line; each as `ResultMeasure` has it, over the seeds.
  public struct MeasureLine: Encodable, Sendable {
    /// Which one.
    public let measure: Measure
    /// Mean over clients.
    public let clients: Estimate?
    /// The worst client's.
    public let worst: Estimate?
    /// Of all clients' own held-out examples together.
    public let allClients: Estimate?
    /// On the pooled held-out set.
    public let global: Estimate?
    /// This method's clients' mean minus that of the first method, seed by seed.
    public let againstFirst: Estimate?
  }

  /// Name of the scenario.
  public let scenario: String
  /// All runs.
  public let runs: [Run]
  /// A line for each method, ε and attack.
  public let lines: [Line]
  /// The folder that holds the runs' results.
  public let folder: String

  init(scenario: String, runs: [Run], folder: String) {
    self.scenario = scenario
    self.runs = runs
    self.folder = folder
    var lines: [Line] = []
    var seen: [(String, Double?, String?)] = []
    for run in runs where !seen.contains(where: { $0 == (run.method, run.epsilon, run.attack) }) {
      seen.append((run.method, run.epsilon, run.attack))
    }
    for (method, epsilon, attack) in seen {
      let same = runs.filter { $0.epsilon == epsilon && $0.attack == attack }
      let own = same.filter { $0.method == method }
      let reference = same.filter { $0.method == runs[0].method }
      let durations = own.compactMap(\.row.aggregationSeconds)
      let isFirst = method == runs[0].method
      func againstFirst(_ score: (ResultRow) -> Double?) -> Estimate? {
        let differences = own.compactMap { run -> Double? in
          guard let other = reference.first(where: { $0.seed == run.seed }) else { return nil }
          return score(run.row).flatMap { mine in score(other.row).map { mine - $0 } }
        }
        return isFirst ? nil : Estimate(differences)
      }
      let isLanguage = own.contains { $0.row.meanClientPerplexity != nil }
      lines.append(
        Line(
          method: method,
          epsilon: epsilon,
          attack: attack,
          factor: own.first?.factor ?? 1,
          clients: Estimate(own.compactMap(\.row.meanClientAccuracy)),
          worst: Estimate(own.compactMap(\.row.worstClientAccuracy)),
          global: Estimate(own.compactMap(\.row.globalAccuracy)),
          againstFirst: againstFirst(\.meanClientAccuracy),
          perplexity: isLanguage
            ? Perplexity(
              clients: Estimate(own.compactMap(\.row.meanClientPerplexity)),
              worst: Estimate(own.compactMap(\.row.worstClientPerplexity)),
              global: Estimate(own.compactMap(\.row.globalPerplexity)),
              againstFirst: againstFirst(\.meanClientPerplexity)
            ) : nil,
          measures: Measure.allCases.compactMap { measure in
            guard own.contains(where: { $0.row[measure] != nil }) else { return nil }
            return MeasureLine(
              measure: measure,
              clients: Estimate(own.compactMap { $0.row[measure]?.meanClient }),
              worst: Estimate(own.compactMap { $0.row[measure]?.worstClient }),
              allClients: Estimate(own.compactMap { $0.row[measure]?.allClients }),
              global: Estimate(own.compactMap { $0.row[measure]?.global }),
              againstFirst: againstFirst { $0[measure]?.meanClient }
            )
          },
          bytesUp: own.reduce(0) { $0 + Double($1.row.bytesUp) } / Double(max(1, own.count)),
          bytesDown: own.reduce(0) { $0 + Double($1.row.bytesDown) } / Double(max(1, own.count)),
          largestEpsilon: own.compactMap(\.row.epsilon).max(),
          aggregationSeconds: durations.isEmpty ? nil : durations.reduce(0, +) / Double(durations.count),
          runs: own.count
        )
      )
    }
    self.lines = lines.enumerated().sorted {
      let (left, right) = ($0.element.epsilon ?? 0, $1.element.epsilon ?? 0)
      // Without privacy first, then from weak to strong.
      return left == right ? $0.offset < $1.offset : left == 0 || (right != 0 && left > right)
    }.map(\.element)
  }

  /// The table as plain text: accuracies in percent, or perplexities, with the half width of their 95 % interval over the
  /// seeds.
  public var table: String {
    let first = runs.first?.method ?? "the first"
    let hasAttacks = runs.contains { $0.attack != nil }
    let mean =
      lines.contains { $0.perplexity != nil }
      ? "clients' mean perplexity"
      : lines.contains { $0.meanSquaredError != nil } ? "clients' mean squared error" : "clients' mean"
    let header =
      ["method"] + (hasAttacks ? ["attack"] : []) + [
        "target ε", mean, "worst client", "global", "against \(first)", "MB up", "MB down", "largest ε",
        "rate ×",
      ] + (hasAttacks ? ["aggregation ms"] : [])
    return TextTable.draw(
      header,
      lines.map { line in
        [line.method] + (hasAttacks ? [line.attack ?? "-"] : []) + [
          line.epsilon.map { $0 == 0 ? "none" : Comparison.short($0) } ?? "-",
          ComparisonReport.shown(line, \.clients, \.clients, \.clients),
          ComparisonReport.shown(line, \.worst, \.worst, \.worst),
          ComparisonReport.shown(line, \.global, \.global, \.global),
          ComparisonReport.shown(line, \.againstFirst, \.againstFirst, \.againstFirst, signed: true),
          String(format: "%.2f", line.bytesUp / 1e6), String(format: "%.2f", line.bytesDown / 1e6),
          line.largestEpsilon.map { String(format: "%.4f", $0) } ?? "-", Comparison.short(line.factor),
        ] + (hasAttacks ? [line.aggregationSeconds.map { String(format: "%.1f", 1000 * $0) } ?? "-"] : [])
      }
    )
  }

  /// The task's measures beside those of `table`, with the half width of their 95 % interval; nil where there are none.
  public var measuresTable: String? {
    let hasAttacks = runs.contains { $0.attack != nil }
    let rows = lines.flatMap { line in
      line.measures.map { measure in
        [line.method] + (hasAttacks ? [line.attack ?? "-"] : []) + [
          line.epsilon.map { $0 == 0 ? "none" : Comparison.short($0) } ?? "-", measure.measure.rawValue,
        ]
          + [measure.clients, measure.worst, measure.allClients, measure.global].map {
            ComparisonReport.shown($0, factor: 1, digits: 4)
          } + [ComparisonReport.shown(measure.againstFirst, factor: 1, digits: 4, signed: true)]
      }
    }
    guard !rows.isEmpty else { return nil }
    return TextTable.draw(
      ["method"] + (hasAttacks ? ["attack"] : []) + [
        "target ε", "measure", "clients' mean", "worst client", "all clients' examples", "global",
        "against \(runs.first?.method ?? "the first")",
      ],
      rows
    )
  }

  /// An accuracy of the line in percent or, in its place, the perplexity of a language model or the mean squared error
  /// of a regression.
  private static func shown(
    _ line: Line,
    _ accuracy: KeyPath<Line, Estimate?>,
    _ perplexity: KeyPath<Perplexity, Estimate?>,
    _ error: KeyPath<MeasureLine, Estimate?>,
    signed: Bool = false
  ) -> String {
    if let own = line.perplexity { return shown(own[keyPath: perplexity], factor: 1, digits: 2, signed: signed) }
    if let own = line.meanSquaredError { return shown(own[keyPath: error], factor: 1, digits: 4, signed: signed) }
    return shown(line[keyPath: accuracy], factor: 100, digits: 1, signed: signed)
  }

  private static func shown(_ estimate: Estimate?, factor: Double, digits: Int, signed: Bool = false) -> String {
    guard let estimate else { return "-" }
    let mean = String(format: signed ? "%+.*f" : "%.*f", digits, factor * estimate.mean)
    guard let half = estimate.halfWidth else { return mean }
    return mean + String(format: " ± %.*f", digits, factor * half)
  }
}

extension ComparisonReport.Line {
  /// The mean squared error of a regression; nil for another task.
  fileprivate var meanSquaredError: ComparisonReport.MeasureLine? {
    measures.first { $0.measure == .meanSquaredError }
  }
}

/// Student's t distribution, as far as intervals over a few seeds need it.
enum StudentT {
  /// The 97.5 % quantile for 1 to 10 degrees of freedom; beyond, by Cornish and Fisher's expansion about the normal
  /// quantile (Abramowitz and Stegun 26.7.5), which is good to three digits there.
  static func quantile975(degreesOfFreedom: Int) -> Double {
    let small = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281]
    if degreesOfFreedom <= small.count { return small[max(1, degreesOfFreedom) - 1] }
    let (z, v) = (1.959964, Double(degreesOfFreedom))
    let z3 = z * z * z
    return z + (z3 + z) / (4 * v) + (5 * z3 * z * z + 16 * z3 + 3 * z) / (96 * v * v)
  }
}
