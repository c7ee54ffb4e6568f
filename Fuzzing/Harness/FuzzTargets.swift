/// Every parser that is fuzzed.
///
/// To add one: write a file in `Targets/` with a static `FuzzTarget`, and name it here. `Mutator`, limits, corpus, tests, the
/// `fuzz` program and libFuzzer then follow.
public enum FuzzTargets {
  /// All targets.
  public static let all: [FuzzTarget] = [
    .frames, .sealed, .manifest, .operatorMessages, .certificate, .certificateChain, .identity,
    .token, .enrolmentRequest, .enrolmentAnswer,
    .safetensors, .shards, .adapterFolder, .modelConfiguration,
    .tokenizer, .text, .chatTemplate, .csv, .tsv, .jsonLines,
    .runFile, .scenario, .policy,
    .ledger, .runLog, .exactSum,
  ]

  /// The target of this name.
  public static func named(_ name: String) -> FuzzTarget? { (all + [.selfTest]).first { $0.name == name } }
}
