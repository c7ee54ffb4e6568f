import FedLoRAFaultSimulation
import Testing

@Suite("Runs on simulated machines")
struct FaultSimulationTests {
  private static func replay(_ seed: UInt64, _ flags: String = "") -> Comment {
    "again, with everything that happened: swift run -c release fault-simulation --seed \(seed) --trace\(flags)"
  }

  @Test("2000 runs with crashes, power failures, full disks and a bad network keep every promise", arguments: 0..<10)
  func promises(block: UInt64) throws {
    var completed = 0
    for seed in block * 200 + 1...block * 200 + 200 {
      let result = try FaultWorld(seed: seed).play()
      #expect(result.violations == [], FaultSimulationTests.replay(seed))
      completed += result.isCompleted ? 1 : 0
    }
    // The others used up their attempts, or a budget.
    #expect(completed > 150, "only \(completed) of 200 completed")
  }

  @Test("500 asynchronous runs keep every promise, and count updates of every age by the formula", arguments: 0..<5)
  func asynchronous(block: UInt64) throws {
    var completed = 0
    for seed in block * 100 + 1...block * 100 + 100 {
      let result = try FaultWorld(seed: seed, scope: .buffered).play()
      #expect(result.violations == [], FaultSimulationTests.replay(seed, " --asynchronous"))
      completed += result.isCompleted ? 1 : 0
    }
    #expect(completed > 80, "only \(completed) of 100 completed")
  }

  @Test("a coordinator that is killed, loses power or is stopped ends with the bytes of an uninterrupted run")
  func sameBytes() throws {
    var starts = 0
    for seed in 1...200 as ClosedRange<UInt64> {
      let calm = try FaultWorld(seed: seed, scope: .nothing).play()
      let result = try FaultWorld(seed: seed, scope: .coordinator).play()
      #expect(calm.violations == [] && calm.isCompleted && calm.starts == 1, "seed \(seed)")
      #expect(result.violations == [] && result.isCompleted, "seed \(seed)")
      #expect(result.finalState == calm.finalState, "seed \(seed)")
      starts += result.starts
    }
    #expect(starts > 600, "only \(starts) starts")
  }

  @Test("each fault that is planted is found", arguments: PlantedFault.allCases)
  func planted(_ fault: PlantedFault) throws {
    var found: [UInt64] = []
    for seed in 1...40 as ClosedRange<UInt64> where found.count < 4 {
      if try !FaultWorld(seed: seed, scope: fault.scope, planting: fault).play().violations.isEmpty {
        found.append(seed)
      }
    }
    #expect(found.count == 4, "found with seeds \(found)")
  }

  @Test("the same seed plays the same run again")
  func determinism() throws {
    for seed in 1...40 as ClosedRange<UInt64> {
      let results = try (0..<2).map { _ in try FaultWorld(seed: seed).play() }
      #expect(results[0].fingerprint == results[1].fingerprint, "seed \(seed)")
      #expect(results[0].events == results[1].events && results[0].finalState == results[1].finalState, "seed \(seed)")
    }
  }
}
