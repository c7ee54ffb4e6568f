import FedLoRAConfiguration
import FedLoRATestSupport
import Foundation
import Testing

@Suite("Asynchronous rounds in a run file")
struct AsynchronousSectionTests {
  private func load(_ assignments: [String]) throws -> RunConfiguration {
    let scratch = try ScratchFolder()
    let file = scratch.appending("run.yaml")
    try Data("labels: [a, b]\ncohort: { min_clients: 4, clients_per_round: 2, quorum: 1 }\n".utf8).write(to: file)
    return try RunConfiguration.load(file, assignments: assignments).0
  }

  @Test("are off where nothing is said, and take the usual staleness where a buffer is set")
  func defaults() throws {
    #expect(try load([]).cohort.bufferSize == 0)
    let cohort = try load(["strategy.name=ffa-lora", "cohort.buffer_size=3"]).cohort
    #expect(cohort.bufferSize == 3 && cohort.stalenessExponent == 0.5 && cohort.maxStaleness == 10)
    // A buffer may be larger than what is at work at the same time, and so may the quorum.
    #expect(try load(["strategy.name=fedit", "cohort.buffer_size=3", "cohort.quorum=3"]).cohort.quorum == 3)
  }

  @Test(
    "are refused by the key where they make no sense",
    arguments: [
      (["cohort.buffer_size=-1"], "cohort.buffer_size"),
      (["cohort.buffer_size=2", "strategy.name=fedsvd"], "cohort.buffer_size"),
      (["cohort.buffer_size=2", "cohort.quorum=3"], "cohort.quorum"),
      (["cohort.buffer_size=2", "cohort.over_selected=1"], "cohort.over_selected"),
      (["cohort.buffer_size=2", "cohort.staleness_exponent=-0.5"], "cohort.staleness_exponent"),
      (["cohort.buffer_size=2", "cohort.max_staleness=-1"], "cohort.max_staleness"),
      (["cohort.staleness_exponent=1"], "cohort.staleness_exponent"),
      (["cohort.max_staleness=3"], "cohort.max_staleness"),
      (
        [
          "cohort.buffer_size=3", "cohort.quorum=3", "aggregation.rule=median", "aggregation.byzantine=1",
          "strategy.weighting=uniform",
        ], "cohort.buffer_size"
      ),
    ]
  )
  func refusals(assignments: [String], key: String) throws {
    let strategy = assignments.contains { $0.hasPrefix("strategy.name") } ? [] : ["strategy.name=fedsa-lora"]
    #expect {
      try load(strategy + assignments)
    } throws: { error in
      (error as? ConfigurationError)?.key == key
    }
  }
}
