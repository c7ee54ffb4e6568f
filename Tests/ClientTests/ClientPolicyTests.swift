import FedLoRAClient
import FedLoRADP
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

/// Every key of a policy, and every term that a coordinator may state: what is refused is refused by its name, before any data
/// are read.
@Suite("A client's policy", .timeLimit(.minutes(1)))
struct ClientPolicyTests {
  /// A run that the policy of these tests accepts.
  private static func run() throws -> PrivateRun { try PrivateRun(localSteps: 1) }

  /// What a trainer says to a manifest, and that it read nothing for it.
  private func refusal(
    _ run: PrivateRun,
    _ policy: ClientPolicy = .tests,
    readsData: Bool = false
  ) async throws -> ManifestRefusal? {
    let reads = EventLog<Bool>()
    let client = "client-\(UUID().uuidString)"
    defer { #expect(reads.events.isEmpty == !readsData) }
    do {
      try await run.trainer(client, policy: policy, reads: reads).check(run.manifest)
      return nil
    } catch let refusal as ManifestRefusal {
      #expect(!FileManager.default.fileExists(atPath: run.ledgers(client).path))
      return refusal
    }
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let key: String
    var policy: ClientPolicy = .tests
    var manifest: @Sendable (inout WireRunManifest) -> Void = { _ in }
    var testDescription: String { key }

    init(
      _ key: String,
      policy change: (inout ClientPolicy) -> Void = { _ in },
      manifest: @escaping @Sendable (inout WireRunManifest) -> Void = { _ in }
    ) {
      self.key = key
      change(&policy)
      self.manifest = manifest
    }
  }

  @Test("accepts the run that the other tests change, and reads the data only then")
  func accepted() async throws {
    #expect(try await refusal(try Self.run(), readsData: true) == nil)
  }

  @Test(
    "refuses by the key's name what the owner did not agree to, before any data are read",
    arguments: [
      Case("levels", policy: { $0.levels = ["none", "client"] }), Case("levels", policy: { $0.levels = [] }),
      Case("levels", policy: { $0.levels = ["record"] }, manifest: { $0.clearPrivacy() }),
      Case("levels", manifest: { $0.privacy.level = "everything" }),
      Case("levels", manifest: { $0.privacy.level = "" }),
      Case("max_epsilon", policy: { $0.maxEpsilon = 0.4 }), Case("max_epsilon", policy: { $0.maxEpsilon = .nan }),
      Case("max_delta", policy: { $0.maxDelta = 9e-6 }), Case("max_delta", manifest: { $0.privacy.delta = 1e-4 }),
      Case("max_delta", manifest: { $0.privacy.delta = .nan }),
      Case("min_noise_multiplier", policy: { $0.minNoiseMultiplier = 1.6 }),
      Case("min_noise_multiplier", manifest: { $0.privacy.noiseMultiplier = 0.1 }),
      Case("min_noise_multiplier", manifest: { $0.privacy.noiseMultiplier = 0 }),
      Case("min_noise_multiplier", manifest: { $0.privacy.noiseMultiplier = -1 }),
      Case("min_noise_multiplier", manifest: { $0.privacy.noiseMultiplier = .nan }),
      Case("models", policy: { $0.models = ["0123456789abcdef"] }), Case("models", policy: { $0.models = [""] }),
      Case("aggregations", policy: { $0.aggregations = ["median"] }),
      Case("aggregations", policy: { $0.aggregations = ["mean"] }, manifest: { $0.aggregation.rule = "krum" }),
      Case("strategies", policy: { $0.strategies = ["fedsa-lora"] }),
      Case("allow_seeded_noise", policy: { $0.allowSeededNoise = false }, manifest: { $0.privacy.seededNoise = true }),
      Case("declared_examples", manifest: { $0.strategy.weighting = "capped" }),
      Case("under privacy only uniform or capped", manifest: { $0.strategy.weighting = "examples" }),
    ]
  )
  func keys(each: Case) async throws {
    let refusal = try #require(try await refusal(try Self.run().changed(each.manifest), each.policy))
    #expect(refusal.code == "policy")
    #expect(refusal.reason.contains(each.key), "\(refusal.reason)")
  }

  @Test(
    "holds the claim against its own accountant: less noise, more rounds, steps or records than are said",
    arguments: [
      Case("epsilon is said to be", manifest: { $0.privacy.epsilon = 0.5 }),
      Case("epsilon is said to be", manifest: { $0.privacy.noiseMultiplier = 0.5 }),
      Case("epsilon is said to be", manifest: { $0.privacy.samplingRate = 1 }),
      Case("epsilon is said to be", manifest: { $0.training.localSteps = 1000 }),
      Case(
        "epsilon is said to be",
        manifest: {
          $0.rounds = 1000
          $0.privacy.participations = 1000
        }
      ),
      Case("epsilon is said to be", manifest: { $0.privacy.relation = "replace-one" }),
      Case("epsilon is said to be", manifest: { $0.privacy.delta = 1e-9 }),
      // The claim may be as large as it likes; the budget is the owner's.
      Case(
        "max_epsilon",
        manifest: {
          $0.privacy.epsilon = 1000
          $0.training.localSteps = 1000
        }
      ),
      Case("cannot be accounted for", manifest: { $0.privacy.sampling = "fixed-size" }),
      Case(
        "too many",
        manifest: {
          $0.rounds = .max
          $0.privacy.participations = .max
          $0.training.localSteps = .max
        }
      ),
    ]
  )
  func claims(each: Case) async throws {
    let run = try Self.run().changed {
      $0.privacy.epsilon = 3
      each.manifest(&$0)
    }
    let refusal = try #require(try await refusal(run))
    #expect(refusal.code == "policy" && refusal.reason.contains(each.key), "\(refusal)")
  }

  @Test(
    "refuses terms that make no sense by the field's name, before any data are read",
    arguments: [
      Case("divisor", manifest: { $0.privacy.divisor = 0 }), Case("divisor", manifest: { $0.privacy.divisor = .nan }),
      Case("divisor", manifest: { $0.privacy.divisor = -1 }),
      Case("divisor", manifest: { $0.privacy.divisor = .infinity }),
      Case("clipping norm", manifest: { $0.privacy.clippingNorm = 0 }),
      Case("clipping norm", manifest: { $0.privacy.clippingNorm = .infinity }),
      Case("clipping norm", manifest: { $0.privacy.clippingNorm = .nan }),
      Case("noise multiplier", manifest: { $0.privacy.noiseMultiplier = .infinity }),
      Case("sampling rate", manifest: { $0.privacy.samplingRate = 0 }),
      Case("sampling rate", manifest: { $0.privacy.samplingRate = 1.01 }),
      Case("sampling rate", manifest: { $0.privacy.samplingRate = .nan }),
      Case("sampling", manifest: { $0.privacy.sampling = "shuffled" }),
      Case("clipping", manifest: { $0.privacy.clipping = "none" }),
      Case("neighbouring relation", manifest: { $0.privacy.relation = "none" }),
      Case("participations", manifest: { $0.privacy.participations = 0 }),
      Case("participations", manifest: { $0.privacy.participations = 5 }),
      Case("epsilon", manifest: { $0.privacy.epsilon = 0 }), Case("epsilon", manifest: { $0.privacy.epsilon = .nan }),
      Case("epsilon", manifest: { $0.privacy.epsilon = .infinity }), Case("delta", manifest: { $0.privacy.delta = 0 }),
      Case("delta", manifest: { $0.privacy.delta = -1 }),
      Case("personal", manifest: { $0.privacy.personal = "unnoised" }),
      Case("aggregation rule", manifest: { $0.aggregation.rule = "best" }),
    ]
  )
  func senseless(each: Case) async throws {
    let refusal = try #require(try await refusal(try Self.run().changed(each.manifest)))
    #expect(["bad-term", "unknown-term"].contains(refusal.code) && refusal.reason.contains(each.key), "\(refusal)")
  }

  @Test("refuses a divisor or a norm with which floating point gives no numbers", arguments: [1e-45, 1e-300, 1e80])
  func tiny(divisor: Double) async throws {
    let run = try Self.run().changed { $0.privacy.divisor = divisor }
    let refusal = try #require(try await refusal(run, readsData: true))
    #expect(refusal.code == "bad-term" && refusal.reason.contains("divisor"))
  }

  @Test("accepts a higher clipping norm, which costs no privacy, and any divisor that it can compute with")
  func harmless() async throws {
    for change: @Sendable (inout WireRunManifest) -> Void in [
      { $0.privacy.clippingNorm = 1e4 }, { $0.privacy.divisor = 1e-3 }, { $0.privacy.divisor = 1e6 },
    ] { #expect(try await refusal(try Self.run().changed(change), readsData: true) == nil) }
  }

  // MARK: Level client

  /// A coordinator's claim about whole clients.
  private func clientRun(_ change: (inout WireRunManifest) -> Void) throws -> PrivateRun {
    try Self.run().changed {
      $0.privacy.level = "client"
      $0.privacy.personal = ""
      $0.privacy.population = 10
      change(&$0)
    }
  }

  @Test(
    "holds runs that protect whole clients to the same limits",
    arguments: [
      Case("min_noise_multiplier", manifest: { $0.privacy.noiseMultiplier = 0.01 }),
      Case("max_epsilon", manifest: { $0.privacy.epsilon = 9 }),
      Case("max_delta", manifest: { $0.privacy.delta = 1e-3 }),
      Case("epsilon", manifest: { $0.privacy.epsilon = .nan }), Case("epsilon", manifest: { $0.privacy.epsilon = -1 }),
      Case("delta", manifest: { $0.privacy.delta = 0 }), Case("levels", policy: { $0.levels = ["record"] }),
      Case("allow_seeded_noise", policy: { $0.allowSeededNoise = false }, manifest: { $0.privacy.seededNoise = true }),
    ]
  )
  func wholeClients(each: Case) async throws {
    #expect(try await refusal(try clientRun { _ in }, readsData: true) == nil)
    let refusal = try #require(try await refusal(try clientRun(each.manifest), each.policy))
    #expect(refusal.code == "policy" && refusal.reason.contains(each.key), "\(refusal)")
  }

  // MARK: What leaves

  @Test("names the data's classes to nobody but their owner")
  func labels() async throws {
    let run = try Self.run().changed { $0.model.labels = ["red", "green", "violet"] }
    let refusal = try #require(try await refusal(run, readsData: true))
    #expect(refusal.code == "wrong-labels")
    #expect(!refusal.reason.contains("blue") && refusal.ownerReason.contains("blue"))
  }

  @Test("shares the loss only where the policy and the level of the run allow it", arguments: [true, false])
  func metrics(isPrivate: Bool) async throws {
    let run = try Self.run().changed { if !isPrivate { $0.clearPrivacy() } }
    for metrics in [["loss"], []] {
      var policy = ClientPolicy.tests
      policy.metrics = metrics
      let client = "client-\(metrics.count)"
      let update = try await run.trainer(client, policy: policy).train(run.assignment(client, round: 1))
      #expect(update.metrics.keys.sorted() == (isPrivate ? [] : metrics))
    }
  }

  @Test("states the declared number of examples under privacy, not the real one")
  func declared() async throws {
    var policy = ClientPolicy.tests
    policy.declaredExamples = 1234
    let run = try Self.run().changed { $0.strategy.weighting = "capped" }
    #expect(try await refusal(run, policy, readsData: true) == nil)
    #expect(try await run.trainer("c1", policy: policy).statedExamples(run.manifest) == 1234)
    let open = run.changed { $0.clearPrivacy() }
    #expect(try await open.trainer("c1", policy: policy).statedExamples(open.manifest) == 40)
  }

  /// A coordinator can send any number: each combination must be answered, and soon.
  @Test("answers any numbers with a refusal or an agreement that its accountant stands behind")
  func anyNumbers() throws {
    let numbers: [Double] = [
      -1, 0, .leastNonzeroMagnitude, 1e-300, 1e-7, 0.3, 1, 50, 1e300, .infinity, .nan,
    ]
    var policy = ClientPolicy.tests
    policy.minNoiseMultiplier = 0
    var agreed = 0
    for (rate, sampling) in numbers.flatMap({ [($0, "poisson"), ($0, "fixed-size")] }) {
      let relation: NeighbouringRelation = sampling == "poisson" ? .addOrRemoveOne : .replaceOne
      for noise in numbers {
        for (steps, delta) in [(1, 1e-5), (4_000_000_000, 1e-15)] as [(UInt32, Double)] {
          let run = try Self.manifest.changed {
            $0.privacy.samplingRate = rate
            $0.privacy.sampling = sampling
            $0.privacy.relation = relation.rawValue
            $0.privacy.noiseMultiplier = noise
            $0.privacy.delta = delta
            $0.training.localSteps = steps
            $0.privacy.epsilon = 8
          }
          do {
            try policy.check(run.manifest)
            agreed += 1
            let phase = try run.terms.phase(steps: Int(steps) * Int(run.manifest.privacy.participations))
            let found = try PrivacyAccountant(relation: relation).epsilon(of: [phase], delta: 1e-5).epsilon
            #expect(found >= 0 && found <= 8)
          } catch is ManifestRefusal {}
        }
      }
    }
    #expect(agreed > 10)
  }

  private static var manifest: PrivateRun { get throws { try Self.shared.get() } }
  private static let shared = Result { try run() }
}
