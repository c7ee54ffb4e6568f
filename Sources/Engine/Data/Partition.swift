/// How a data set is spread over clients.
public enum PartitionScheme: Equatable, Sendable {
  /// Shuffled and dealt evenly, labels not regarded.
  case iid
  /// For each label, shares of its examples drawn from a symmetric Dirichlet distribution over the clients (Hsu et al. 2019
  /// in the form of Li et al. 2022, "Federated learning on non-IID data silos"). Small alpha: each client has few labels.
  case dirichlet(alpha: Double)
  /// Each client has this many labels ("pathological", McMahan et al. 2017); the examples of a label are dealt evenly to the
  /// clients that have it.
  case labels(perClient: Int)
  /// By the client that the data name. Clients with too few examples are put together as one, `others`, who may still have
  /// few.
  case natural
}

/// A partition that cannot be made.
public enum PartitionError: Error, Equatable, CustomStringConvertible {
  /// An option is out of range.
  case invalid(option: String, found: String, expected: String)
  /// The data do not name their clients.
  case noClients(example: Int)
  /// An example of a client that the plan does not have.
  case unknownClient(String)

  /// The error in words.
  public var description: String {
    switch self {
    case .invalid(let option, let found, let expected): "partition: \(option) is \(found), expected \(expected)"
    case .noClients(let example):
      "partition by natural client: example \(example) names none; give the client column, or use another scheme"
    case .unknownClient(let name):
      "partition by natural client: \"\(name)\" is not among the clients that the plan was drawn for"
    }
  }
}

/// What one client holds.
public struct ClientShare: Equatable, Sendable {
  /// The client's name.
  public let name: String
  /// Its examples, as ascending indices into the data set.
  public let indices: [Int]
  /// Number of its examples of each label.
  public let labelCounts: [Int]
}

/// Which share of each label goes to which client. Drawn once from a training set, then applied to it and to the test set
/// of the same task, so that every client is tested on the mix of labels that it trains on.
///
/// Everything follows from the arguments: no clock, no global generator, no hash order.
public struct PartitionPlan: Equatable, Sendable {
  private enum Rule: Equatable {
    case even
    /// `shares[label][client]`; each row adds up to 1.
    case shares([[Double]])
    case natural
  }

  /// The client that takes the examples of natural clients with too few.
  public static let pooledClient = "others"
  /// How often a Dirichlet plan is drawn anew before it is evened out.
  static let maximumDraws = 100

  /// Names of the clients.
  public let clients: [String]
  /// Seed of the order in which examples are dealt.
  public let seed: UInt64
  private let rule: Rule

  /// Draws a plan.
  /// - Parameters:
  ///   - clients: number of clients; not regarded for `natural`.
  ///   - train: the training set, whose labels and sizes the plan regards.
  ///   - minimumExamples: least number of training examples of a client. A Dirichlet plan that gives a client fewer is
  ///     drawn anew, up to 100 times; then the last one is mixed with even shares, a twentieth more at a time, until it holds.
  ///     Natural clients with fewer are pooled. The other schemes are refused if they give fewer.
  /// - Throws: `PartitionError`.
  public static func draw(
    _ scheme: PartitionScheme,
    clients: Int,
    train: Dataset,
    seed: UInt64,
    minimumExamples: Int = 1
  ) throws(PartitionError) -> PartitionPlan {
    if scheme == .natural { return try natural(train, seed: seed, minimumExamples: minimumExamples) }
    guard scheme == .iid || !train.labels.isEmpty else {
      throw .invalid(option: "scheme", found: "by label, of data without labels", expected: "iid or natural")
    }
    guard clients > 0 else { throw .invalid(option: "clients", found: "\(clients)", expected: "at least 1") }
    guard clients * max(1, minimumExamples) <= train.examples.count else {
      throw .invalid(
        option: "clients",
        found: "\(clients) of at least \(minimumExamples) examples",
        expected: "no more than the \(train.examples.count) examples allow"
      )
    }
    let width = String(clients).count
    let names = (1...clients).map { number in
      let digits = String(number)
      return "client-" + String(repeating: "0", count: width - digits.count) + digits
    }
    func plan(_ rule: Rule) -> PartitionPlan { PartitionPlan(clients: names, seed: seed, rule: rule) }
    func suffices(_ plan: PartitionPlan) throws(PartitionError) -> Bool {
      try plan.applied(to: train).allSatisfy { $0.indices.count >= minimumExamples }
    }
    switch scheme {
    case .natural, .iid: return plan(.even)
    case .labels(let perClient):
      let shares = try labelShares(perClient, clients: clients, labels: train.labels.count, seed: seed)
      let result = plan(.shares(shares))
      guard try suffices(result) else {
        throw .invalid(
          option: "minimum examples",
          found: "\(minimumExamples)",
          expected: "what \(perClient) labels a client give"
        )
      }
      return result
    case .dirichlet(let alpha):
      guard alpha > 0, alpha.isFinite else {
        throw .invalid(option: "alpha", found: "\(alpha)", expected: "a positive number")
      }
      var shares: [[Double]] = []
      for attempt in 0..<maximumDraws {
        var generator = SeededGenerator(seed: seed, "partition", "dirichlet", .number(UInt64(attempt)))
        shares = train.labels.map { _ in generator.dirichlet(alpha: alpha, count: clients) }
        let result = plan(.shares(shares))
        if try suffices(result) { return result }
      }
      for evenness in 1...20 {
        let part = Double(evenness) / 20
        let mixed = shares.map { $0.map { (1 - part) * $0 + part / Double(clients) } }
        let result = plan(.shares(mixed))
        if try suffices(result) { return result }
      }
      // Even shares label by label may still leave somebody one short through rounding; dealing evenly cannot.
      return plan(.even)
    }
  }

  private init(clients: [String], seed: UInt64, rule: Rule) {
    self.clients = clients
    self.seed = seed
    self.rule = rule
  }

  private static func natural(_ train: Dataset, seed: UInt64, minimumExamples: Int) throws(PartitionError)
    -> PartitionPlan
  {
    var counts: [String: Int] = [:]
    for (index, example) in train.examples.enumerated() {
      guard let client = example.client else { throw .noClients(example: index) }
      counts[client, default: 0] += 1
    }
    var names = counts.filter { $0.value >= minimumExamples }.keys.sorted {
      $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars)
    }
    if names.count < counts.count, !names.contains(pooledClient) { names.append(pooledClient) }
    return PartitionPlan(clients: names, seed: seed, rule: .natural)
  }

  /// Labels are dealt like cards, a shuffled pack of all labels after the other, so that every label is held by as many
  /// clients as any other, give or take one; a client that would get a label twice swaps with the next in the pack.
  private static func labelShares(
    _ perClient: Int,
    clients: Int,
    labels: Int,
    seed: UInt64
  ) throws(PartitionError) -> [[Double]] {
    guard (1...labels).contains(perClient) else {
      throw .invalid(option: "labels a client", found: "\(perClient)", expected: "1 to \(labels)")
    }
    guard perClient * clients >= labels else {
      throw .invalid(
        option: "labels a client",
        found: "\(perClient) for \(clients) clients",
        expected: "enough that each of the \(labels) labels has a client"
      )
    }
    var generator = SeededGenerator(seed: seed, "partition", "labels")
    var held = [[Int]](repeating: [], count: clients)
    var pack: [Int] = []
    for client in 0..<clients {
      while held[client].count < perClient {
        if !pack.contains(where: { !held[client].contains($0) }) { pack += generator.permutation(labels) }
        guard let place = pack.firstIndex(where: { !held[client].contains($0) }) else { break }
        held[client].append(pack.remove(at: place))
      }
    }
    var holders = [Int](repeating: 0, count: labels)
    for label in held.joined() { holders[label] += 1 }
    return (0..<labels).map { label in
      held.map { $0.contains(label) ? 1 / Double(holders[label]) : 0 }
    }
  }

  // MARK: Applying

  /// Deals a data set by the plan: every example to exactly one client.
  /// - Parameter role: names the data set ("train", "test"), so that two sets are dealt in unrelated orders.
  /// - Returns: one share a client, in the order of `clients`; a share may be empty where the set is small.
  /// - Throws: `PartitionError` where a natural client is not in the plan.
  public func applied(to dataset: Dataset, role: String = "train") throws(PartitionError) -> [ClientShare] {
    var held = [[Int]](repeating: [], count: clients.count)
    var generator = SeededGenerator(seed: seed, "partition", "deal", .name(role))
    switch rule {
    case .even:
      for (place, index) in generator.permutation(dataset.examples.count).enumerated() {
        held[place % clients.count].append(index)
      }
    case .shares(let shares):
      var byLabel = [[Int]](repeating: [], count: shares.count)
      for (index, example) in dataset.examples.enumerated() {
        guard byLabel.indices.contains(example.label) else {
          throw .invalid(
            option: "label",
            found: "\(example.label)",
            expected: "one of the \(shares.count) that the plan was drawn for"
          )
        }
        byLabel[example.label].append(index)
      }
      for label in shares.indices {
        generator.shuffle(&byLabel[label])
        var start = 0
        let order = generator.permutation(clients.count)
        for (client, count) in Self.quotas(byLabel[label].count, shares[label], order).enumerated() {
          held[client] += byLabel[label][start..<start + count]
          start += count
        }
      }
    case .natural:
      var places: [String: Int] = [:]
      for (place, name) in clients.enumerated() { places[name] = place }
      for (index, example) in dataset.examples.enumerated() {
        guard let client = example.client else { throw .noClients(example: index) }
        guard let place = places[client] ?? places[Self.pooledClient] else { throw .unknownClient(client) }
        held[place].append(index)
      }
    }
    return zip(clients, held).map { name, indices in
      let sorted = indices.sorted()
      return ClientShare(name: name, indices: sorted, labelCounts: dataset.subset(sorted).labelCounts)
    }
  }

  /// Whole numbers that add up to `count` and follow `shares`: rounded down, the rest dealt to the greatest remainders, ties
  /// in the given order.
  static func quotas(_ count: Int, _ shares: [Double], _ order: [Int]) -> [Int] {
    let exact = shares.map { $0 * Double(count) }
    var quotas = exact.map { Int($0.rounded(.down)) }
    var rest = count - quotas.reduce(0, +)
    // Rounding of the shares themselves can only err by less than one: both directions are handled all the same.
    let byRemainder = order.enumerated().sorted { left, right in
      let (a, b) = (
        exact[left.element] - Double(quotas[left.element]), exact[right.element] - Double(quotas[right.element])
      )
      return a == b ? left.offset < right.offset : a > b
    }.map(\.element)
    while rest > 0 {
      for client in byRemainder where rest > 0 && shares[client] > 0 {
        quotas[client] += 1
        rest -= 1
      }
    }
    while rest < 0 {
      for client in byRemainder.reversed() where rest < 0 && quotas[client] > 0 {
        quotas[client] -= 1
        rest += 1
      }
    }
    return quotas
  }
}
