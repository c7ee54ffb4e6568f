import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import FedLoRAProtocol
import Foundation
import Synchronization

/// The folder of a simulation's results: `config.yaml`, `command.txt`, `metrics.jsonl`, `summary.json`, and a folder per
/// strategy with its adapters and durable state.
final class ResultsFolder: Sendable {
  let url: URL
  private let log: Mutex<FileHandle>

  /// Makes a new folder `name-DATE-TIME` under `parent`.
  init(under parent: URL, name: String, configuration: String, command: String) throws {
    let formatter = DateFormatter()
    formatter.locale = Locale(identifier: "en_US_POSIX")
    formatter.timeZone = TimeZone(identifier: "UTC")
    formatter.dateFormat = "yyyyMMdd-HHmmss"
    let base = "\(name)-\(formatter.string(from: Date()))"
    try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    var folder = parent.appendingPathComponent(base)
    var attempt = 1
    while mkdir(folder.path, 0o755) != 0 {
      guard errno == EEXIST else {
        throw CocoaError(.fileWriteUnknown, userInfo: [NSFilePathErrorKey: folder.path])
      }
      attempt += 1
      folder = parent.appendingPathComponent("\(base)-\(attempt)")
    }
    url = folder
    try DurableFile.write(Data(configuration.utf8), to: folder.appendingPathComponent("config.yaml"))
    try DurableFile.write(Data((command + "\n").utf8), to: folder.appendingPathComponent("command.txt"))
    let metrics = folder.appendingPathComponent("metrics.jsonl")
    try Data().write(to: metrics)
    log = Mutex(try FileHandle(forWritingTo: metrics))
  }

  /// Appends an event as one JSON line; events without a place in the metrics are left out.
  func record(_ event: SimulationEvent) {
    guard let fields = ResultsFolder.fields(of: event),
      let data = try? JSONSerialization.data(withJSONObject: fields, options: [.sortedKeys, .withoutEscapingSlashes])
    else { return }
    log.withLock { handle in try? handle.write(contentsOf: data + Data("\n".utf8)) }
  }

  /// Writes the summary.
  func finish(_ report: SimulationReport) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try DurableFile.write(try encoder.encode(report), to: url.appendingPathComponent("summary.json"))
    log.withLock { handle in try? handle.synchronize() }
  }

  private static func fields(of event: SimulationEvent) -> [String: Any]? {
    switch event {
    case .loaded(let clients, let train, let test, let labels, let parameters):
      return [
        "event": "loaded", "clients": clients, "train": train, "test": test, "labels": labels, "parameters": parameters,
      ]
    case .started(let name, let rounds): return ["event": "started", "name": name, "rounds": rounds ?? NSNull()]
    case .progress, .cell: return nil
    case .coordinator(let strategy, let inner):
      guard var fields = fields(of: inner) else { return nil }
      fields["strategy"] = strategy
      return fields
    case .finished(let row):
      guard let data = try? JSONEncoder().encode(row),
        var fields = try? JSONSerialization.jsonObject(with: data) as? [String: Any]
      else { return nil }
      fields["event"] = "finished"
      return fields
    }
  }

  private static func fields(of event: CoordinatorEvent) -> [String: Any]? {
    switch event {
    case .clientReady(let name, _): return ["event": "client-ready", "client": name]
    case .clientLost(let name, let reason): return ["event": "client-lost", "client": name, "reason": reason]
    case .refused(let address, let code, let reason):
      return ["event": "refused", "address": address, "code": code, "reason": reason]
    case .notice(let code, let text): return ["event": "notice", "code": code, "reason": text]
    case .roundOpened(let round, let attempt, let cohort):
      return ["event": "round-opened", "round": round, "attempt": attempt, "cohort": cohort]
    case .cohortExtended(let round, let names):
      return ["event": "cohort-extended", "round": round, "cohort": names]
    case .updateAccepted(let round, let name, let metrics):
      return ["event": "update-accepted", "round": round, "client": name, "metrics": metrics]
    case .updateRefused(let round, let name, let code, let reason):
      return ["event": "update-refused", "round": round, "client": name, "code": code, "reason": reason]
    case .declined(let round, let name, let code, let reason):
      return ["event": "declined", "round": round, "client": name, "code": code, "reason": reason]
    case .clientOutcome(let round, let name, let code, let reason):
      return ["event": "client-outcome", "round": round, "client": name, "code": code, "reason": reason]
    case .aggregated(let round, let rule, let updates, let leftOut, let scaledDown, let seconds):
      return [
        "event": "aggregated", "round": round, "rule": rule.rawValue, "updates": updates, "left_out": leftOut,
        "scaled_down": scaledDown, "seconds": seconds,
      ]
    case .roundCommitted(let round, let updates, let counts, let loss, let traffic, let epsilon):
      return [
        "event": "round-committed", "round": round, "updates": updates, "counts": counts, "loss": loss ?? NSNull(),
        "bytes_sent": traffic.sent, "bytes_received": traffic.received, "epsilon": epsilon ?? NSNull(),
      ]
    case .finished: return nil
    }
  }
}
