import FedLoRAEngine
import Foundation
import Testing

/// The draw of a token against transformers' logits processors.
@Suite("Sampling")
struct SamplingTests {
  @Test("leaves the probabilities that transformers leaves")
  func distributions() throws {
    let cases = try GenerationFixture.read([GenerationFixture.Sample].self, "sampling.json")
    #expect(cases.count > 8)
    for sample in cases {
      let sampling = try Sampling(
        temperature: sample.temperature,
        topK: sample.top_k,
        topP: sample.top_p,
        repetitionPenalty: sample.penalty
      )
      let found = sampling.distribution(sample.logits, seen: Set(sample.seen))
      for (token, (own, wanted)) in zip(found, sample.probabilities).enumerated() {
        #expect((own == 0) == (wanted == 0), "token \(token) of \(sampling)")
        #expect(abs(own - wanted) < 1e-6, "token \(token) of \(sampling)")
      }
    }
  }

  @Test("keeps equals of the last of the likeliest, and takes the first of equals when greedy")
  func ties() throws {
    let logits: [Float] = [1, 3, 2, 2, 0]
    #expect(
      try Sampling(temperature: 1, topK: 2).distribution(logits).map { $0 > 0 } == [false, true, true, true, false]
    )
    #expect(Sampling.greedy.distribution([1, 5, 5]) == [0, 1, 0])
    #expect(try Sampling(temperature: 1, topP: 1e-9).distribution(logits) == [0, 1, 0, 0, 0])
  }

  @Test("draws tokens as often as it says", arguments: [3, 11] as [UInt64])
  func frequencies(seed: UInt64) throws {
    let sampling = try Sampling(temperature: 1.5, topK: 6, topP: 0.97)
    let loaded = try LanguageModel(folder: GenerationFixture.tiny)
    let prompt: [Int32] = [0, 5, 9]
    let generator = try TokenGenerator(
      model: loaded.model,
      parameters: [],
      pool: ComputePool(threadCount: 2),
      sequencesPerThread: 1
    )
    let size = loaded.model.base.spec.vocabularySize
    let logits = Array(generator.logits(prompt, prefix: 3).suffix(size))
    let wanted = sampling.distribution(logits)
    let draws = 4000
    let found = try generator.generate(
      [[Int32]](repeating: prompt, count: draws),
      options: GenerationOptions(maximumNewTokens: 1, sampling: sampling, seed: seed)
    )
    var counts = [Int](repeating: 0, count: size)
    for sequence in found { counts[Int(sequence.tokens[0])] += 1 }
    let possible = wanted.indices.filter { wanted[$0] > 0 }
    #expect(possible.count > 2)
    #expect(counts.indices.allSatisfy { counts[$0] == 0 || wanted[$0] > 0 })
    // Pearson's statistic; 20.5 is the 0.999 quantile for 5 degrees of freedom.
    let statistic = possible.reduce(0.0) { sum, token in
      let expected = wanted[token] * Double(draws)
      return sum + pow(Double(counts[token]) - expected, 2) / expected
    }
    #expect(possible.count <= 6 && statistic < 20.5)
  }

  @Test(
    "refuses options out of their ranges",
    arguments: [(-1, nil, 1, 1), (.nan, nil, 1, 1), (1, 0, 1, 1), (1, nil, 0, 1), (1, nil, 1.1, 1), (1, nil, 1, 0)]
      as [(Double, Int?, Double, Double)]
  )
  func refusals(temperature: Double, topK: Int?, topP: Double, penalty: Double) {
    #expect(throws: GenerationError.self) {
      try Sampling(temperature: temperature, topK: topK, topP: topP, repetitionPenalty: penalty)
    }
  }
}
