import FedLoRAClient
import FedLoRADP
import FedLoRAEngine

/// What an audit runs again and again: some private steps that change the parameters in place.
package protocol AuditedMechanism: Sendable {
  /// Must be called from the runner's pool.
  func train(
    _ runner: ModelRunner,
    parameters: inout [Float],
    examples: [EncodedExample],
    randomness: SecretRandomness,
    afterStep: (Int) throws -> Void
  ) throws
}

/// The client's own training code.
package struct ClientMechanism: AuditedMechanism {
  let terms: RunTerms
  let privacy: RecordPrivacy

  package func train(
    _ runner: ModelRunner,
    parameters: inout [Float],
    examples: [EncodedExample],
    randomness: SecretRandomness,
    afterStep: (Int) throws -> Void
  ) throws {
    try PrivateTraining(
      terms: privacy,
      options: terms.options,
      trained: terms.trained,
      randomness: randomness,
      dropoutSeed: 0
    ).run(
      runner,
      parameters: &parameters,
      examples: examples,
      steps: terms.localSteps,
      firstStep: 0,
      afterStep: afterStep
    )
  }
}
