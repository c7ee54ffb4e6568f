// Times ε and calibration over ordinary settings; prints JSON, which compare.py sets beside other accountants.
//
//     accountant-benchmark [REPEATS]

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
  let calibrated_noise_multiplier: Double
  let calibration_ms: Double
}

/// The median time of a call in milliseconds, and its result.
func timed<Value>(_ repeats: Int, _ body: () throws -> Value) rethrows -> (Value, Double) {
  let clock = ContinuousClock()
  var value = try body()
  var times: [Double] = []
  for _ in 0..<repeats {
    let start = clock.now
    value = try body()
    times.append((clock.now - start) / .milliseconds(1))
  }
  return (value, times.sorted()[times.count / 2])
}

let settings = [
  Setting(rate: 0.01, noise: 0.8, steps: 1000, delta: 1e-5),
  Setting(rate: 0.01, noise: 1.5, steps: 10_000, delta: 1e-5),
  Setting(rate: 0.0352, noise: 0.9, steps: 250, delta: 1e-5),
  Setting(rate: 0.00285, noise: 0.6, steps: 250, delta: 1e-5),
  Setting(rate: 0.001, noise: 1, steps: 100_000, delta: 1e-6),
  Setting(rate: 0.1, noise: 2, steps: 500, delta: 1e-6),
]
let repeats = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 9
let accountant = PrivacyAccountant(relation: .addOrRemoveOne)
let lines = try settings.map { setting in
  let sampling = ExampleSampling.poisson(rate: setting.rate)
  let (spent, time) = try timed(repeats) {
    let phase = try PrivatePhase(sampling: sampling, noiseMultiplier: setting.noise, steps: setting.steps)
    return try accountant.epsilon(of: [phase], delta: setting.delta)
  }
  let (noise, calibration) = try timed(repeats) {
    try Calibration.noiseMultiplier(
      epsilon: 3,
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
    epsilon: spent.epsilon,
    method: spent.method.rawValue,
    epsilon_ms: time,
    calibrated_noise_multiplier: noise,
    calibration_ms: calibration
  )
}
let encoder = JSONEncoder()
encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
print(String(decoding: try encoder.encode(lines), as: UTF8.self))
