import FedLoRAEngine
import Testing

@Suite("A partition deals every example to exactly one client")
struct PartitionTests {
  /// `count` examples with labels of unequal frequency and clients named by the data.
  private func dataset(_ count: Int, labels: Int, seed: UInt64) -> Dataset {
    var generator = SeededGenerator(seed: seed, "data")
    let examples = (0..<count).map { index in
      Example(
        text: "text \(index)",
        label: min(generator.draw(below: labels), generator.draw(below: labels)),
        client: "c\(min(generator.draw(below: 9), generator.draw(below: 9)))"
      )
    }
    return Dataset(examples: examples, labels: (0..<labels).map { "label \($0)" })
  }

  private func check(_ shares: [ClientShare], cover dataset: Dataset, _ note: String) {
    #expect(shares.flatMap(\.indices).sorted() == Array(dataset.examples.indices), "\(note)")
    for share in shares {
      #expect(share.indices == share.indices.sorted(), "\(note)")
      #expect(share.labelCounts == dataset.subset(share.indices).labelCounts, "\(note)")
    }
  }

  static let schemes: [PartitionScheme] = [
    .iid, .dirichlet(alpha: 0.05), .dirichlet(alpha: 0.5), .dirichlet(alpha: 100), .labels(perClient: 1),
    .labels(perClient: 2), .natural,
  ]

  @Test("for every scheme and seed, none twice, none lost, and again the same", arguments: schemes)
  func exactCover(scheme: PartitionScheme) throws {
    for seed in UInt64(0)..<25 {
      let (train, test) = (dataset(400, labels: 5, seed: seed), dataset(103, labels: 5, seed: seed + 1000))
      let plan = try PartitionPlan.draw(scheme, clients: 7, train: train, seed: seed, minimumExamples: 3)
      let shares = try plan.applied(to: train)
      check(shares, cover: train, "seed \(seed)")
      check(try plan.applied(to: test, role: "test"), cover: test, "seed \(seed)")
      #expect(shares.allSatisfy { $0.indices.count >= 3 || $0.name == PartitionPlan.pooledClient }, "seed \(seed)")
      let again = try PartitionPlan.draw(scheme, clients: 7, train: train, seed: seed, minimumExamples: 3)
      #expect(try again == plan && again.applied(to: train) == shares, "seed \(seed)")
    }
  }

  @Test("even dealing differs by one at most")
  func evenSizes() throws {
    let train = dataset(101, labels: 3, seed: 1)
    let shares = try PartitionPlan.draw(.iid, clients: 10, train: train, seed: 4).applied(to: train)
    #expect(Set(shares.map(\.indices.count)) == [10, 11])
    #expect(shares.map(\.name).first == "client-01" && shares.map(\.name).last == "client-10")
  }

  @Test("pathological clients have exactly their number of labels, and every label has a client", arguments: 1...4)
  func labelCounts(perClient: Int) throws {
    for seed in UInt64(0)..<20 {
      let train = dataset(600, labels: 4, seed: seed)
      let plan = try PartitionPlan.draw(.labels(perClient: perClient), clients: 6, train: train, seed: seed)
      for share in try plan.applied(to: train) {
        #expect(share.labelCounts.filter { $0 > 0 }.count == perClient, "seed \(seed)")
      }
    }
  }

  @Test("a client's test examples follow the label mix of its training examples", arguments: [0.1, 1.0, 10.0])
  func testFollowsTrain(alpha: Double) throws {
    for seed in UInt64(0)..<10 {
      let (train, test) = (dataset(6000, labels: 4, seed: seed), dataset(3000, labels: 4, seed: seed + 50))
      let plan = try PartitionPlan.draw(.dirichlet(alpha: alpha), clients: 5, train: train, seed: seed)
      for (own, tested) in zip(try plan.applied(to: train), try plan.applied(to: test, role: "test")) {
        for label in 0..<4 {
          let share = Double(own.labelCounts[label]) / Double(train.labelCounts[label])
          let expected = share * Double(test.labelCounts[label])
          #expect(abs(Double(tested.labelCounts[label]) - expected) <= 2, "seed \(seed), client \(own.name)")
        }
      }
    }
  }

  @Test("small alpha gives few labels to a client, great alpha even shares")
  func skew() throws {
    let train = dataset(4000, labels: 4, seed: 3)
    func spread(_ alpha: Double) throws -> Double {
      let shares = try PartitionPlan.draw(.dirichlet(alpha: alpha), clients: 8, train: train, seed: 5).applied(
        to: train
      )
      let greatest = shares.map { Double($0.labelCounts.max() ?? 0) / Double(max(1, $0.indices.count)) }
      return greatest.reduce(0, +) / 8
    }
    #expect(try spread(0.05) > 0.75)
    #expect(try spread(1000) < 0.5)
  }

  @Test("a minimum that no draw reaches is reached by evening out")
  func minimum() throws {
    let train = dataset(200, labels: 3, seed: 9)
    let plan = try PartitionPlan.draw(.dirichlet(alpha: 0.01), clients: 20, train: train, seed: 2, minimumExamples: 9)
    #expect(try plan.applied(to: train).allSatisfy { $0.indices.count >= 9 })
  }

  @Test("natural clients keep their examples, and small ones are pooled")
  func natural() throws {
    let train = dataset(300, labels: 3, seed: 2)
    let plan = try PartitionPlan.draw(.natural, clients: 0, train: train, seed: 1, minimumExamples: 20)
    #expect(plan.clients.last == PartitionPlan.pooledClient)
    for share in try plan.applied(to: train) where share.name != PartitionPlan.pooledClient {
      #expect(share.indices.allSatisfy { train.examples[$0].client == share.name })
      #expect(share.indices.count >= 20)
    }
    let strict = try PartitionPlan.draw(.natural, clients: 0, train: train, seed: 1)
    let stranger = Dataset(examples: [Example(text: "a", label: 0, client: "new")], labels: train.labels)
    #expect(throws: PartitionError.unknownClient("new")) { try strict.applied(to: stranger) }
    let nobody = Dataset(examples: [Example(text: "a", label: 0)], labels: ["x"])
    #expect(throws: PartitionError.noClients(example: 0)) {
      try PartitionPlan.draw(.natural, clients: 0, train: nobody, seed: 1)
    }
  }

  @Test("options out of range are refused")
  func refusals() {
    let train = dataset(50, labels: 3, seed: 2)
    func draw(_ scheme: PartitionScheme, _ clients: Int, _ minimum: Int = 1) throws {
      _ = try PartitionPlan.draw(scheme, clients: clients, train: train, seed: 1, minimumExamples: minimum)
    }
    #expect(throws: PartitionError.self) { try draw(.iid, 0) }
    #expect(throws: PartitionError.self) { try draw(.iid, 51) }
    #expect(throws: PartitionError.self) { try draw(.iid, 10, 6) }
    #expect(throws: PartitionError.self) { try draw(.dirichlet(alpha: 0), 5) }
    #expect(throws: PartitionError.self) { try draw(.dirichlet(alpha: .nan), 5) }
    #expect(throws: PartitionError.self) { try draw(.labels(perClient: 4), 5) }
    #expect(throws: PartitionError.self) { try draw(.labels(perClient: 1), 2) }
  }
}
