import FedLoRAEngine
import Foundation
import Testing

@Suite struct OptimizerTests {
  private func model() throws -> AdaptedModel { try #require(OracleFolder.committed.first).load().0 }

  @Test func sgdWithMomentumAndDecayFollowsTheRecurrence() throws {
    let layout = try model().layout
    var parameters = (0..<layout.count).map { Float(sin(Double($0))) }
    var expected = parameters.map(Double.init)
    var buffer = [Double](repeating: 0, count: layout.count)
    var optimizer = Optimizer(.sgd(momentum: 0.9, weightDecay: 0.01), layout: layout, trained: .all)
    for step in 0..<5 {
      let gradient = (0..<layout.count).map { Float(cos(Double($0 + step))) }
      optimizer.step(&parameters, gradient: gradient, learningRate: 0.1, headLearningRate: 0.3)
      for entry in layout.entries {
        let rate = entry.kind == .head ? 0.3 : 0.1
        for index in entry.range {
          let g = Double(gradient[index]) + 0.01 * expected[index]
          buffer[index] = step == 0 ? g : 0.9 * buffer[index] + g
          expected[index] -= rate * buffer[index]
        }
      }
    }
    for index in 0..<layout.count { #expect(abs(Double(parameters[index]) - expected[index]) < 1e-5) }
  }

  @Test func kindsThatAreNotTrainedKeepEveryBit() throws {
    let layout = try model().layout
    let start = (0..<layout.count).map { Float($0) * 0.01 }
    for rule in [OptimizerRule.sgd(momentum: 0.5, weightDecay: 0.1), .defaultAdamW] {
      var parameters = start
      var optimizer = Optimizer(rule, layout: layout, trained: [.loraB])
      optimizer.step(
        &parameters,
        gradient: [Float](repeating: 1, count: layout.count),
        learningRate: 0.1,
        headLearningRate: 0.1
      )
      for entry in layout.entries {
        #expect((Array(parameters[entry.range]) == Array(start[entry.range])) == (entry.kind != .loraB))
      }
    }
  }

  @Test func clippingScalesToTheBoundAndLeavesSmallGradientsAlone() {
    var large: [Float] = [3, 4]
    #expect(GradientNorm.clip(&large, to: 1) == 5)
    #expect(abs(GradientNorm.norm(large) - 1) < 1e-5)
    var small: [Float] = [0.3, 0.4]
    GradientNorm.clip(&small, to: 1)
    #expect(small == [0.3, 0.4])
  }

  @Test func schedulesClimbAndFallAsHuggingFaceSays() {
    let linear = LearningRateSchedule(shape: .linear, warmupSteps: 4, totalSteps: 12)
    #expect((0..<4).map { linear.factor(at: $0) } == [0, 0.25, 0.5, 0.75])
    #expect(linear.factor(at: 4) == 1)
    #expect(abs(linear.factor(at: 8) - 0.5) < 1e-12)
    #expect(linear.factor(at: 12) == 0)
    #expect(linear.factor(at: 99) == 0)
    let cosine = LearningRateSchedule(shape: .cosine, totalSteps: 10)
    #expect(cosine.factor(at: 0) == 1)
    #expect(abs(cosine.factor(at: 5) - 0.5) < 1e-12)
    #expect(cosine.factor(at: 10) < 1e-12)
    #expect(LearningRateSchedule(shape: .constant, totalSteps: 3).factor(at: 100) == 1)
  }
}
