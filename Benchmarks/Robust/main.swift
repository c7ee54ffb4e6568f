// CPU seconds of each aggregation rule over update files, and the memory that is taken beside the mapped files.
//
//     robust-benchmark [UPDATES] [COORDINATES]

import FedLoRACheckpoint
import FedLoRACoordinator
import FedLoRAFederation
import Foundation
import Synchronization

/// Seconds of processor time of this process.
func processorSeconds() -> Double {
  var usage = rusage()
  getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
  func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
  return seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Memory of this process that is not a file's, in MiB.
func anonymousMegabytes() -> Double {
  let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
  let line = status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") } ?? ""
  return Double(line.split(separator: " ").dropFirst().first ?? "").map { $0 / 1024 } ?? 0
}

let arguments = CommandLine.arguments.dropFirst().compactMap { Int($0) }
let updates = arguments.first ?? 20
let coordinates = arguments.dropFirst().first ?? 1_000_000
let byzantine = max(1, (updates - 3) / 4)
let name = "m.lora_B.weight"
let strategy = try Strategy(name: .ffaLoRA, head: .frozen)
let folder = FileManager.default.temporaryDirectory.appendingPathComponent("robust-benchmark-\(UUID().uuidString)")
defer { try? FileManager.default.removeItem(at: folder) }
let store = try RunStore.create(
  at: folder,
  run: RunStore.Description(runID: "benchmark", seed: 1, manifest: Data([1])),
  initialState: TensorSet([name: Tensor(zeros: [coordinates, 1])])
)
let clients = (0..<updates).map { "client-\($0)" }
try store.openAttempt(round: 1, attempt: 1, cohort: clients)
var state: UInt64 = 1
for client in clients {
  let values = (0..<coordinates).map { _ -> Float in
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(Int32(truncatingIfNeeded: state >> 32)) * 0x1p-31
  }
  _ = try store.storeUpdate(
    round: 1,
    name: client,
    examples: 1,
    metrics: [:],
    digest: client,
    tensors: TensorSet([name: try Tensor(shape: [coordinates, 1], values: values)])
  )
}
let contributions = clients.map { Contribution(name: $0, examples: 1, digest: $0) }
print("\(updates) updates of \(coordinates) coordinates, f = \(byzantine)")

/// Looks at the memory every few milliseconds while `body` works.
func measure(_ title: String, _ body: () throws -> Void) rethrows {
  let before = (seconds: processorSeconds(), memory: anonymousMegabytes())
  let peak = Mutex(before.memory)
  let isDone = Mutex(false)
  let watcher = Thread {
    while !isDone.withLock({ $0 }) {
      let memory = anonymousMegabytes()
      peak.withLock { $0 = max($0, memory) }
      usleep(3000)
    }
  }
  watcher.start()
  try body()
  isDone.withLock { $0 = true }
  print(
    title.padding(toLength: 18, withPad: " ", startingAt: 0)
      + String(
        format: "%8.2f s  %6.0f MiB more at most",
        processorSeconds() - before.seconds,
        peak.withLock { $0 } - before.memory
      )
  )
}

try measure("mean") {
  _ = try store.aggregate(round: 1, contributions: contributions, strategy: strategy, weighting: .uniform)
}
for kind in [
  RobustRule.Kind.normBound(.medianTimes(1)), .median, .trimmedMean(fraction: 0), .krum, .multiKrum(keep: 0),
  .geometricMedian(smoothing: 1e-6, iterations: 100),
] {
  let rule = try RobustRule(kind, byzantine: byzantine)
  try measure(rule.name.rawValue) {
    _ = try store.aggregateRobustly(round: 1, contributions: contributions, strategy: strategy, rule: rule)
  }
}
