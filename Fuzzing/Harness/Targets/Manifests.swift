import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import SwiftProtobuf

extension FuzzTarget {
  /// The terms of a run, as a client reads them and holds them against its policy before it opens any data.
  static let manifest = FuzzTarget(
    name: "manifest",
    about: "the terms of a run, as a client judges them",
    limits: FuzzLimits(memory: 64 << 20, memoryPerByte: 256, milliseconds: 10_000),
    dictionary: StrategyName.allCases.map(\.rawValue)
      + [
        "record", "client", "add-or-remove-one", "replace-one", "zero-out", "poisson", "fixed-size", "flat",
        "automatic", "joint",
        "held", "after", "uniform", "capped", "lora", "rslora", "vera", "kaiming", "orthonormal-b", "adamw", "sgd",
        "constant",
        "cosine", "mean", "pooler", "query", "shared", "personal", "frozen", "random", "balanced",
      ],
    seeds: {
      try ConfigurationSamples.runs.map { text in
        let scratch = try FuzzScratch()
        let run = try RunConfiguration.load(scratch.file("run.yaml", Array(text.utf8)), assignments: []).0
        let manifest = try RunDefinition(run, base: ConfigurationSamples.model()).manifest
        return [UInt8](try manifest.serializedData())
      }
    }
  ) { bytes, _ in
    let manifest = try WireRunManifest(serializedBytes: Data(bytes))
    try ClientPolicy.standard.check(manifest)
    let terms = try RunTerms(manifest)
    _ = try terms.privacy?.phase(steps: terms.localSteps)
    _ = try TensorLayout(manifest.state, maximumByteCount: 1 << 30)
    _ = try TensorLayout(manifest.update, maximumByteCount: 1 << 30)
    let model = try AdaptedModel(base: ConfigurationSamples.model(), adapter: terms.adapter, head: terms.head)
    _ = try terms.privacy?.mechanism(dimension: model.layout.entries.reduce(0) { $0 + $1.count })
    _ = try AdapterInitialisation.parameters(of: model, seed: manifest.seed)
  }
}
