// Times ε and calibration over ordinary settings and two long or hard ones.
//
//     accountant-benchmark [REPEATS]
//
// Prints one JSON array; `compare_accountants.py` sets other accountants beside its rows. `epsilon_ms` and `calibration_ms` are
// medians of REPEATS calls after a first one, whose time for ε is `first_epsilon_ms` (tables are made in the very first).

import FedLoRADP
import Foundation

struct Setting {
  let rate: Double
  let noise: Double
  let steps: Int
  let delta: Double
}

struct Line: Encodable {
  let sampling_rate: Double
  let noise_multiplier: Double
  let steps: Int
  let delta: Double
  let epsilon: Double
  let method: String
  let epsilon_ms: Double
  let first_epsilon_ms: Double
  let target_epsilon: Double
  let calibrated_noise_multiplier: Double
  let calibration_ms: Double
}

/// A call's result, and its time in milliseconds: the median of `repeats`, and that of the call before them.
func timed<Value>(_ repeats: Int, _ body: () throws -> Value) rethrows -> (value: Value, median: Double, first: Double)
{
  let clock = ContinuousClock()
  func call() throws -> (Value, Double) {
    let start = clock.now
    let value = try body()
    return (value, (clock.now - start) / .milliseconds(1))
  }
  let (value, first) = try call()
  let times = try (0..<max(1, repeats)).map { _ in try call().1 }.sorted()
  return (value, times[times.count / 2], first)
}

let settings = [
  Setting(rate: 0.01, noise: 0.8, steps: 1000, delta: 1e-5),
  Setting(rate: 0.01, noise: 1.5, steps: 10_000, delta: 1e-5),
  Setting(rate: 0.0352, noise: 0.9, steps: 250, delta: 1e-5),
  Setting(rate: 0.00285, noise: 0.6, steps: 250, delta: 1e-5),
  Setting(rate: 0.001, noise: 1, steps: 100_000, delta: 1e-6),
  Setting(rate: 0.1, noise: 2, steps: 500, delta: 1e-6),
  Setting(rate: 1 / 88, noise: 0.6134, steps: 500, delta: 1e-5),
  Setting(rate: 1e-4, noise: 0.6, steps: 1_000_000, delta: 1e-6),
]
let targetEpsilon = 3.0
let repeats = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 9
let accountant = PrivacyAccountant(relation: .addOrRemoveOne)
let lines = try settings.map { setting in
  let sampling = ExampleSampling.poisson(rate: setting.rate)
  let spent = try timed(repeats) {
    let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: setting.noise, steps: setting.steps)
    return try accountant.epsilon(of: [phase], delta: setting.delta)
  }
  let calibrated = try timed(repeats) {
    try Calibration.noiseMultiplier(
      epsilon: targetEpsilon,
      delta: setting.delta,
      sampling: sampling,
      steps: setting.steps,
      relation: .addOrRemoveOne
    )
  }
  return Line(
    sampling_rate: setting.rate,
    noise_multiplier: setting.noise,
    steps: setting.steps,
    delta: setting.delta,
    epsilon: spent.value.epsilon,
    method: spent.value.method.rawValue,
    epsilon_ms: spent.median,
    first_epsilon_ms: spent.first,
    target_epsilon: targetEpsilon,
    calibrated_noise_multiplier: calibrated.value,
    calibration_ms: calibrated.median
  )
}
let encoder = JSONEncoder()
encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
print(String(decoding: try encoder.encode(lines), as: UTF8.self))
