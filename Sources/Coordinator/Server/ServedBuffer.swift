import FedLoRAFederation
import FedLoRAProtocol

extension BufferTerms {
  /// What a manifest says about asynchronous rounds, held against its other terms; nil where rounds are synchronous.
  /// - Throws: `CoordinatorError.badManifest`.
  init?(
    served manifest: WireRunManifest,
    strategy: Strategy,
    aggregation: Aggregation,
    hasPrivateRelease: Bool
  ) throws {
    let cohort = manifest.cohort
    do {
      guard cohort.bufferSize > 0 else {
        if cohort.stalenessExponent != 0 { throw BufferTermError.notBuffered(field: "staleness_exponent") }
        if cohort.maxStaleness != 0 { throw BufferTermError.notBuffered(field: "max_staleness") }
        return nil
      }
      try self.init(
        size: Int(cohort.bufferSize),
        exponent: cohort.stalenessExponent,
        mostStale: Int(cohort.maxStaleness)
      )
      try check(quorum: Int(cohort.quorum), overSelected: Int(cohort.overSelected))
      try check(strategy: strategy.name, aggregation: aggregation, hasPrivateRelease: hasPrivateRelease)
    } catch let error as BufferTermError {
      throw CoordinatorError.badManifest("\(error.path) \(error)")
    }
  }
}
