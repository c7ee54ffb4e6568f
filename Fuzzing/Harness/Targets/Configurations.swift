import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import Foundation
import SwiftProtobuf

extension FuzzTarget {
  private static let yaml = [
    ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "*a, *a", "? ", "!!binary ", "!!int ", "|", ">", "---\n",
    "...\n", "#",
    "<<: ", "~", "null", "true", "no", "0x7fffffffffffffff", "1e999", ".nan", ".inf", "-.inf", "0b1", "1_000", "\"",
    "'", "%YAML 1.1",
    "name: ", "rounds: ", "seed: ", "4294967295", "labels: [a, b]", "privacy:\n  level: record\n", "\t", "\u{FEFF}",
    "\u{85}",
    "epsilon: ", "delta: ", "noise_multiplier: ", "sampling_rate: ", "strategy:\n  name: fedsvd\n", "cohort:\n  ",
    "overrides:\n  ",
  ]

  /// A run file, and the manifest that follows from it.
  static let runFile = FuzzTarget(
    name: "run-file",
    about: "a run file, and the manifest that follows",
    limits: ConfigurationSamples.limits,
    dictionary: yaml,
    seeds: { ConfigurationSamples.runs.map { Array($0.utf8) } }
  ) { bytes, scratch in
    let (run, text) = try RunConfiguration.load(scratch.file("run.yaml", bytes), assignments: [])
    let again = try FuzzFailure.onError("the effective run file cannot be read") {
      try RunConfiguration.load(scratch.file("again.yaml", Array(text.utf8)), assignments: [])
    }
    try FuzzFailure.unless(again.0 == run && again.effective == text, "the effective run file says something else")
    let definition = try RunDefinition(run, base: ConfigurationSamples.model())
    _ = try definition.manifest.serializedData()
  }

  /// A scenario of `fedlora simulate`.
  static let scenario = FuzzTarget(
    name: "scenario",
    about: "a scenario file",
    limits: ConfigurationSamples.limits,
    dictionary: yaml + [
      "strategies: [", "baselines: [", "clients:\n  ", "data:\n  ", "compare:\n  ", "partition: dirichlet",
    ],
    seeds: { ConfigurationSamples.scenarios.map { Array($0.utf8) } }
  ) { bytes, scratch in
    let (scenario, text) = try ScenarioConfiguration.load(scratch.file("scenario.yaml", bytes), assignments: [])
    let again = try FuzzFailure.onError("the effective scenario cannot be read") {
      try ScenarioConfiguration.load(scratch.file("again.yaml", Array(text.utf8)), assignments: [])
    }
    try FuzzFailure.unless(again.0 == scenario && again.effective == text, "the effective scenario says something else")
  }

  /// A client's policy.
  static let policy = FuzzTarget(
    name: "policy",
    about: "a client's policy file",
    limits: ConfigurationSamples.limits,
    dictionary: yaml + ["levels: [", "max_epsilon: ", "max_delta: ", "models: [", "metrics: [", "declared_examples: "],
    seeds: {
      [Array(ClientPolicy.defaults.utf8), Array("levels: [record]\nmax_epsilon: 3\nmodels: [0123abcd]\n".utf8)]
    }
  ) { bytes, scratch in
    let policy = try ClientPolicy.load(scratch.file("policy.yaml", bytes))
    _ = try FuzzFailure.onError("a policy cannot be written") { try JSONEncoder().encode(policy) }
  }
}

enum ConfigurationSamples {
  /// Calibrating noise takes some hundred milliseconds.
  static let limits = FuzzLimits(memory: 64 << 20, memoryPerByte: 512, milliseconds: 10_000, length: 4096)

  private static let cached = Result {
    let scratch = try FuzzScratch()
    _ = try scratch.file("config.json", TinyCheckpoint.configuration)
    _ = try scratch.file("model.safetensors", TinyCheckpoint.tensors)
    return try FrozenModel(folder: scratch.folder)
  }

  static func model() throws -> FrozenModel { try cached.get() }

  static let runs = [
    RunConfiguration.defaults.replacing("labels: []", with: "labels: [no, yes]").replacing(
      "max_length: 128",
      with: "max_length: 8"
    )
    .replacing("rank: 8", with: "rank: 2"),
    """
    name: small
    labels: [a, b, c]
    model: {path: m, max_length: 6}
    adapter: {rank: 1, target_modules: [query, value]}
    strategy: {name: fedsvd, refactorise_every: 2}
    """,
    """
    name: private
    labels: [a, b]
    model: {max_length: 6}
    adapter: {rank: 1}
    privacy: {level: record, noise_multiplier: 1.5, sampling_rate: 0.01}
    cohort: {selection: balanced}
    """,
  ]

  static let scenarios = [
    """
    name: one
    rounds: 3
    clients: {count: 5, partition: dirichlet, dirichlet_alpha: 0.5}
    strategies: [fedit, fedsa-lora, mine]
    baselines: [majority, local]
    cohort: {min_clients: 3, clients_per_round: 3, quorum: 2}
    overrides:
      mine: {strategy: fedsvd, rank: 4, learning_rate: 0.1}
    """,
    """
    name: two
    strategies: [ffa-lora]
    privacy: {level: client, epsilon: 3, sampling: poisson, sampling_rate: 0.5}
    compare: {seeds: [1, 2], epsilons: [0, 3], tuning_seed: 7, tuning_factors: [0.1, 1]}
    """,
  ]
}
