import FedLoRAClient
import FedLoRAConfiguration
import FedLoRAEngine
import Foundation

/// One simulated client's name and examples.
public struct SimulatedClient: Sendable {
  /// Its name on the wire and in its certificate.
  public let name: String
  /// What the data call it; the same as `name` unless the partition is by natural id.
  public let origin: String
  /// Training examples.
  public let train: [EncodedExample]
  /// Held-out examples of the same mix of labels.
  public let test: [EncodedExample]
  /// Training examples of each label.
  public let labelCounts: [Int]
  /// The training examples' places, from 0, in the training set that is dealt: the file, or under `train_limit` the
  /// shuffled part of it.
  public let trainIndices: [Int]
  /// Identifies the client's data set for its ledger.
  public let fingerprint: String
}

/// Everything that a scenario reads: base model, encoded examples, and how they are dealt.
public struct SimulationData: Sendable {
  /// The resident base model.
  public let base: FrozenModel
  /// Class names in index order.
  public let labels: [String]
  /// All training examples.
  public let train: [EncodedExample]
  /// All held-out examples.
  public let test: [EncodedExample]
  /// The clients in order of their names.
  public let clients: [SimulatedClient]

  /// Reads model and data and deals the examples.
  /// - Throws: errors that name file, line, key or tensor.
  public static func load(_ scenario: ScenarioConfiguration) throws -> SimulationData {
    let isEmbedded = scenario.model.path == EmbeddedAssets.word
    let folder = isEmbedded ? try EmbeddedAssets.encoder : URL(fileURLWithPath: scenario.model.path)
    let base = try FrozenModel(folder: folder, precision: scenario.clients.precision)
    let tokenizer = try Tokenizer.load(from: folder)
    let (train, test) = try readSets(scenario)
    let terms = RecordTerms(
      task: scenario.model.task,
      maxLength: min(scenario.model.maxLength, base.spec.maximumPositions),
      promptFormat: try PromptFormat(scenario.model.promptFormat)
    )
    let reader = RecordReader(folder: folder, tokenizer: tokenizer)
    let (encodedTrain, encodedTest) = (try reader.encode(train, terms), try reader.encode(test, terms))
    let clients = try deal(scenario, train: train, test: test, encodedTrain, encodedTest)
    return SimulationData(
      base: base,
      labels: train.labels,
      train: encodedTrain,
      test: encodedTest,
      clients: clients
    )
  }

  private static func readSets(_ scenario: ScenarioConfiguration) throws -> (train: Dataset, test: Dataset) {
    let section = scenario.data
    func optional(_ text: String) -> String? { text.isEmpty ? nil : text }
    let columns = DatasetColumns(
      text: optional(section.text),
      pair: optional(section.textPair),
      label: optional(section.label),
      client: optional(section.client),
      prompt: optional(section.prompt),
      response: optional(section.response)
    )
    let task = scenario.model.task
    let trainURL =
      section.train == EmbeddedAssets.word ? try EmbeddedAssets.train : URL(fileURLWithPath: section.train)
    let testURL = section.test == EmbeddedAssets.word ? try EmbeddedAssets.test : URL(fileURLWithPath: section.test)
    var train = try DatasetReader.read(
      trainURL,
      columns: columns,
      labels: section.labels.isEmpty ? nil : section.labels,
      task: task
    )
    let test = try DatasetReader.read(testURL, columns: columns, labels: train.labels, task: task)
    if section.trainLimit > 0, section.trainLimit < train.examples.count {
      var generator = SeededGenerator(seed: scenario.seed, "train-limit")
      train = train.subset(Array(generator.permutation(train.examples.count).prefix(section.trainLimit)))
    }
    return (train, test)
  }

  private static func deal(
    _ scenario: ScenarioConfiguration,
    train: Dataset,
    test: Dataset,
    _ encodedTrain: [EncodedExample],
    _ encodedTest: [EncodedExample]
  ) throws -> [SimulatedClient] {
    let section = scenario.clients
    let scheme: PartitionScheme =
      switch section.partition {
      case .iid: .iid
      case .dirichlet: .dirichlet(alpha: section.dirichletAlpha)
      case .pathological: .labels(perClient: section.labelsPerClient)
      case .natural: .natural
      }
    let plan = try PartitionPlan.draw(
      scheme,
      clients: section.count,
      train: train,
      seed: SeededGenerator.derive(scenario.seed, "partition"),
      minimumExamples: section.minimumExamples
    )
    let trainShares = try plan.applied(to: train)
    let testShares = try plan.applied(to: test, role: "test")
    let digits = String(trainShares.count).count
    return try zip(trainShares, testShares).enumerated().map { index, shares in
      let (own, held) = shares
      let name = "client-" + String(repeating: "0", count: digits - String(index + 1).count) + String(index + 1)
      guard !own.indices.isEmpty else { throw SimulationError.emptyShare(client: name, role: "training") }
      return SimulatedClient(
        name: name,
        origin: section.partition == .natural ? own.name : name,
        train: own.indices.map { encodedTrain[$0] },
        test: held.indices.map { encodedTest[$0] },
        labelCounts: own.labelCounts,
        trainIndices: own.indices,
        fingerprint: DatasetFingerprint.of(train.subset(own.indices))
      )
    }
  }
}
