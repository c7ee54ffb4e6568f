import FedLoRADP
setvbuf(stdout, nil, _IOLBF, 0)
@preconcurrency import Foundation
@preconcurrency import Glibc

let acc = PrivacyAccountant(relation: .addOrRemoveOne)
let mode = CommandLine.arguments[1]
func clock<T>(_ f: () throws -> T) rethrows -> (T, Double) {
  let s = ContinuousClock.now; let r = try f(); let t = ContinuousClock.now - s
  return (r, Double(t.components.attoseconds) * 1e-15 + Double(t.components.seconds) * 1e3)
}
func rows(_ f: String) throws -> [[String]] { try String(contentsOfFile: "/work/shared/reference/dp/" + f, encoding: .utf8).split(whereSeparator: \.isNewline).dropFirst().map { $0.split(separator: ",").map(String.init) } }
if mode == "exact" {
  for f in try rows("dp_exact_public.csv") {
    let q = Double(f[0])!, s = Double(f[1])!, t = Int(f[2])!, d = Double(f[3])!, e = Double(f[4])!
    let phase = try PrivatePhase(sampling: .poisson(rate: q), noiseMultiplier: s, steps: t)
    let (r, ms) = try clock { try acc.epsilon(of: [phase], delta: d) }
    print(q, s, t, d, e, r.epsilon, String(format: "rel %.2e", r.epsilon / e - 1), r.method.rawValue, ms)
  }
}
if mode == "rdp" {
  for f in try rows("dp_vectors_public.csv") {
    let q = Double(f[0])!, s = Double(f[1])!, t = Int(f[2])!, d = Double(f[3])!, e = Double(f[4])!
    let phase = try PrivatePhase(sampling: .poisson(rate: q), noiseMultiplier: s, steps: t)
    let (r, ms) = try clock { try acc.rdpEpsilon(of: [phase], delta: d) }
    print(q, s, t, d, e, r, String(format: "rel %.2e", r / e - 1), ms)
  }
}
if mode == "cal" {
  for f in try rows("dp_calibration_public.csv") {
    let q = Double(f[0])!, t = Int(f[1])!, d = Double(f[2])!, e = Double(f[3])!, x = Double(f[6])!
    let (r, ms) = try clock { try Calibration.noiseMultiplier(epsilon: e, delta: d, sampling: .poisson(rate: q), steps: t, relation: .addOrRemoveOne) }
    let (n, ms2) = try clock { try Calibration.steps(epsilon: e, delta: d, sampling: .poisson(rate: q), noiseMultiplier: r, relation: .addOrRemoveOne) }
    let at = try acc.epsilon(of: [PrivatePhase(sampling: .poisson(rate: q), noiseMultiplier: r, steps: t)], delta: d).epsilon
    let below = try acc.epsilon(of: [PrivatePhase(sampling: .poisson(rate: q), noiseMultiplier: r * (1 - 1e-6), steps: t)], delta: d).epsilon
    print(q, t, d, e, x, r, String(format: "rel %.2e", r / x - 1), at <= e, below > e, ms, n, ms2)
  }
}
if mode == "hetero" {
  for f in try rows("dp_hetero_public.csv") {
    let phases = try f[0].split(separator: "|").map { p in let g = p.split(separator: ":"); return try PrivatePhase(sampling: .poisson(rate: Double(g[0])!), noiseMultiplier: Double(g[1])!, steps: Int(g[2])!) }
    let (r, ms) = try clock { try acc.epsilon(of: phases, delta: Double(f[1])!) }
    let (p, _) = try clock { try acc.rdpEpsilon(of: phases, delta: Double(f[1])!) }
    print(f[0], f[5], r.epsilon, String(format: "rel %.2e rdp %.2e", r.epsilon / Double(f[5])! - 1, p / Double(f[2])! - 1), r.method.rawValue, ms)
  }
}
if mode == "grid" {
  for q in [1e-7, 1e-5, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.999, 1] { for s in [0.05, 0.2, 0.3, 0.5, 1, 3, 50] { for t in [1, 2, 10, 100, 10_000, 10_000_000] { for d in [1e-3, 1e-5, 1e-10, 1e-15] {
    let phase = try PrivatePhase(sampling: .poisson(rate: q), noiseMultiplier: s, steps: t)
    let (r, ms) = try clock { try acc.epsilon(of: [phase], delta: d) }
    print(q, s, t, d, r.epsilon, r.method.rawValue, try acc.rdpEpsilon(of: [phase], delta: d), ms)
  } } } }
}
if mode == "one" {
  let a = CommandLine.arguments.dropFirst(2).compactMap(Double.init)
  let phase = try PrivatePhase(sampling: .poisson(rate: a[0]), noiseMultiplier: a[1], steps: Int(a[2]))
  let (r, ms) = try clock { try acc.epsilon(of: [phase], delta: a[3]) }
  print(a, r, ms)
}
if mode == "spent" {
  func p(_ q: Double, _ s: Double, _ t: Int) throws -> PrivatePhase { try PrivatePhase(sampling: .poisson(rate: q), noiseMultiplier: s, steps: t) }
  let spent = [try p(0.01, 1, 500), try p(1, 20, 2)]
  for s in [0.7, 0.8, 0.9, 1.0, 1.1, 1.2] { print(s, try clock { try acc.epsilon(of: spent + [p(0.02, s, 700)], delta: 1e-5) }) }
  print(try clock { try Calibration.noiseMultiplier(epsilon: 3, delta: 1e-5, sampling: .poisson(rate: 0.02), steps: 700, relation: .addOrRemoveOne, spent: spent) })
  print(try clock { try Calibration.steps(epsilon: 3, delta: 1e-5, sampling: .poisson(rate: 0.02), noiseMultiplier: 1.06, relation: .addOrRemoveOne, spent: spent) })
  for r in [ExampleSampling.fixedSize(rate: 0.02), .poisson(rate: 0.02)] { print(try clock { try Calibration.noiseMultiplier(epsilon: 4, delta: 1e-6, sampling: r, steps: 100, relation: .replaceOne) }) }
}
