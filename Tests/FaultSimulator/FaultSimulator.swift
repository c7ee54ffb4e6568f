import ArgumentParser
import FedLoRAFaultSimulation
import Foundation

@main
struct FaultSimulator: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fault-simulation",
    abstract: "Plays runs on simulated machines with faults drawn from a seed, and checks what fedlora promises.",
    discussion: """
      One seed is one run: sizes, delays, crashes, power failures, full disks, cut connections. The same seed plays the
      same run again. Without --seed, seeds are played one after the other from --first until --count or --seconds.

        fault-simulation --count 100000            look for broken promises
        fault-simulation --seed 4711 --trace       play one again, and show everything that happened
        fault-simulation --plant forgets-sealed    how soon a fault that is built in on purpose is found
      """
  )

  @Option(help: "Play this seed only.") var seed: UInt64?
  @Option(help: "The first seed.") var first: UInt64 = 1
  @Option(help: "How many seeds.") var count: Int = 1000
  @Option(help: "Stop after this many seconds.") var seconds: Double = .infinity
  @Flag(help: "Play asynchronous runs.") var asynchronous = false
  @Flag(help: "Show what happened (with --seed).") var trace = false
  @Option(help: "Build in a fault: \(PlantedFault.allCases.map(\.rawValue).joined(separator: ", ")).")
  var plant: PlantedFault?

  private var scope: FaultSettings.Scope { asynchronous ? .buffered : .everything }

  func run() throws {
    if let seed {
      let world = try FaultWorld(seed: seed, scope: scope, planting: plant, traces: trace)
      let result = world.play()
      for line in world.trace { print(line) }
      print("seed \(seed): \(result.events) events in \(result.virtualTime), fingerprint \(result.fingerprint)")
      for violation in result.violations { print("BROKEN: \(violation)") }
      if !result.violations.isEmpty { throw ExitCode.failure }
      return
    }
    let start = ContinuousClock.now
    var (played, completed, events) = (0, 0, 0)
    for seed in first..<(first + UInt64(max(0, count))) {
      if Double((ContinuousClock.now - start).components.seconds) >= seconds { break }
      let result = try FaultWorld(seed: seed, scope: scope, planting: plant).play()
      played += 1
      completed += result.isCompleted ? 1 : 0
      events += result.events
      if !result.violations.isEmpty {
        for violation in result.violations { print("seed \(seed): BROKEN: \(violation)") }
        let flags = asynchronous ? " --asynchronous" : ""
        print("again: fault-simulation --seed \(seed) --trace\(flags)\(plant.map { " --plant \($0.rawValue)" } ?? "")")
        throw ExitCode.failure
      }
    }
    print(
      "\(played) runs, \(completed) of them completed, \(events) events in \(ContinuousClock.now - start): no promise broken"
    )
  }
}

extension PlantedFault: ExpressibleByArgument {}
