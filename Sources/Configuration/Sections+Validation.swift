import FedLoRAEngine
import FedLoRAFederation

/// Ranges of values that the types alone allow too much of. Every fault names source and key.
struct Ranges {
  let source: String

  func require(_ condition: Bool, _ key: String, _ reason: @autoclosure () -> String) throws {
    if !condition { throw ConfigurationError(source: source, key: key, reason: reason()) }
  }

  func atLeast(_ least: Int, _ value: Int, _ key: String) throws {
    try require(value >= least, key, "is \(value), expected at least \(least)")
    try require(UInt32(exactly: value) != nil, key, "is \(value), expected at most \(UInt32.max)")
  }

  func positive(_ value: Double, _ key: String) throws {
    try require(value > 0 && value.isFinite, key, "is \(value), expected a positive number")
  }

  func notNegative(_ value: Double, _ key: String) throws {
    try require(value >= 0 && value.isFinite, key, "is \(value), expected 0 or a positive number")
  }

  func oneOf(_ known: [String], _ value: String, _ key: String) throws {
    try require(known.contains(value), key, "is '\(value)', expected \(known.joined(separator: ", "))")
  }
}

extension ModelSection {
  func validate(_ ranges: Ranges) throws {
    try ranges.atLeast(3, maxLength, "model.max_length")
    guard promptFormat != PromptFormat.plain.text else { return }
    try ranges.require(
      task == .causalLM,
      "model.prompt_format",
      "is '\(promptFormat)', but model.task is \(task.rawValue); only causal-lm has prompts"
    )
    try ranges.require(
      (try? PromptFormat(promptFormat)) != nil,
      "model.prompt_format",
      "is '\(promptFormat)', expected {prompt} once and {response} once, in this order"
    )
  }
}

extension StrategySection {
  func validate(_ ranges: Ranges) throws {
    _ = try resolvedHead(source: ranges.source)
    try ranges.oneOf(["uniform", "examples", "capped"], weighting, "strategy.weighting")
    try ranges.atLeast(1, weightCap, "strategy.weight_cap")
    try ranges.atLeast(1, refactoriseEvery, "strategy.refactorise_every")
  }
}

extension AdapterSection {
  func validate(_ ranges: Ranges, strategy: StrategyName) throws {
    try ranges.atLeast(1, rank, "adapter.rank")
    try ranges.positive(alpha, "adapter.alpha")
    try ranges.require(dropout >= 0 && dropout < 1, "adapter.dropout", "is \(dropout), expected at least 0 and below 1")
    try ranges.require(!targetModules.isEmpty, "adapter.target_modules", "is empty, expected names such as query")
    _ = try resolvedScaling(for: strategy, source: ranges.source)
    _ = try isVeRA(for: strategy, source: ranges.source)
    try ranges.oneOf(
      ["default"] + LoRAConfiguration.Initialisation.allCases.map(\.rawValue),
      initialisation,
      "adapter.initialisation"
    )
  }
}

extension TrainingSection {
  func validate(_ ranges: Ranges) throws {
    try ranges.atLeast(1, localSteps, "training.local_steps")
    try ranges.atLeast(1, batchSize, "training.batch_size")
    try ranges.oneOf(["adamw", "sgd"], optimizer, "training.optimizer")
    try ranges.positive(learningRate, "training.learning_rate")
    try ranges.notNegative(headLearningRate, "training.head_learning_rate")
    try ranges.require(
      momentum >= 0 && momentum < 1,
      "training.momentum",
      "is \(momentum), expected at least 0 and below 1"
    )
    try ranges.notNegative(weightDecay, "training.weight_decay")
    try ranges.atLeast(0, warmupSteps, "training.warmup_steps")
    try ranges.notNegative(maxGradientNorm, "training.max_gradient_norm")
  }
}

extension CohortSection {
  /// Attempts at a round where nothing else is said.
  static let usualAttempts = 3
  /// A year; a longer deadline is a mistake, and the clock has an end.
  static let longestDeadline = 31_536_000.0

  func validate(_ ranges: Ranges) throws {
    try ranges.atLeast(1, minClients, "cohort.min_clients")
    try ranges.atLeast(1, clientsPerRound, "cohort.clients_per_round")
    try ranges.atLeast(1, quorum, "cohort.quorum")
    try ranges.require(
      bufferSize > 0 || quorum <= clientsPerRound,
      "cohort.quorum",
      "is \(quorum), but clients_per_round is \(clientsPerRound), so no round would be committed"
    )
    try ranges.require(
      quorum <= minClients,
      "cohort.quorum",
      "is \(quorum), but min_clients is \(minClients); a run must not start with fewer clients than a round needs"
    )
    try ranges.oneOf(["random", "balanced"], selection, "cohort.selection")
    try ranges.atLeast(0, overSelected, "cohort.over_selected")
    try ranges.atLeast(1, maxAttempts, "cohort.max_attempts")
    try ranges.require(
      mostConnected == 0 || mostConnected >= max(minClients, clientsPerRound + overSelected),
      "cohort.most_connected",
      "is \(mostConnected), expected 0 (no bound) or at least min_clients and the clients that a round asks, "
        + "\(max(minClients, clientsPerRound + overSelected))"
    )
    try ranges.require(
      uploadGraceSeconds >= 0 && uploadGraceSeconds <= CohortSection.longestDeadline,
      "cohort.upload_grace_seconds",
      "is \(uploadGraceSeconds), expected 0 up to a year (\(Int(CohortSection.longestDeadline)))"
    )
    try ranges.atLeast(0, bufferSize, "cohort.buffer_size")
    try ranges.positive(deadlineSeconds, "cohort.deadline_seconds")
    try ranges.require(
      deadlineSeconds <= CohortSection.longestDeadline,
      "cohort.deadline_seconds",
      "is \(deadlineSeconds), expected at most a year (\(Int(CohortSection.longestDeadline)))"
    )
  }
}

extension CohortSection {
  /// How asynchronous rounds are filled; nil where rounds are synchronous.
  /// - Throws: `BufferTermError` for a number out of range, one that synchronous rounds do not use, and a quorum that is too
  ///   large.
  func buffer() throws -> BufferTerms? {
    guard bufferSize > 0 else {
      if stalenessExponent != BufferTerms.usualExponent {
        throw BufferTermError.notBuffered(field: CodingKeys.stalenessExponent.rawValue)
      }
      if maxStaleness != BufferTerms.usualMostStale {
        throw BufferTermError.notBuffered(field: CodingKeys.maxStaleness.rawValue)
      }
      return nil
    }
    let terms = try BufferTerms(size: bufferSize, exponent: stalenessExponent, mostStale: maxStaleness)
    try terms.check(quorum: quorum, overSelected: overSelected)
    return terms
  }
}

extension RunConfiguration {
  func validate(source: String) throws {
    let ranges = Ranges(source: source)
    try ranges.require(!name.isEmpty, "name", "is empty; clients keep the run's state under its name")
    try ranges.atLeast(1, rounds, "rounds")
    try ranges.require(
      (0...65535).contains(listen.port),
      "listen.port",
      "is \(listen.port), expected 0 to 65535; 0 takes a free port"
    )
    try limits.validate(ranges)
    try enrolment.validate(ranges, listen: listen.port)
    try metrics.validate(
      ranges,
      taken: [("listen.port", listen.port)] + (enrolment.ca.isEmpty ? [] : [("enrolment.port", enrolment.port)])
    )
    try RunConfiguration.validate(labels: labels, for: model.task, ranges)
    try model.validate(ranges)
    try strategy.validate(ranges)
    try adapter.validate(ranges, strategy: strategy.name)
    try training.validate(ranges)
    try cohort.validate(ranges)
    try privacy.validate(ranges)
    try privacy.validate(cohort, ranges)
    try aggregation.validate(ranges, cohort: cohort, strategy: strategy, privacy: privacy)
  }

  static func validate(labels: [String], for task: TaskKind, _ ranges: Ranges) throws {
    guard task.hasClasses else {
      return try ranges.require(
        labels.isEmpty,
        "labels",
        "names classes, which a run with model.task \(task.rawValue) has not"
      )
    }
    try ranges.require(
      labels.count >= 2,
      "labels",
      "names \(labels.count) classes; list at least two, in the order of the clients' data"
    )
    try ranges.require(Set(labels).count == labels.count, "labels", "names a class twice")
  }
}

extension ScenarioConfiguration {
  /// What asks for classes, which examples of a regression and of a language model have not.
  private func validateWithoutClasses(_ ranges: Ranges) throws {
    guard !model.task.hasClasses else { return }
    let task = model.task.rawValue
    let reason = "which needs classes; a scenario with model.task \(task) has none"
    try ranges.require(data.labels.isEmpty, "data.labels", "names classes, which model.task \(task) has not")
    try ranges.require(
      clients.partition == .iid || clients.partition == .natural,
      "clients.partition",
      "is \(clients.partition.rawValue), \(reason): use iid or natural"
    )
    try ranges.require(
      model.task == .regression || !baselines.contains(.majority),
      "baselines",
      "names majority, \(reason)"
    )
    try ranges.require(
      poison.clients == 0
        || (poison.attack != .labelFlip && !compare.attacks.contains(PoisonSection.Attack.labelFlip.rawValue)),
      "poison.attack",
      "is label-flip, \(reason)"
    )
  }

  func validate(source: String) throws {
    let ranges = Ranges(source: source)
    try ranges.require(!name.isEmpty && !name.contains("/"), "name", "is '\(name)', expected a name for a folder")
    try ranges.atLeast(1, rounds, "rounds")
    try ranges.atLeast(1, clients.count, "clients.count")
    try ranges.atLeast(1, clients.concurrency, "clients.concurrency")
    try ranges.atLeast(1, clients.threads, "clients.threads")
    // Larger values are mistakes, and products of them must still be countable.
    for (value, most, key) in [
      (rounds, 1_000_000, "rounds"), (training.localSteps, 1_000_000, "training.local_steps"),
      (clients.count, 100_000, "clients.count"), (clients.concurrency, 1024, "clients.concurrency"),
      (clients.threads, 1024, "clients.threads"), (clients.minimumExamples, 1_000_000_000, "clients.minimum_examples"),
    ] { try ranges.require(value <= most, key, "is \(value), expected at most \(most)") }
    try ranges.require(
      clients.dirichletAlpha >= 1e-6 && clients.dirichletAlpha <= 1e6,
      "clients.dirichlet_alpha",
      "is \(clients.dirichletAlpha), expected 0.000001 to 1000000"
    )
    try ranges.require(
      centralisedEpochs <= 1e4,
      "centralised_epochs",
      "is \(centralisedEpochs), expected at most 10000"
    )
    try ranges.positive(clients.dirichletAlpha, "clients.dirichlet_alpha")
    try ranges.atLeast(1, clients.labelsPerClient, "clients.labels_per_client")
    try ranges.atLeast(0, clients.minimumExamples, "clients.minimum_examples")
    try ranges.atLeast(0, data.trainLimit, "data.train_limit")
    try ranges.positive(centralisedEpochs, "centralised_epochs")
    try ranges.require(
      clients.partition == .natural || cohort.minClients <= clients.count,
      "cohort.min_clients",
      "is \(cohort.minClients), but there are \(clients.count) clients, so round 1 would never start"
    )
    try ranges.require(
      !strategies.isEmpty || !baselines.isEmpty,
      "strategies",
      "is empty, and so is baselines: nothing to run"
    )
    let known = StrategyName.allCases.map(\.rawValue).joined(separator: ", ")
    for key in overrides.keys.sorted() {
      try ranges.require(
        method(key) != nil,
        "overrides.\(key)",
        "is no strategy, and names none by its key 'strategy'; known are \(known)"
      )
      try ranges.require(
        !key.isEmpty && !key.contains("/") && !key.hasPrefix("."),
        "overrides.\(key)",
        "is no name for a folder"
      )
    }
    try ranges.require(Set(strategies).count == strategies.count, "strategies", "names a method twice")
    try model.validate(ranges)
    try validateWithoutClasses(ranges)
    try strategy.validate(ranges)
    try training.validate(ranges)
    try cohort.validate(ranges)
    try privacy.validate(ranges)
    try privacy.validate(cohort, ranges)
    try compare.validate(ranges)
    try evaluation.validate(ranges, task: model.task)
    try poison.validate(ranges, clients: clients)
    try ranges.require(
      poison.clients > 0 || compare.attacks.allSatisfy { $0 == "none" },
      "poison.clients",
      "is 0, but compare.attacks names attacks; say how many clients are hostile"
    )
    for (index, name) in strategies.enumerated() {
      guard let own = method(name) else {
        throw ConfigurationError(
          source: source,
          key: "strategies.\(index)",
          reason: "is '\(name)', which is no strategy and no override with one; known are \(known)"
        )
      }
      do {
        try own.strategy.validate(ranges)
        try own.training.validate(ranges)
        try own.privacy.validate(ranges)
      } catch let fault as ConfigurationError {
        // The scenario's own sections are sound, so the override is not.
        let field = fault.key.split(separator: ".").last ?? ""
        throw ConfigurationError(source: source, key: "overrides.\(name).\(field)", reason: fault.reason)
      }
      // What the rule does not go together with may be of the scenario as well as of the override.
      try own.aggregation.validate(ranges, cohort: cohort, strategy: own.strategy, privacy: own.privacy)
      try own.adapter.validate(ranges, strategy: own.strategy.name)
      _ = try own.adapter.resolvedInitialisation(for: own.strategy.name, privacy: own.privacy, source: source)
    }
    if strategies.isEmpty { try adapter.validate(ranges, strategy: strategy.name) }
  }
}
