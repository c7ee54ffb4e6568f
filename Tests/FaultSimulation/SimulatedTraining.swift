import FedLoRACheckpoint
import FedLoRAClient
import FedLoRATestSupport
import Foundation

/// Local training as arithmetic, with a ledger of one file a charge.
enum SimulatedTraining {
  /// Tensors that name their client, round and charge, so that whatever comes out can be traced.
  static func update(client: String, round: Int, noise: Int, charge: Int, personal: TensorSet?) -> LocalUpdate {
    var upload = ToyRun.tensor([2, 3], client, round, "A\(noise)")
    upload.values[0] = Float(charge)
    let trained = (personal?["m.lora_B.weight"]?.values[0] ?? 0) + 1
    var own = ToyRun.tensor([4, 2], client, round, "B\(noise)")
    own.values[0] = trained
    return LocalUpdate(
      upload: TensorSet(["m.lora_A.weight": upload]),
      personal: TensorSet(["m.lora_B.weight": own]),
      metrics: [:]
    )
  }

  /// The charge that paid for an update.
  static func charge(of upload: TensorSet) -> Int { Int(upload["m.lora_A.weight"]?.values[0] ?? -1) }

  static func file(_ charge: Int) -> String { "charge-\(charge)" }

  static func charges(_ mount: MountedDisk?) throws -> Int {
    guard let mount else { return 0 }
    let folder = mount.root.appendingPathComponent("ledger")
    return mount.exists(folder) ? try mount.names(in: folder).filter { $0.hasPrefix("charge-") }.count : 0
  }

  /// Charges durably.
  static func charge(_ charge: Int, _ mount: MountedDisk?) throws {
    guard let mount else { return }
    let folder = mount.root.appendingPathComponent("ledger")
    try DurableFile.makeDirectory(folder, on: mount)
    try DurableFile.write(Data(), to: folder.appendingPathComponent(file(charge)), on: mount)
  }
}
