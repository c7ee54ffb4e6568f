import Foundation

/// ln E over N(0, σ²) of ratio(x)^(a + iu) at equally spaced u.
///
/// The points x and their weights w = density·ratio^a serve a whole block of frequencies. With D = exp(i·u·ln ratio) − 1
/// the next frequency is D + D₁ + D·D₁: two complex products a point, no transcendental function, and relative accuracy
/// where D is tiny. D starts anew from sines in each block. The inner loop runs over eight points at a time.
struct ComplexMoments {
  /// Real parts of the results.
  private(set) var logarithms: [Double] = []
  /// Imaginary parts, up to multiples of 2π (which do not matter, as they are multiplied by a number of steps).
  private(set) var arguments: [Double] = []
  /// A bound for the rounding error of a result.
  private(set) var roundOff = 0.0
  /// The number of points used for each frequency.
  private(set) var points = 0
  /// For eight points: weight, and the real and imaginary parts of D and of D₁.
  private var lanes: [Lanes] = []

  private typealias Eight = SIMD8<Double>
  private struct Lanes {
    var weight = Eight()
    var real = Eight()
    var imaginary = Eight()
    var stepReal = Eight()
    var stepImaginary = Eight()
  }

  /// - Parameter sign: +1 for ratio^(a + iu), −1 for ratio^(a − iu).
  /// - Returns: false where the parameters are out of reach.
  mutating func evaluate(
    _ step: SubsampledGaussian,
    power: Double,
    sign: Double,
    firstFrequency: Double,
    frequencyStep: Double,
    count: Int
  ) -> Bool {
    let lastFrequency = firstFrequency + Double(count - 1) * frequencyStep
    guard let grid = MomentQuadrature(step, power: power, frequency: lastFrequency, weight: Double(step.steps)) else {
      return false
    }
    let groups = (grid.count + 7) / 8
    points = groups * 8
    if lanes.count < groups { lanes = [Lanes](repeating: Lanes(), count: groups) }
    if logarithms.count < count {
      logarithms = [Double](repeating: 0, count: count)
      arguments = logarithms
    }
    let scale = grid.spacing / (step.sigma * (2 * Double.pi).squareRoot())
    let base = fill(
      step,
      grid: grid,
      power: power,
      sign: sign,
      first: firstFrequency,
      step: frequencyStep,
      scale: scale
    )
    for k in 0..<count {
      var real = Eight()
      var imaginary = Eight()
      lanes.withUnsafeMutableBufferPointer { lanes in
        for index in 0..<groups {
          var lane = lanes[index]
          real += lane.weight * lane.real
          imaginary += lane.weight * lane.imaginary
          let nextReal =
            lane.real + lane.stepReal + lane.real * lane.stepReal - lane.imaginary * lane.stepImaginary
          lane.imaginary +=
            lane.stepImaginary + lane.real * lane.stepImaginary + lane.imaginary * lane.stepReal
          lane.real = nextReal
          lanes[index] = lane
        }
      }
      let frequency = sign * (firstFrequency + Double(k) * frequencyStep)
      let excessReal = base.real + real.sum()
      let excessImaginary = imaginary.sum() - frequency * base.mean
      if grid.shift > 0 {
        logarithms[k] = grid.shift + log(hypot(excessReal, excessImaginary))
        arguments[k] = atan2(excessImaginary, excessReal)
      } else {
        let norm = excessReal * (2 + excessReal) + excessImaginary * excessImaginary
        logarithms[k] = norm > -0.75 ? 0.5 * log1p(norm) : log(hypot(1 + excessReal, excessImaginary))
        arguments[k] = atan2(excessImaginary, 1 + excessReal)
      }
    }
    roundOff = 8 * 0x1p-52 * base.magnitude
    return true
  }

  /// What does not depend on the frequency: Σ w − 1 in `real`, Σ density·(ratio − 1), which is 0 up to rounding, in
  /// `mean`, and the size of the terms.
  private mutating func fill(
    _ step: SubsampledGaussian,
    grid: MomentQuadrature,
    power: Double,
    sign: Double,
    first: Double,
    step du: Double,
    scale: Double
  ) -> (real: Double, mean: Double, magnitude: Double) {
    let precision = 1 / (2 * step.sigma * step.sigma)
    var real = 0.0
    var mean = 0.0
    var magnitude = 0.0
    for index in 0..<points {
      var weight = 0.0
      var loss = 0.0
      if index < grid.count {
        let x = grid.first + Double(index) * grid.spacing
        let exponent = -x * x * precision
        let (excess, logRatio) = step.excessAndLog(x)
        let tilt = power * logRatio
        loss = logRatio
        if grid.shift > 0 {
          weight = exp(exponent + tilt - grid.shift) * scale
          real += weight
          magnitude += weight
        } else {
          let density = exp(exponent) * scale
          let z = (2 * x - 1) * precision
          let partOfMean = z > 40 ? step.rate * exp(exponent + z) * scale : density * excess
          let excessWeight: Double
          if abs(tilt) < 1 {
            let relative = expm1(tilt)
            excessWeight = density * relative
            weight = density + excessWeight
          } else {
            weight = exp(exponent + tilt) * scale
            excessWeight = weight - density
          }
          real += excessWeight - power * partOfMean
          mean += partOfMean
          magnitude += abs(excessWeight) + abs(power * partOfMean)
        }
      }
      let angle = sign * loss * first
      let angleStep = sign * loss * du
      let half = sin(angle / 2)
      let halfStep = sin(angleStep / 2)
      let (lane, slot) = (index / 8, index % 8)
      lanes[lane].weight[slot] = weight
      lanes[lane].real[slot] = -2 * half * half
      lanes[lane].imaginary[slot] = sin(angle)
      lanes[lane].stepReal[slot] = -2 * halfStep * halfStep
      lanes[lane].stepImaginary[slot] = sin(angleStep)
    }
    return (real, mean, magnitude)
  }
}
