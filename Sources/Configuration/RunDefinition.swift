import FedLoRACheckpoint
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation

/// A run that is ready to be served: what all parties agree on, and the tensors that round 1 starts from.
public struct RunDefinition: Sendable {
  /// The run's terms.
  public let manifest: WireRunManifest
  /// All tensors that a round sends down, at their start.
  public let initialState: TensorSet

  /// Derives the manifest and the initial tensors from configuration sections and the base model.
  /// - Throws: `ConfigurationError`, `ModelError` or `StrategyError`.
  public init(
    name: String,
    seed: UInt64,
    rounds: Int,
    labels: [String],
    base: FrozenModel,
    model: ModelSection,
    strategy: StrategySection,
    adapter: AdapterSection,
    training: TrainingSection,
    cohort: CohortSection,
    privacy: PrivacySection,
    aggregation: AggregationSection = .mean
  ) throws {
    let ranges = Ranges(source: "configuration")
    try ranges.require(!name.isEmpty, "name", "is empty; clients keep the run's state under its name")
    try RunConfiguration.validate(labels: labels, for: model.task, ranges)
    try model.validate(ranges)
    try strategy.validate(ranges)
    try adapter.validate(ranges, strategy: strategy.name)
    try training.validate(ranges)
    try cohort.validate(ranges)
    try aggregation.validate(ranges, cohort: cohort, strategy: strategy, privacy: privacy)
    var manifest = WireRunManifest()
    manifest.runID = name
    manifest.seed = seed
    manifest.rounds = try RunDefinition.count(rounds, "rounds", atLeast: 1)
    let head = try strategy.resolvedHead()
    manifest.strategy.name = strategy.name.rawValue
    manifest.strategy.head = head.rawValue
    manifest.strategy.weighting = strategy.weighting
    manifest.strategy.weightCap = UInt64(try RunDefinition.count(strategy.weightCap, "strategy.weight_cap", atLeast: 1))
    manifest.strategy.refactoriseEvery = try RunDefinition.count(
      strategy.refactoriseEvery,
      "strategy.refactorise_every",
      atLeast: 1
    )
    manifest.adapter.rank = try RunDefinition.count(adapter.rank, "adapter.rank", atLeast: 1)
    manifest.adapter.alpha = adapter.alpha
    manifest.adapter.dropout = adapter.dropout
    manifest.adapter.scaling = try adapter.resolvedScaling(for: strategy.name).rawValue
    manifest.adapter.targetModules = adapter.targetModules
    let initialisation = try adapter.resolvedInitialisation(for: strategy.name, privacy: privacy)
    manifest.adapter.initialisation = initialisation.rawValue
    let isVeRA = try adapter.isVeRA(for: strategy.name)
    manifest.adapter.form = isVeRA ? "vera" : "lora"
    manifest.model.fingerprint = .init(base.fingerprint)
    manifest.model.labels = labels
    guard model.maxLength <= base.spec.maximumPositions else {
      throw ConfigurationError(
        source: "configuration",
        key: "model.max_length",
        reason: "is \(model.maxLength), but the model has \(base.spec.maximumPositions) positions"
      )
    }
    manifest.model.maxLength = try RunDefinition.count(model.maxLength, "model.max_length", atLeast: 3)
    // What a classifier has no use for is left out, so that the terms of older runs stay what they are.
    switch model.task {
    case .classification: manifest.model.pooling = model.pooling.rawValue
    case .regression:
      manifest.model.task = model.task.rawValue
      manifest.model.pooling = model.pooling.rawValue
    case .causalLM:
      manifest.model.task = model.task.rawValue
      if model.promptFormat != PromptFormat.plain.text { manifest.model.promptFormat = model.promptFormat }
    }
    try RunDefinition.fill(&manifest.training, from: training)
    manifest.cohort.minClients = try RunDefinition.count(cohort.minClients, "cohort.min_clients", atLeast: 1)
    manifest.cohort.clientsPerRound = try RunDefinition.count(
      cohort.clientsPerRound,
      "cohort.clients_per_round",
      atLeast: 1
    )
    manifest.cohort.quorum = try RunDefinition.count(cohort.quorum, "cohort.quorum", atLeast: 1)
    manifest.cohort.deadlineSeconds = cohort.deadlineSeconds
    manifest.cohort.selection = cohort.selection
    manifest.cohort.overSelected = try RunDefinition.count(cohort.overSelected, "cohort.over_selected", atLeast: 0)
    manifest.cohort.uploadGraceSeconds = cohort.uploadGraceSeconds
    // Left out where it is the usual number, so that the terms of older runs stay what they are.
    if cohort.maxAttempts != CohortSection.usualAttempts {
      manifest.cohort.maxAttempts = try RunDefinition.count(cohort.maxAttempts, "cohort.max_attempts", atLeast: 1)
    }
    manifest.cohort.mostConnected = try RunDefinition.count(cohort.mostConnected, "cohort.most_connected", atLeast: 0)
    if cohort.bufferSize > 0 {
      manifest.cohort.bufferSize = try RunDefinition.count(cohort.bufferSize, "cohort.buffer_size", atLeast: 1)
      manifest.cohort.stalenessExponent = cohort.stalenessExponent
      manifest.cohort.maxStaleness = try RunDefinition.count(cohort.maxStaleness, "cohort.max_staleness", atLeast: 0)
    }
    let privacyTerms = PrivacyTermsBuilder(
      section: privacy,
      rounds: rounds,
      localSteps: training.localSteps,
      batchSize: training.batchSize,
      cohort: cohort,
      weighting: strategy.weighting
    )
    if let terms = try privacyTerms.terms() { manifest.privacy = terms }
    if let rule = aggregation.wire { manifest.aggregation = rule }
    let rule = try Strategy(
      name: strategy.name,
      head: head,
      refactoriseEvery: strategy.name == .fedsvd ? strategy.refactoriseEvery : 1
    )
    let adapted = try AdaptedModel(
      base: base,
      adapter: LoRAConfiguration(
        rank: adapter.rank,
        alpha: adapter.alpha,
        dropout: adapter.dropout,
        scaling: try adapter.resolvedScaling(for: strategy.name),
        targets: .suffixes(adapter.targetModules),
        initialisation: initialisation,
        form: isVeRA ? .vera(seed: seed) : .lora
      ),
      head: model.task.head(labelCount: labels.count, pooling: model.pooling)
    )
    let parameters = try AdapterInitialisation.parameters(of: adapted, seed: seed)
    let all = adapted.layout.tensors(from: parameters)
    initialState = all.filter(rule.isSentDown)
    manifest.state = FedLoRAProtocol.TensorLayout(initialState).declarations
    manifest.update = FedLoRAProtocol.TensorLayout(all.filter(rule.isUploaded)).declarations
    self.manifest = manifest
  }

  /// The run that a run file describes.
  public init(_ configuration: RunConfiguration, base: FrozenModel) throws {
    try self.init(
      name: configuration.name,
      seed: configuration.seed,
      rounds: configuration.rounds,
      labels: configuration.labels,
      base: base,
      model: configuration.model,
      strategy: configuration.strategy,
      adapter: configuration.adapter,
      training: configuration.training,
      cohort: configuration.cohort,
      privacy: configuration.privacy,
      aggregation: configuration.aggregation
    )
  }

  private static func fill(_ target: inout WireTrainingSpec, from training: TrainingSection) throws {
    target.localSteps = try count(training.localSteps, "training.local_steps", atLeast: 1)
    target.batchSize = try count(training.batchSize, "training.batch_size", atLeast: 1)
    target.optimizer = training.optimizer
    target.learningRate = training.learningRate
    target.headLearningRate = training.headLearningRate
    target.momentum = training.momentum
    target.weightDecay = training.weightDecay
    target.beta1 = 0.9
    target.beta2 = 0.999
    target.epsilon = 1e-8
    target.schedule = training.schedule.rawValue
    target.warmupSteps = try count(training.warmupSteps, "training.warmup_steps", atLeast: 0)
    target.maxGradientNorm = training.maxGradientNorm
  }

  private static func count(_ value: Int, _ key: String, atLeast least: Int) throws -> UInt32 {
    guard value >= least, let result = UInt32(exactly: value) else {
      throw ConfigurationError(source: "configuration", key: key, reason: "is \(value), expected at least \(least)")
    }
    return result
  }
}

extension StrategySection {
  /// The head's role with `default` resolved: personal under FedSA, shared otherwise.
  public func resolvedHead(source: String = "configuration") throws -> HeadRole {
    if head == "default" {
      return name.isFedSA ? .personal : .shared
    }
    guard let role = HeadRole(rawValue: head) else {
      throw ConfigurationError(
        source: source,
        key: "strategy.head",
        reason: "is '\(head)', expected default, frozen, personal or shared"
      )
    }
    return role
  }
}

extension AdapterSection {
  /// How A and B start, with `default` resolved: FedSA that holds B under privacy needs a B that is not zero, since A's
  /// gradient is zero with it.
  public func resolvedInitialisation(
    for name: StrategyName,
    privacy: PrivacySection,
    source: String = "configuration"
  ) throws -> LoRAConfiguration.Initialisation {
    let holdsB = privacy.level == .record && privacy.personal != "joint" && name.isFedSA
    if initialisation == "default" { return holdsB ? .orthonormalB : .kaiming }
    guard let rule = LoRAConfiguration.Initialisation(rawValue: initialisation) else {
      throw ConfigurationError(
        source: source,
        key: "adapter.initialisation",
        reason: "is '\(initialisation)', expected default, "
          + LoRAConfiguration.Initialisation.allCases.map(\.rawValue).joined(separator: ", ")
      )
    }
    guard !holdsB || rule == .orthonormalB else {
      throw ConfigurationError(
        source: source,
        key: "adapter.initialisation",
        reason:
          "is '\(initialisation)', but privacy.personal '\(privacy.personal)' holds B at its start: with B = 0 the "
          + "gradient of A is zero and nothing would be learnt; use orthonormal-b"
      )
    }
    guard rule != .orthonormalB || name.isFedSA || name == .fedit else {
      throw ConfigurationError(
        source: source,
        key: "adapter.initialisation",
        reason: "is 'orthonormal-b', where A starts at zero; strategy \(name.rawValue) never trains A, so B's gradient "
          + "would stay zero"
      )
    }
    return rule
  }

  /// Whether only the scales of frozen random matrices train, with `default` resolved.
  public func isVeRA(for name: StrategyName, source: String = "configuration") throws -> Bool {
    func refusal(_ reason: String) -> ConfigurationError {
      ConfigurationError(source: source, key: "adapter.form", reason: reason)
    }
    switch (form, name) {
    case ("default", _): return name == .fedsaVeRA
    case ("lora", .fedsaVeRA): throw refusal("is 'lora', but strategy fedsa-vera trains VeRA's scales")
    case ("lora", _): return false
    case ("vera", .fedsaVeRA), ("vera", .fedit), ("vera", .ffaLoRA): return true
    case ("vera", .fedsvd):
      throw refusal("is 'vera', but fedsvd re-factorises B A, of which VeRA's scales are no factors")
    case ("vera", _): throw refusal("is 'vera'; use strategy fedsa-vera instead of \(name.rawValue)")
    default: throw refusal("is '\(form)', expected default, lora or vera")
    }
  }

  /// The scale rule with `default` resolved; fedsa-rslora insists on rslora.
  public func resolvedScaling(
    for name: StrategyName,
    source: String = "configuration"
  ) throws -> LoRAConfiguration.Scaling {
    if scaling == "default" { return name == .fedsaRSLoRA ? .rslora : .lora }
    guard let rule = LoRAConfiguration.Scaling(rawValue: scaling) else {
      throw ConfigurationError(
        source: source,
        key: "adapter.scaling",
        reason: "is '\(scaling)', expected default, lora or rslora"
      )
    }
    guard name != .fedsaRSLoRA || rule == .rslora else {
      throw ConfigurationError(
        source: source,
        key: "adapter.scaling",
        reason: "is 'lora', but strategy fedsa-rslora scales by rslora"
      )
    }
    return rule
  }
}
