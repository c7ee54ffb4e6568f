import FedLoRACoordinator
import Testing

@Suite("Cohort selection")
struct CohortSelectionTests {
  private let names = (0..<10).map { "client-\($0)" }

  @Test("is a function of seed, round and attempt, not of the candidates' order")
  func deterministic() {
    let first = CohortSelection.select(4, from: names, seed: 7, round: 3, attempt: 1)
    #expect(first == CohortSelection.select(4, from: names.reversed(), seed: 7, round: 3, attempt: 1))
    #expect(first.count == 4 && first == first.sorted() && Set(first).isSubset(of: names))
    let others = [
      CohortSelection.select(4, from: names, seed: 8, round: 3, attempt: 1),
      CohortSelection.select(4, from: names, seed: 7, round: 4, attempt: 1),
      CohortSelection.select(4, from: names, seed: 7, round: 3, attempt: 2),
    ]
    #expect(others.contains { $0 != first })
  }

  @Test("keeps its choice from version to version")
  func golden() {
    let chosen = (1...4).map { CohortSelection.select(3, from: names, seed: 42, round: $0, attempt: 1) }
    #expect(
      chosen == [
        ["client-0", "client-4", "client-8"],
        ["client-4", "client-5", "client-7"],
        ["client-3", "client-4", "client-7"],
        ["client-1", "client-6", "client-9"],
      ]
    )
  }

  @Test("takes all where there are not enough, and none where none is asked for")
  func limits() {
    #expect(CohortSelection.select(20, from: names, seed: 1, round: 1, attempt: 1) == names)
    #expect(CohortSelection.select(0, from: names, seed: 1, round: 1, attempt: 1).isEmpty)
    #expect(CohortSelection.select(-1, from: names, seed: 1, round: 1, attempt: 1).isEmpty)
    #expect(CohortSelection.select(3, from: [], seed: 1, round: 1, attempt: 1).isEmpty)
  }

  @Test("every client, and every pair, is drawn equally often")
  func uniform() {
    var single = [String: Int]()
    var pairs = [String: Int]()
    let rounds = 20_000
    for round in 1...rounds {
      let chosen = CohortSelection.select(3, from: names, seed: 5, round: round, attempt: 1)
      for name in chosen { single[name, default: 0] += 1 }
      for (i, left) in chosen.enumerated() { for right in chosen[(i + 1)...] { pairs[left + right, default: 0] += 1 } }
    }
    // Five standard deviations around 0.3 and 3/45.
    #expect(single.values.allSatisfy { abs(Double($0) - 6000) < 5 * (20_000 * 0.3 * 0.7).squareRoot() })
    let share = 3.0 / 45
    #expect(pairs.count == 45)
    #expect(
      pairs.values.allSatisfy { abs(Double($0) - 20_000 * share) < 5 * (20_000 * share * (1 - share)).squareRoot() }
    )
  }

  @Test("balanced: takes those who were asked least, at random among equals, and as the plain draw where all are equal")
  func balanced() {
    func draw(_ count: Int, _ participations: [String: Int], round: Int = 1) -> [String] {
      CohortSelection.select(
        count,
        from: names,
        seed: 42,
        round: round,
        attempt: 1,
        rule: .balanced,
        participations: participations
      )
    }
    for round in 1...4 {
      let plain = CohortSelection.select(3, from: names, seed: 42, round: round, attempt: 1)
      #expect(draw(3, [:], round: round) == plain)
      #expect(draw(3, Dictionary(uniqueKeysWithValues: names.map { ($0, 5) }), round: round) == plain)
    }
    // Two have been asked once less: they are in for certain, the third place is drawn among the other eight.
    var participations = Dictionary(uniqueKeysWithValues: names.map { ($0, 2) })
    participations["client-3"] = 1
    participations["client-7"] = nil
    var thirds: [String: Int] = [:]
    for round in 1...8000 {
      let chosen = draw(3, participations, round: round)
      #expect(chosen.contains("client-3") && chosen.contains("client-7") && chosen == chosen.sorted())
      for name in chosen where name != "client-3" && name != "client-7" { thirds[name, default: 0] += 1 }
    }
    // Five standard deviations around 1/8.
    #expect(thirds.count == 8)
    #expect(
      thirds.values.allSatisfy { abs(Double($0) - 1000) < 5 * (8000.0 * 0.125 * 0.875).squareRoot() },
      "\(thirds)"
    )
    #expect(draw(10, participations) == names && draw(0, participations).isEmpty)
  }
}
