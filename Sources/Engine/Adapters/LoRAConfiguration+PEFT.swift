import FedLoRACheckpoint

extension LoRAConfiguration {
  /// The configuration of a PEFT adapter folder. VeRA's projections are the folder's own, which `AdaptedModel` is given beside it:
  /// the seed of the form says nothing.
  /// - Throws: `ModelError.badOption` for values out of range.
  public init(peft: PEFTConfiguration) throws {
    let targets: TargetModules =
      switch peft.targets {
      case .suffixes(let names): .suffixes(names)
      case .pattern(let text): .pattern(text)
      }
    try self.init(
      rank: peft.rank,
      alpha: peft.alpha,
      dropout: peft.dropout,
      scaling: peft.usesRSLoRA ? .rslora : .lora,
      targets: targets,
      form: peft.kind == .vera ? .vera(seed: 0) : .lora
    )
  }

  /// This configuration as PEFT writes it.
  /// - Parameters:
  ///   - baseModel: name or path of the base model, for PEFT's `base_model_name_or_path`.
  ///   - spec: the base model's shape.
  ///   - task: what the adapted model does; a classifier's head is among the modules to save.
  ///   - pooling: of the head; a dense layer of a name of its own is saved beside it.
  public func peft(
    baseModel: String?,
    spec: TransformerSpec,
    task: TaskKind,
    pooling: Pooling? = nil
  ) -> PEFTConfiguration {
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
      modulesToSave: task == .causalLM
        ? [] : (pooling == .dense && spec.family == "distilbert" ? ["pre_classifier"] : []) + ["classifier", "score"],
      baseModel: baseModel,
      taskType: task.peftName,
      storesInputsFirst: spec.storesInputsFirst
    )
  }
}
