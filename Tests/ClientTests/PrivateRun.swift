import FedLoRACheckpoint
import FedLoRAClient
import FedLoRADP
import FedLoRAEngine
import FedLoRAFederation
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

/// A run with record-level privacy on a tiny model: manifest, data and trainers.
struct PrivateRun: Sendable {
  let base: FrozenModel
  let strategy: Strategy
  let initialState: TensorSet
  var manifest: WireRunManifest
  private let start: TensorSet
  private let folder: ScratchFolder
  private let model: TinyModel

  static let labels = ["red", "green", "blue"]
  static let recordTerms = RecordTerms(task: .classification, maxLength: TinyModel.positions)

  /// - Parameters:
  ///   - claim: the ε that the manifest states.
  init(
    _ name: StrategyName = .fedsvd,
    hidden: Int = 16,
    layers: Int = 1,
    rank: Int = 2,
    rounds: Int = 4,
    localSteps: Int = 2,
    rate: Double = 0.25,
    noise: Double = 1.5,
    clippingNorm: Double = 0.5,
    divisor: Double = 8,
    participations: Int? = nil,
    claim: Double = 8,
    isSeeded: Bool = false
  ) throws {
    model = try TinyModel(hidden: hidden, layers: layers)
    base = model.base
    folder = try ScratchFolder()
    strategy = try Strategy(name: name, head: .shared)
    var manifest = WireRunManifest()
    manifest.runID = "private"
    manifest.seed = 3
    manifest.rounds = UInt32(rounds)
    manifest.strategy.name = name.rawValue
    manifest.strategy.head = HeadRole.shared.rawValue
    manifest.strategy.weighting = "uniform"
    manifest.strategy.weightCap = 10
    manifest.strategy.refactoriseEvery = 1
    manifest.model.fingerprint = Data(base.fingerprint)
    manifest.model.labels = PrivateRun.labels
    manifest.model.maxLength = UInt32(TinyModel.positions)
    manifest.model.pooling = Pooling.mean.rawValue
    manifest.adapter.rank = UInt32(rank)
    manifest.adapter.alpha = Double(rank)
    manifest.adapter.scaling = LoRAConfiguration.Scaling.lora.rawValue
    manifest.adapter.targetModules = ["query", "key", "value", "dense"]
    manifest.adapter.initialisation = LoRAConfiguration.Initialisation.kaiming.rawValue
    manifest.training.localSteps = UInt32(localSteps)
    manifest.training.batchSize = 8
    manifest.training.optimizer = "sgd"
    manifest.training.learningRate = 1
    manifest.training.headLearningRate = 1
    manifest.training.schedule = LearningRateSchedule.Shape.constant.rawValue
    manifest.cohort.minClients = 2
    manifest.cohort.clientsPerRound = 2
    manifest.cohort.quorum = 1
    manifest.cohort.deadlineSeconds = 30
    manifest.privacy.level = "record"
    manifest.privacy.relation = NeighbouringRelation.addOrRemoveOne.rawValue
    manifest.privacy.sampling = "poisson"
    manifest.privacy.samplingRate = rate
    manifest.privacy.clippingNorm = clippingNorm
    manifest.privacy.clipping = "flat"
    manifest.privacy.noiseMultiplier = noise
    manifest.privacy.divisor = divisor
    manifest.privacy.participations = UInt32(participations ?? rounds)
    manifest.privacy.epsilon = claim
    manifest.privacy.delta = 1e-5
    manifest.privacy.personal = PersonalForm.joint.rawValue
    manifest.privacy.seededNoise = isSeeded
    let terms = try RunTerms(manifest)
    let adapted = try AdaptedModel(base: base, adapter: terms.adapter, head: terms.head)
    start = adapted.layout.tensors(from: try AdapterInitialisation.parameters(of: adapted, seed: manifest.seed))
    let strategy = strategy
    initialState = start.filter(strategy.isSentDown)
    manifest.state = FedLoRAProtocol.TensorLayout(initialState).declarations
    manifest.update = FedLoRAProtocol.TensorLayout(start.filter(strategy.isUploaded)).declarations
    self.manifest = manifest
  }

  /// The privacy terms as a client reads them.
  var terms: RecordPrivacy { get throws { try #require(try RecordPrivacy(manifest)) } }

  /// The same run with some of its terms changed.
  func changed(_ change: (inout WireRunManifest) -> Void) -> PrivateRun {
    var copy = self
    change(&copy.manifest)
    return copy
  }

  // MARK: Data

  /// Examples of every length, of which no two are alike.
  static func examples(_ count: Int, seed: Int = 0) -> [EncodedExample] {
    (0..<count).map { index in
      let length = 2 + (index + seed) % (TinyModel.positions - 2)
      return EncodedExample(
        ids: (0..<length).map { Int32((seed * 13 + index * 7 + $0 * ($0 + 3)) % TinyModel.vocabulary) },
        typeIds: [Int32](repeating: 0, count: length),
        label: (index * index + seed) % labels.count
      )
    }
  }

  /// Data in memory with a fingerprint of the test's making.
  static func records(_ count: Int = 40, fingerprint: String = "0123456789abcdef0123456789abcdef") -> ClientRecords {
    ClientRecords(
      examples: examples(count),
      labels: labels,
      maxLength: TinyModel.positions,
      fingerprint: fingerprint
    )
  }

  /// Folder of a client's ledgers.
  func ledgers(_ client: String) -> URL { folder.appending("ledgers-\(client)") }

  /// What a client's ledger of this data says.
  func ledger(_ client: String, of records: ClientRecords = records()) throws -> LedgerContents {
    try LedgerContents(
      readingFrom: ClientPrivacy(ledgerFolder: ledgers(client)).ledgerURL(fingerprint: records.fingerprint)
    )
  }

  // MARK: Clients

  /// A trainer as a freshly started process has it.
  /// - Parameter reads: notes each reading of the data.
  func trainer(
    _ client: String,
    policy: ClientPolicy = .tests,
    records: ClientRecords = records(),
    threads: Int = 1,
    reads: EventLog<Bool> = EventLog()
  ) -> EngineTrainer {
    EngineTrainer(
      slots: EngineSlots(base: base, count: 1, threadsPerSlot: threads),
      data: LocalData { _ in
        reads.record(true)
        return records
      },
      privacy: ClientPrivacy(policy: policy, ledgerFolder: ledgers(client))
    )
  }

  /// A round's assignment from the initial state.
  func assignment(_ client: String, round: Int) -> RoundAssignment {
    let strategy = strategy
    return RoundAssignment(
      manifest: manifest,
      round: round,
      clientName: client,
      state: initialState,
      personal: start.filter { strategy.role(of: $0) == .personal }
    )
  }
}

extension ClientPolicy {
  /// Allows what these tests do and no more.
  static let tests: ClientPolicy = {
    var policy = ClientPolicy.standard
    policy.allowSeededNoise = true
    return policy
  }()
}
