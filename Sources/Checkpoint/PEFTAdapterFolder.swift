import Foundation

/// The part of PEFT's `adapter_config.json` that says what a LoRA or VeRA adapter is.
public struct PEFTConfiguration: Sendable, Equatable {
  /// The kinds of adapter, as `peft_type` says them.
  public enum Kind: String, Sendable, Equatable {
    /// LoRA, rsLoRA included.
    case lora = "LORA"
    /// VeRA with its projections saved beside its scales, as `vera_A` and `vera_B`.
    case vera = "VERA"
  }

  /// `peft_type`.
  public var kind: Kind
  /// `r`.
  public var rank: Int
  /// `lora_alpha`; 1 for VeRA.
  public var alpha: Double
  /// `lora_dropout` or `vera_dropout`.
  public var dropout: Double
  /// `use_rslora`.
  public var usesRSLoRA: Bool
  /// `target_modules` as a list of suffixes, or one regular expression.
  public var targets: Targets
  /// `modules_to_save`: the trained head modules.
  public var modulesToSave: [String]
  /// `base_model_name_or_path`.
  public var baseModel: String?
  /// `fan_in_fan_out`: whether the base's weights stand as inputs × outputs, as GPT-2's do. A and B are the same either way.
  public var storesInputsFirst: Bool

  /// `task_type`: what model PEFT is to put the adapter into, such as SEQ_CLS or CAUSAL_LM; nil where the file does not say.
  public var taskType: String?

  /// The two forms of `target_modules`.
  public enum Targets: Sendable, Equatable {
    /// A list: module paths that end in one of these.
    case suffixes([String])
    /// A regular expression for whole module paths.
    case pattern(String)
  }

  /// Takes the fields.
  public init(
    kind: Kind = .lora,
    rank: Int,
    alpha: Double,
    dropout: Double,
    usesRSLoRA: Bool,
    targets: Targets,
    modulesToSave: [String],
    baseModel: String?,
    taskType: String? = nil,
    storesInputsFirst: Bool = false
  ) {
    self.kind = kind
    self.rank = rank
    self.alpha = alpha
    self.dropout = dropout
    self.usesRSLoRA = usesRSLoRA
    self.targets = targets
    self.modulesToSave = modulesToSave
    self.baseModel = baseModel
    self.taskType = taskType
    self.storesInputsFirst = storesInputsFirst
  }
}

/// An adapter as a PEFT folder: `adapter_config.json` and `adapter_model.safetensors`.
public struct PEFTAdapterFolder: Sendable, Equatable {
  /// What the adapter is.
  public var configuration: PEFTConfiguration
  /// Parameters under their names without `base_model.model.`; VeRA's projections without `base_model.`.
  public var tensors: TensorSet

  /// Takes configuration and parameters.
  public init(configuration: PEFTConfiguration, tensors: TensorSet) {
    self.configuration = configuration
    self.tensors = tensors
  }

  private static let prefix = "base_model.model."
  /// What PEFT keeps on the outer wrapper rather than on a module.
  private static let outerPrefix = "base_model."
  private static let outerNames: Set = ["vera_A", "vera_B"]

  private static func bare(_ name: String) -> String {
    if name.hasPrefix(prefix) { return String(name.dropFirst(prefix.count)) }
    let outer = name.hasPrefix(outerPrefix) ? String(name.dropFirst(outerPrefix.count)) : name
    return outerNames.contains(outer) ? outer : name
  }

  private static func prefixed(_ name: String) -> String { (outerNames.contains(name) ? outerPrefix : prefix) + name }

  private static let configName = "adapter_config.json"
  private static let tensorsName = "adapter_model.safetensors"

  /// Reads a folder that PEFT or fedlora wrote.
  /// - Throws: `PEFTError` for a configuration that fedlora does not have, `SafetensorsError` for the tensors.
  public init(reading folder: URL) throws {
    let url = folder.appendingPathComponent(PEFTAdapterFolder.configName)
    guard let data = try? Data(contentsOf: url) else {
      throw PEFTError(file: url.path, key: nil, reason: "cannot be read; a PEFT adapter folder needs it")
    }
    guard let object = try? JSONSerialization.jsonObject(with: data) as? [String: Any] else {
      throw PEFTError(file: url.path, key: nil, reason: "is not a JSON object")
    }
    configuration = try PEFTConfiguration(object, file: url.path)
    let stored = try SafetensorsFile.read(folder.appendingPathComponent(PEFTAdapterFolder.tensorsName))
    tensors = try TensorSet(
      stored.entries.map { (Self.bare($0.name), $0.tensor) }
    )
  }

  /// Writes the folder, replacing files of the same names.
  /// - Throws: `DurableFileError`.
  public func write(to folder: URL) throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let prefixed = try TensorSet(tensors.entries.map { (Self.prefixed($0.name), $0.tensor) })
    try SafetensorsFile.write(
      prefixed,
      to: folder.appendingPathComponent(PEFTAdapterFolder.tensorsName),
      metadata: ["format": "pt"]
    )
    let json = try JSONSerialization.data(
      withJSONObject: configuration.object,
      options: [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    )
    try DurableFile.write(json, to: folder.appendingPathComponent(PEFTAdapterFolder.configName))
  }
}

/// A PEFT configuration that cannot be used.
public struct PEFTError: Error, Equatable, CustomStringConvertible {
  /// Path of the file.
  public let file: String
  /// The key at fault, if one is.
  public let key: String?
  /// What was found and expected.
  public let reason: String

  /// One sentence for people.
  public var description: String { key.map { "\(file): '\($0)' \(reason)" } ?? "\(file): \(reason)" }
}

extension PEFTConfiguration {
  /// Reads the object of an `adapter_config.json`; options that change the arithmetic and that fedlora lacks are refused.
  init(_ object: [String: Any], file: String) throws {
    func fault(_ key: String, _ reason: String) -> PEFTError { PEFTError(file: file, key: key, reason: reason) }
    func value(_ key: String) -> Any? { object[key].flatMap { $0 is NSNull ? nil : $0 } }
    func number(_ key: String, default fallback: Double?) throws -> Double {
      guard let found = value(key) else {
        guard let fallback else { throw fault(key, "is missing") }
        return fallback
      }
      // Foundation reads true as a number too; its type is that of a character.
      guard let number = found as? NSNumber, number.doubleValue.isFinite, number.objCType.pointee != CChar(0x63) else {
        throw fault(key, "is not a number")
      }
      return number.doubleValue
    }
    let type = value("peft_type") as? String ?? "missing"
    guard let kind = Kind(rawValue: type) else { throw fault("peft_type", "is \(type), expected LORA or VERA") }
    for key in ["use_dora", "use_qalora", "lora_bias", "use_bdlora"]
    where (value(key) as? NSNumber)?.boolValue == true {
      throw fault(key, "is true, which is not supported")
    }
    for key in ["rank_pattern", "alpha_pattern"] where (value(key) as? [String: Any])?.isEmpty == false {
      throw fault(key, "is not empty; one rank and one alpha for all modules are supported")
    }
    for key in ["layers_to_transform", "layer_replication", "target_parameters", "exclude_modules"]
    where value(key) != nil {
      throw fault(key, "is set, which is not supported")
    }
    if let bias = value("bias"), bias as? String != "none" { throw fault("bias", "is '\(bias)', expected 'none'") }
    guard let rank = Int(exactly: try number("r", default: nil)), rank > 0 else {
      throw fault("r", "is not a positive whole number")
    }
    let targets: Targets
    switch value("target_modules") {
    case let names as [String] where !names.isEmpty: targets = .suffixes(names.sorted())
    case let pattern as String: targets = .pattern(pattern)
    default: throw fault("target_modules", "is neither a list of names nor a regular expression")
    }
    guard let modulesToSave = (value("modules_to_save") ?? [String]()) as? [String] else {
      throw fault("modules_to_save", "is not a list of names")
    }
    if kind == .vera, (value("save_projection") as? NSNumber)?.boolValue == false {
      throw fault("save_projection", "is false; the projections of another generator cannot be made again, save them")
    }
    self.init(
      kind: kind,
      rank: rank,
      alpha: try kind == .vera ? 1 : number("lora_alpha", default: nil),
      dropout: try number(kind == .vera ? "vera_dropout" : "lora_dropout", default: 0),
      // VeRA has no such scale.
      usesRSLoRA: kind == .lora && (value("use_rslora") as? NSNumber)?.boolValue ?? false,
      targets: targets,
      modulesToSave: modulesToSave.sorted(),
      baseModel: value("base_model_name_or_path") as? String,
      taskType: value("task_type") as? String,
      storesInputsFirst: (value("fan_in_fan_out") as? NSNumber)?.boolValue ?? false
    )
  }

  /// The object of an `adapter_config.json` that PEFT loads.
  var object: [String: Any] {
    let targetValue: Any =
      switch targets {
      case .suffixes(let names): names
      case .pattern(let text): text
      }
    let common: [String: Any] = [
      "peft_type": kind.rawValue, "task_type": taskType.map { $0 as Any } ?? NSNull(), "r": rank,
      "target_modules": targetValue,
      "modules_to_save": modulesToSave.isEmpty ? NSNull() as Any : modulesToSave, "bias": "none",
      "fan_in_fan_out": storesInputsFirst, "inference_mode": true,
      "base_model_name_or_path": baseModel.map { $0 as Any } ?? NSNull(),
    ]
    let own: [String: Any] =
      switch kind {
      case .lora:
        [
          "lora_alpha": Int(exactly: alpha).map { $0 as Any } ?? alpha, "lora_dropout": dropout,
          "use_rslora": usesRSLoRA, "init_lora_weights": true,
        ]
      // The projections come from the file; the key only fills them before that.
      case .vera: ["vera_dropout": dropout, "save_projection": true, "projection_prng_key": 0, "d_initial": 0.1]
      }
    return common.merging(own) { _, new in new }
  }
}
