import FedLoRACheckpoint
import FedLoRAClient
import FedLoRADP
import FedLoRAEngine
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("Many clients on few cores", .timeLimit(.minutes(2)))
struct EngineSlotsTests {
  /// A run without privacy, or with seeded noise, that takes milliseconds.
  private func run(isPrivate: Bool) throws -> PrivateRun {
    try PrivateRun(hidden: 32, layers: 2, localSteps: 3, isSeeded: true).changed {
      $0.adapter.dropout = 0.1
      if !isPrivate { $0.clearPrivacy() }
    }
  }

  /// What every one of `clients` uploads and keeps, as bytes, when all are given round 1 at the same time.
  private func round(_ run: PrivateRun, clients: Int, on slots: EngineSlots) async throws -> [Int: LocalUpdate] {
    try await withThrowingTaskGroup(of: (Int, LocalUpdate).self) { group in
      for client in 0..<clients {
        let trainer = trainer(run, client, on: slots)
        group.addTask { (client, try await trainer.train(run.assignment("client-\(client)", round: 1))) }
      }
      return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
    }
  }

  /// Each with ledgers of its own, for each call anew.
  private func trainer(_ run: PrivateRun, _ client: Int, examples: [EncodedExample]? = nil, on slots: EngineSlots)
    -> EngineTrainer
  {
    EngineTrainer(
      slots: slots,
      data: LocalData(
        ClientRecords(
          examples: examples ?? PrivateRun.examples(8 + 5 * client, seed: client),
          labels: PrivateRun.labels,
          maxLength: TinyModel.positions,
          fingerprint: "0123456789abcdef0123456789abcdef"
        )
      ),
      privacy: ClientPrivacy(policy: .tests, ledgerFolder: run.ledgers("\(client)-\(UUID().uuidString)"))
    )
  }

  @Test(
    "train the same bytes again and again, with one core or several, alone or among others",
    arguments: [false, true],
    [1, 2, 3]
  )
  func sameBytes(isPrivate: Bool, parts: Int) async throws {
    let run = try run(isPrivate: isPrivate)
    var expected: [Int: LocalUpdate] = [:]
    let alone = EngineSlots(base: run.base, count: 1, threadsPerSlot: parts, cores: 1, log: nil)
    for client in 0..<7 {
      expected[client] = try await trainer(run, client, on: alone).train(run.assignment("client-\(client)", round: 1))
    }
    let log = ComputeLog()
    func compare(_ count: Int, cores: Int) async throws {
      let slots = EngineSlots(base: run.base, count: count, threadsPerSlot: parts, cores: cores, log: log)
      let found = try await round(run, clients: 7, on: slots)
      for client in 0..<7 {
        let (own, other) = (try #require(expected[client]), try #require(found[client]))
        let isSame = bits(own.upload) == bits(other.upload) && bits(own.personal) == bits(other.personal)
        #expect(isSame, "client \(client), \(count) at a time on \(cores) cores")
        #expect(own.metrics == other.metrics)
      }
    }
    for (count, cores) in [(1, 3), (2, 2), (2, 3), (3, 5), (2, 2), (2, 4)] { try await compare(count, cores: cores) }
    var hasHelped = log.takeSpans().contains { $0.kind == .help }
    // Without help nothing was shown, and on a machine with much else to do it may come late.
    for _ in 0..<100 where parts > 1 && !hasHelped {
      try await compare(1, cores: 3)
      hasHelped = log.takeSpans().contains { $0.kind == .help }
    }
    #expect(hasHelped == (parts > 1))
  }

  @Test("are not held up by one that fails or is cancelled")
  func faults() async throws {
    let run = try run(isPrivate: false)
    let slots = EngineSlots(base: run.base, count: 2, threadsPerSlot: 1, cores: 2, log: nil)
    let results = await withTaskGroup(of: (Int, Bool).self) { group in
      for client in 0..<24 {
        // A third has no examples; of the others every second is cancelled, perhaps before it is its turn.
        let trainer = trainer(run, client, examples: client % 3 == 0 ? [] : nil, on: slots)
        group.addTask {
          let task = Task { try await trainer.train(run.assignment("client-\(client)", round: 1)) }
          if client % 3 == 1 { task.cancel() }
          return (client, (try? await task.value) != nil)
        }
      }
      return await group.reduce(into: [Int: Bool]()) { $0[$1.0] = $1.1 }
    }
    #expect(results.filter { $0.value }.keys.sorted() == (0..<24).filter { $0 % 3 == 2 })
    // All places are free again: more than there are can train.
    #expect(try await round(run, clients: 9, on: slots).count == 9)
  }

  @Test("pay for their steps only when it is nearly their turn")
  func charges() async throws {
    let run = try run(isPrivate: true)
    let slots = EngineSlots(base: run.base, count: 1, threadsPerSlot: 1, cores: 1, log: nil)
    let gate = DispatchSemaphore(value: 0)
    let terms = try RunTerms(run.manifest)
    // The only place is taken.
    let blocker = Task {
      try await slots.withRunner(adapter: terms.adapter, head: terms.head, work: .infinity) { _ in gate.wait() }
    }
    let ledgers = (0..<12).map { run.ledgers("\($0)-\(UUID().uuidString)") }
    let clients = (0..<12).map { client in
      let trainer = EngineTrainer(
        slots: slots,
        data: LocalData(PrivateRun.records()),
        privacy: ClientPrivacy(policy: .tests, ledgerFolder: ledgers[client])
      )
      return Task { try await trainer.train(run.assignment("client-\(client)", round: 1)) }
    }
    /// Nil while its file is being written.
    func hasPaid(_ client: Int) -> Bool? {
      let file = ClientPrivacy(ledgerFolder: ledgers[client])
        .ledgerURL(fingerprint: PrivateRun.records().fingerprint)
      guard FileManager.default.fileExists(atPath: file.path) else { return false }
      return try? LedgerContents(readingFrom: file).rounds(ofRun: "private").participations > 0
    }
    // Those who are to train next pay; who waits behind them does not, and is let go unpaid.
    var paid: [Int] = []
    while slots.clientsInLine < 8 || paid.count < 4 {
      try await Task.sleep(for: .milliseconds(5))
      paid = clients.indices.filter { hasPaid($0) == true }
    }
    #expect(slots.clientsInLine == 8 && paid.count == 4)
    // Who waits is called off first: otherwise the next would move up, and pay, when one of the four goes.
    for client in clients.indices where !paid.contains(client) { clients[client].cancel() }
    while slots.clientsInLine > 0 { await Task.yield() }
    for client in paid { clients[client].cancel() }
    gate.signal()
    try await blocker.value
    for client in clients { _ = try? await client.value }
    #expect(clients.indices.filter { hasPaid($0) != false } == paid)
  }

  private func bits(_ tensors: TensorSet) -> [String: [UInt32]] {
    Dictionary(uniqueKeysWithValues: tensors.entries.map { ($0.name, $0.tensor.values.map(\.bitPattern)) })
  }
}

@Suite("Admission", .timeLimit(.minutes(1)))
struct AdmissionTests {
  @Test("lets in those with the most work first, and forgets those that are cancelled")
  func order() async throws {
    let admission = Admission(places: 1)
    try await admission.enter(work: 0)
    let order = EventLog<Double>()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for work in [2.0, 8, 4] {
        group.addTask {
          try await admission.enter(work: work)
          order.record(work)
          admission.leave()
        }
      }
      let doomed = Task { try await admission.enter(work: 9) }
      while admission.waitingTasks < 4 { await Task.yield() }
      doomed.cancel()
      await #expect(throws: CancellationError.self) { try await doomed.value }
      #expect(admission.waitingTasks == 3)
      admission.leave()
      try await group.waitForAll()
    }
    #expect(order.events == [8, 4, 2])
    // The place is free, and it is the only one.
    try await admission.enter(work: 0)
    let second = Task { try await admission.enter(work: 0) }
    for _ in 0..<1000 where admission.waitingTasks == 0 { try await Task.sleep(for: .milliseconds(2)) }
    #expect(admission.waitingTasks == 1)
    admission.leave()
    try await second.value
    let late = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await admission.enter(work: 0)
    }
    await #expect(throws: CancellationError.self) { try await late.value }
    #expect(admission.waitingTasks == 0)
  }
}
