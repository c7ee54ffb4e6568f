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
  /// The questions that they ask of a language model.
  let questions: [Question]
  /// Training examples of each label.
  public let labelCounts: [Int]
  /// The training examples' places, from 0, in the training set that is dealt: the file, or under `train_limit` the
  /// shuffled part of it.
  public let trainIndices: [Int]
  /// Identifies the client's data set for its ledger.
  public let fingerprint: String

  /// A client with examples of the caller's own making, dealt by no partition.
  package init(name: String, train: [EncodedExample], test: [EncodedExample], labels: Int, fingerprint: String) {
    self.init(
      name: name,
      origin: name,
      train: train,
      test: test,
      questions: [],
      labelCounts: (0..<labels).map { label in train.count { $0.label == label } },
      trainIndices: Array(train.indices),
      fingerprint: fingerprint
    )
  }

  init(
    name: String,
    origin: String,
    train: [EncodedExample],
    test: [EncodedExample],
    questions: [Question],
    labelCounts: [Int],
    trainIndices: [Int],
    fingerprint: String
  ) {
    self.name = name
    self.origin = origin
    self.train = train
    self.test = test
    self.questions = questions
    self.labelCounts = labelCounts
    self.trainIndices = trainIndices
    self.fingerprint = fingerprint
  }
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
  /// The questions that they ask of a language model.
  let questions: [Question]
  /// How they are asked.
  let asking: Asking?
  /// The clients in order of their names.
  public let clients: [SimulatedClient]

  /// Data of the caller's own making, of which no questions are asked.
  package init(
    base: FrozenModel,
    labels: [String],
    train: [EncodedExample],
    test: [EncodedExample],
    clients: [SimulatedClient]
  ) {
    self.init(base: base, labels: labels, train: train, test: test, questions: [], asking: nil, clients: clients)
  }

  init(
    base: FrozenModel,
    labels: [String],
    train: [EncodedExample],
    test: [EncodedExample],
    questions: [Question],
    asking: Asking?,
    clients: [SimulatedClient]
  ) {
    self.base = base
    self.labels = labels
    self.train = train
    self.test = test
    self.questions = questions
    self.asking = asking
    self.clients = clients
  }

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
    let isAsked =
      terms.task == .causalLM
      && (scenario.evaluation.terms.match != nil || test.examples.contains { !$0.choices.isEmpty })
    let questions: [Question?] = isAsked ? try reader.questions(test, terms) : test.examples.map { _ in nil }
    let most = scenario.evaluation.questions
    let clients = try deal(scenario, train: train, test: test, encodedTrain, encodedTest, questions)
    return SimulationData(
      base: base,
      labels: train.labels,
      train: encodedTrain,
      test: encodedTest,
      questions: first(most, of: questions),
      asking: isAsked ? try reader.asking(scenario.evaluation.terms) : nil,
      clients: clients
    )
  }

  /// What a client's own model is asked.
  func held(_ client: SimulatedClient) -> HeldOut {
    HeldOut(examples: client.test, questions: client.questions, asking: asking)
  }

  /// What is asked of the pooled held-out set.
  var heldOut: HeldOut { HeldOut(examples: test, questions: questions, asking: asking) }

  private static func first(_ most: Int, of questions: [Question?]) -> [Question] {
    let asked = questions.compactMap { $0 }
    return most == 0 ? asked : Array(asked.prefix(most))
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
      response: optional(section.response),
      messages: optional(section.messages),
      choices: optional(section.choices)
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
    _ encodedTest: [EncodedExample],
    _ questions: [Question?]
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
        questions: first(scenario.evaluation.questions, of: held.indices.map { questions[$0] }),
        labelCounts: own.labelCounts,
        trainIndices: own.indices,
        fingerprint: DatasetFingerprint.of(train.subset(own.indices))
      )
    }
  }
}
