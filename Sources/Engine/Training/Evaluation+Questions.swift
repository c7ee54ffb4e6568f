extension Evaluation {
  /// Evaluates `parameters` on a held-out set: what `score` of its examples tells, and how its questions are answered.
  /// Must run on the runner's pool (`pool.perform`).
  ///
  /// Answers are generated greedily. A question that leaves the model no position for an answer is answered wrongly.
  /// - Throws: `ModelError` or `GenerationError`.
  public static func score(_ runner: ModelRunner, parameters: [Float], held: HeldOut) throws -> TaskScore {
    var score = try score(runner, parameters: parameters, examples: held.examples)
    guard let asking = held.asking, runner.model.head == nil, !held.questions.isEmpty else { return score }
    if let match = asking.match {
      score.answers = try answers(runner, parameters, held.questions, asking, match)
    }
    let open = held.questions.filter { $0.right != nil }
    if !open.isEmpty { score.choices = try choices(runner, parameters, open, asking.choiceLength) }
    return score
  }

  private static func answers(
    _ runner: ModelRunner,
    _ parameters: [Float],
    _ questions: [Question],
    _ asking: Asking,
    _ match: AnswerMatch
  ) throws -> AnswerScore {
    let positions = runner.model.base.spec.maximumPositions
    let asked = questions.filter { !$0.given.isEmpty && $0.given.count < positions }
    let generator = try TokenGenerator(model: runner.model, parameters: parameters, pool: runner.pool)
    let options = try GenerationOptions(
      maximumNewTokens: asking.maximumNewTokens,
      stopTokens: asking.stopTokens
    )
    let found = try generator.generate(asked.map(\.given), options: options)
    var score = AnswerScore(count: questions.count)
    for (question, generated) in zip(asked, found) {
      var tokens = generated.tokens
      if generated.end == .stopToken { tokens.removeLast() }
      var stream = TextStream(asking.tokenizer, after: question.given)
      let text = tokens.map { stream.append($0) }.joined() + stream.finish()
      if match.matches(text, question.answer) { score.right += 1 }
    }
    return score
  }

  private static func choices(
    _ runner: ModelRunner,
    _ parameters: [Float],
    _ questions: [Question],
    _ length: MultipleChoice.Length
  ) throws -> AnswerScore {
    let likelihoods = try runner.likelihoods(questions.flatMap { $0.choices.map(\.tokens) }, parameters: parameters)
    var score = AnswerScore(count: questions.count)
    var next = 0
    for question in questions {
      let own = zip(question.choices, likelihoods[next..<next + question.choices.count])
      next += question.choices.count
      if MultipleChoice.choice(own.map { (text: $0.0.text, likelihood: $0.1) }, by: length) == question.right {
        score.right += 1
      }
    }
    return score
  }
}
