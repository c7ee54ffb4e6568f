import FedLoRAFederation
import FedLoRAProtocol

extension Aggregation {
  /// What a manifest says about how updates become one, checked in full: an unknown word, a number out of range or one that the
  /// rule does not use, a quorum that is too small, and terms with which the rule makes no sense are refused by their name.
  /// - Throws: `CoordinatorError.badManifest`.
  init(served manifest: WireRunManifest, weighting: Weighting, hasPrivateRelease: Bool) throws {
    guard manifest.hasAggregation else {
      self = .mean
      return
    }
    let spec = manifest.aggregation
    var terms = AggregationTerms(rule: spec.rule)
    terms.byzantine = Int(spec.byzantine)
    terms.normBound = spec.normBound
    terms.normMultiple = spec.normMultiple
    terms.trim = spec.trim
    terms.keep = Int(spec.keep)
    terms.smoothing = spec.smoothing
    terms.iterations = Int(spec.iterations)
    do {
      let aggregation = try terms.aggregation()
      try aggregation.check(
        quorum: Int(manifest.cohort.quorum),
        weighting: weighting,
        hasPrivateRelease: hasPrivateRelease
      )
      self = aggregation
    } catch let error as AggregationTermError {
      throw CoordinatorError.badManifest("\(error.path) \(error)")
    }
  }
}
