import FedLoRACheckpoint

extension LoRAConfiguration {
  /// The configuration of a PEFT adapter folder.
  /// - Throws: `ModelError.badOption` for values out of range.
  public init(peft: PEFTConfiguration) throws {
    let targets: TargetModules =
      switch peft.targets {
      case .suffixes(let names): .suffixes(names)
      case .pattern(let text): .pattern(text)
      }
    guard peft.kind == .lora else {
      throw ModelError.badOption(name: "peft_type", found: peft.kind.rawValue, expected: "LORA")
    }
    try self.init(
      rank: peft.rank,
      alpha: peft.alpha,
      dropout: peft.dropout,
      scaling: peft.usesRSLoRA ? .rslora : .lora,
      targets: targets
    )
  }

  /// This configuration as PEFT writes it.
  /// - Parameters:
  ///   - baseModel: name or path of the base model, for PEFT's `base_model_name_or_path`.
  ///   - spec: the base model's shape.
  ///   - task: what the adapted model does; a classifier's head is among the modules to save.
  public func peft(baseModel: String?, spec: TransformerSpec, task: TaskKind) -> PEFTConfiguration {
    let names: PEFTConfiguration.Targets =
      switch targets {
      case .suffixes(let names): .suffixes(names)
      case .pattern(let text): .pattern(text)
      }
    return PEFTConfiguration(
      kind: form == .lora ? .lora : .vera,
      rank: rank,
      alpha: alpha,
      dropout: dropout,
      usesRSLoRA: scaling == .rslora,
      targets: names,
      modulesToSave: task == .classification ? ["classifier", "score"] : [],
      baseModel: baseModel,
      taskType: task.peftName,
      storesInputsFirst: spec.storesInputsFirst
    )
  }
}
