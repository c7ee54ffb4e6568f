import FedLoRAEngine

/// Threads on which clients read and write their folders, wait for the disk, and turn parameters into tensors and back. They
/// are the process's: however many clients it holds, so many wait for the disk at a time, and neither a core that trains nor
/// the cooperative pool waits with them.
enum ClientDesk {
  /// Waiting together is cheap: a disk syncs many files in little more time than one.
  static let crew = WorkCrew(threads: 16, name: "fl-desk")
  /// Goes before what is only written: a core may be waiting for it.
  static let urgent = 1.0
}
