import FedLoRALinearAlgebra

/// Goes on with prompts, token by token, on caches of keys and values.
///
/// Prompt i runs on thread i modulo the threads; a thread extends up to `sequencesPerThread` of its sequences together, so
/// that the weights are read once for all of them, and takes the next prompt when one has ended. What runs where is
/// fixed, so the same prompts, options, threads and BLAS kernel give the same tokens.
///
///     let generator = TokenGenerator(model: model, parameters: parameters, pool: pool)
///     let texts = try await pool.perform { try generator.generate(prompts, options: options) }
///
/// `@unchecked Sendable`: one call at a time, which its owner guarantees by calling it inside `pool.perform`.
public final class TokenGenerator: @unchecked Sendable {
  /// The language model with its adapter.
  public let model: AdaptedModel
  /// The threads.
  public let pool: ComputePool
  /// Sequences that a thread extends together.
  public let sequencesPerThread: Int

  private let parameters: UnsafeMutablePointer<Float>
  private let passes: [CachedPass]

  /// Prepares one pass a thread.
  /// - Parameters:
  ///   - parameters: flat vector in the model's layout.
  ///   - mergesAdapter: whether the adapter is added to a copy of the weights that it sits on: quicker, and more memory.
  ///   - sequencesPerThread: 1 to 32.
  /// - Throws: `ModelError` for an encoder, a classifier, or parameters of another model.
  public init(
    model: AdaptedModel,
    parameters: [Float],
    pool: ComputePool,
    mergesAdapter: Bool = false,
    sequencesPerThread: Int = 8
  ) throws {
    guard model.head == nil, model.base.languageHead != nil else {
      throw ModelError.badOption(name: "task", found: "no language model", expected: "a model that predicts tokens")
    }
    guard parameters.count == model.layout.count else {
      throw ModelError.wrongParameter(
        name: "parameters",
        reason: "have \(parameters.count) elements, expected \(model.layout.count)"
      )
    }
    BLAS.configure()
    self.model = model
    self.pool = pool
    self.sequencesPerThread = max(1, min(sequencesPerThread, CachedPass.mostSequences))
    let copy = UnsafeMutablePointer<Float>.allocate(capacity: max(1, parameters.count))
    for (index, value) in parameters.enumerated() { (copy + index).initialize(to: value) }
    self.parameters = copy
    let merged = mergesAdapter ? MergedAdapter(model, parameters: copy) : nil
    passes = (0..<pool.threadCount).map { _ in CachedPass(model, parameters: copy, merged: merged) }
  }

  deinit { parameters.deallocate() }

  /// Goes on with every prompt. Must be called inside `pool.perform`.
  /// - Parameters:
  ///   - prompts: tokens, at least one each.
  ///   - onToken: is told of every new token of prompt i on the thread that made it; false ends this prompt's text.
  /// - Throws: `GenerationError`.
  public func generate(
    _ prompts: [[Int32]],
    options: GenerationOptions,
    onToken: (@Sendable (_ prompt: Int, _ token: Int32) -> Bool)? = nil
  ) throws -> [GeneratedTokens] {
    for (index, prompt) in prompts.enumerated() { try check(prompt, index) }
    let threads = pool.threadCount
    var results = [Result<[GeneratedTokens], any Error>](repeating: .success([]), count: threads)
    results.withUnsafeMutableBufferPointer { results in
      nonisolated(unsafe) let results = results
      pool.forEachThread { [self] thread in
        let own = Array(stride(from: thread, to: prompts.count, by: threads))
        results[thread] = Result {
          var queue = SequenceQueue(self, passes[thread], options, own.map { ($0, prompts[$0]) }, onToken)
          return try queue.run()
        }
      }
    }
    let found = try results.map { try $0.get() }
    return prompts.indices.map { found[$0 % threads][$0 / threads] }
  }

  /// Logits of every token of `tokens` where the first `prefix` go through the model together and the others one by one,
  /// tokens × vocabulary: to compare with a full pass.
  package func logits(_ tokens: [Int32], prefix: Int) -> [Float] {
    let cache = KeyValueCache(model.base.spec, capacity: 1)
    var result = passes[0].allLogits(cache, Array(tokens.prefix(prefix)))
    for token in tokens.dropFirst(prefix) { result += passes[0].allLogits(cache, [token]) }
    return result
  }

  private func check(_ prompt: [Int32], _ index: Int) throws(GenerationError) {
    let spec = model.base.spec
    guard !prompt.isEmpty else { throw .emptyPrompt(index: index) }
    guard prompt.count < spec.maximumPositions else {
      throw .promptTooLong(index: index, tokens: prompt.count, positions: spec.maximumPositions)
    }
    if let token = prompt.first(where: { $0 < 0 || Int($0) >= spec.vocabularySize }) {
      throw .unknownToken(index: index, token: token, vocabularySize: spec.vocabularySize)
    }
  }
}

/// The prompts of one thread, some of which are being gone on with.
private struct SequenceQueue {
  private struct Active {
    /// Place among this thread's prompts.
    let place: Int
    /// Number of the prompt among all.
    let index: Int
    let cache: KeyValueCache
    let limit: Int
    let limitEnd: GeneratedTokens.End
    var seen: Set<Int32>
    var generator: SeededGenerator
    var tokens: [Int32] = []
  }

  private let owner: TokenGenerator
  private let pass: CachedPass
  private let options: GenerationOptions
  private let prompts: [(index: Int, tokens: [Int32])]
  private let onToken: (@Sendable (Int, Int32) -> Bool)?
  private var sampler: TokenSampler
  private var active: [Active] = []
  private var results: [GeneratedTokens]

  init(
    _ owner: TokenGenerator,
    _ pass: CachedPass,
    _ options: GenerationOptions,
    _ prompts: [(index: Int, tokens: [Int32])],
    _ onToken: (@Sendable (Int, Int32) -> Bool)?
  ) {
    (self.owner, self.pass, self.options, self.prompts, self.onToken) = (owner, pass, options, prompts, onToken)
    sampler = TokenSampler(options.sampling)
    results = [GeneratedTokens](repeating: GeneratedTokens(tokens: [], end: .length), count: prompts.count)
  }

  mutating func run() throws -> [GeneratedTokens] {
    var next = 0
    while next < prompts.count || !active.isEmpty {
      while next < prompts.count, active.count < owner.sequencesPerThread {
        try begin(next)
        next += 1
      }
      if !active.isEmpty { try step() }
    }
    return results
  }

  /// Runs a prompt and chooses its first new token.
  private mutating func begin(_ place: Int) throws {
    let (index, prompt) = prompts[place]
    let spec = owner.model.base.spec
    let room = spec.maximumPositions - prompt.count
    let limit = min(options.maximumNewTokens, room)
    var sequence = Active(
      place: place,
      index: index,
      // The first block is small: a text often ends long before its limit, and the cache doubles.
      cache: KeyValueCache(spec, capacity: prompt.count + min(limit, 64)),
      limit: limit,
      limitEnd: options.maximumNewTokens <= room ? .length : .context,
      seen: options.sampling.repetitionPenalty == 1 ? [] : Set(prompt),
      generator: SeededGenerator(seed: options.seed, "generate", .number(UInt64(index)))
    )
    var goesOn = false
    try pass.extend(sequence.cache, by: prompt) { logits in goesOn = try choose(logits, &sequence) }
    if goesOn { active.append(sequence) }
  }

  /// One token more for every active sequence.
  private mutating func step() throws {
    let tokens = active.compactMap(\.tokens.last)
    var sequences = active
    var goOn = [Bool](repeating: false, count: sequences.count)
    let vocabulary = owner.model.base.spec.vocabularySize
    try pass.step(sequences.map(\.cache), tokens) { logits in
      for row in sequences.indices { goOn[row] = try choose(logits + row * vocabulary, &sequences[row]) }
    }
    active = zip(sequences, goOn).filter(\.1).map(\.0)
  }

  /// Chooses the next token of `sequence`.
  /// - Returns: whether it goes on.
  private mutating func choose(_ logits: UnsafeMutablePointer<Float>, _ sequence: inout Active) throws -> Bool {
    let values = UnsafeMutableBufferPointer(start: logits, count: owner.model.base.spec.vocabularySize)
    guard let token = sampler.next(values, seen: sequence.seen, using: &sequence.generator) else {
      throw GenerationError.notFinite(index: sequence.index, position: sequence.cache.count)
    }
    sequence.tokens.append(token)
    if options.sampling.repetitionPenalty != 1 { sequence.seen.insert(token) }
    let isWanted = onToken?(sequence.index, token) ?? true
    let end: GeneratedTokens.End? =
      options.stopTokens.contains(token)
      ? .stopToken
      : !isWanted ? .cancelled : sequence.tokens.count == sequence.limit ? sequence.limitEnd : nil
    guard let end else { return true }
    results[sequence.place] = GeneratedTokens(tokens: sequence.tokens, end: end)
    return false
  }
}
