import Foundation

/// A picture of ε against the noise multiplier on logarithmic axes: an SVG file that needs nothing else.
struct EpsilonPlot {
  /// Noise multiplier and ε, both above 0, by growing noise multiplier.
  let points: [(noiseMultiplier: Double, epsilon: Double)]
  /// The point to mark.
  let answer: (noiseMultiplier: Double, epsilon: Double)
  /// What stays the same along the curve.
  let caption: String

  private static let width = 760.0
  private static let height = 500.0
  private static let left = 84.0
  private static let right = 732.0
  private static let top = 76.0
  private static let bottom = 428.0

  /// The document.
  var svg: String {
    let inside = points.isEmpty ? [emptyNotice] : grid + curve + marker
    return """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(Self.width)) \(Int(Self.height))" role="img" \
      aria-label="Epsilon against the noise multiplier" font-family="system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif">
      <style>
      .back { fill: #ffffff } .plot { fill: #f7f8fa } .grid { stroke: #d9dde3; stroke-width: 1 }
      .fine { stroke: #eceef2; stroke-width: 1 } .text { fill: #4a5260; font-size: 13px } .title { fill: #171b22; font-size: 18px; font-weight: 600 }
      .curve { fill: none; stroke: #2463c9; stroke-width: 2.5; stroke-linejoin: round } .guide { stroke: #d1495b; stroke-width: 1.2; stroke-dasharray: 5 4 }
      .dot { fill: #d1495b; stroke: #ffffff; stroke-width: 2 } .label { fill: #b2283b; font-size: 14px; font-weight: 600 }
      @media (prefers-color-scheme: dark) {
      .back { fill: #14171c } .plot { fill: #1b1f26 } .grid { stroke: #333a45 } .fine { stroke: #252a33 } .text { fill: #aab3c0 }
      .title { fill: #eef1f5 } .curve { stroke: #6ea8ff } .label { fill: #ff8c9b } .dot { stroke: #14171c }
      }
      </style>
      <rect class="back" width="\(Int(Self.width))" height="\(Int(Self.height))"/>
      <text class="title" x="\(Self.left)" y="34">Privacy budget ε against noise</text>
      <text class="text" x="\(Self.left)" y="56">\(caption)</text>
      <rect class="plot" x="\(Self.left)" y="\(Self.top)" width="\(Self.right - Self.left)" height="\(Self.bottom - Self.top)"/>
      \(inside.joined(separator: "\n"))
      <text class="text" x="\((Self.left + Self.right) / 2)" y="\(Self.bottom + 50)" text-anchor="middle">noise multiplier σ (standard deviation over clipping norm)</text>
      <text class="text" transform="translate(26 \((Self.top + Self.bottom) / 2)) rotate(-90)" text-anchor="middle">ε (smaller is more private)</text>
      </svg>

      """
  }

  private var horizontal: Axis {
    Axis(values: points.map(\.noiseMultiplier) + [answer.noiseMultiplier], from: Self.left, to: Self.right)
  }
  private var vertical: Axis {
    Axis(values: points.map(\.epsilon), from: Self.bottom, to: Self.top)
  }

  private var emptyNotice: String {
    "<text class=\"text\" x=\"\((Self.left + Self.right) / 2)\" y=\"250\" text-anchor=\"middle\">nothing to draw</text>"
  }

  private var grid: [String] {
    var lines: [String] = []
    for tick in horizontal.ticks {
      let x = format(horizontal.position(tick.value))
      lines.append(
        "<line class=\"\(tick.isLabelled ? "grid" : "fine")\" x1=\"\(x)\" x2=\"\(x)\" y1=\"\(Self.top)\" y2=\"\(Self.bottom)\"/>"
      )
      if tick.isLabelled {
        lines.append(
          "<text class=\"text\" x=\"\(x)\" y=\"\(Self.bottom + 22)\" text-anchor=\"middle\">\(tick.label)</text>"
        )
      }
    }
    for tick in vertical.ticks {
      let y = vertical.position(tick.value)
      lines.append(
        "<line class=\"\(tick.isLabelled ? "grid" : "fine")\" x1=\"\(Self.left)\" x2=\"\(Self.right)\" y1=\"\(format(y))\" y2=\"\(format(y))\"/>"
      )
      if tick.isLabelled {
        lines.append(
          "<text class=\"text\" x=\"\(Self.left - 10)\" y=\"\(format(y + 4.5))\" text-anchor=\"end\">\(tick.label)</text>"
        )
      }
    }
    return lines
  }

  private var curve: [String] {
    let path = points.enumerated().map { index, point in
      (index == 0 ? "M" : "L") + format(horizontal.position(point.noiseMultiplier)) + " "
        + format(vertical.position(point.epsilon))
    }
    return ["<path class=\"curve\" d=\"\(path.joined(separator: " "))\"/>"]
  }

  private var marker: [String] {
    guard answer.epsilon > 0, answer.epsilon.isFinite else { return [] }
    let (x, y) = (horizontal.position(answer.noiseMultiplier), vertical.position(answer.epsilon))
    return [
      "<line class=\"guide\" x1=\"\(Self.left)\" x2=\"\(format(x))\" y1=\"\(format(y))\" y2=\"\(format(y))\"/>",
      "<line class=\"guide\" x1=\"\(format(x))\" x2=\"\(format(x))\" y1=\"\(format(y))\" y2=\"\(Self.bottom)\"/>",
      "<circle class=\"dot\" cx=\"\(format(x))\" cy=\"\(format(y))\" r=\"6\"/>",
      "<text class=\"label\" x=\"\(format(x + 12))\" y=\"\(format(y - 10))\">"
        + "σ = \(PrivacyPlanAnswer.short(answer.noiseMultiplier)), ε = \(PrivacyPlanAnswer.short(answer.epsilon))</text>",
    ]
  }

  private func format(_ value: Double) -> String { String(format: "%.1f", value) }

  /// A logarithmic axis.
  private struct Axis {
    struct Tick {
      let value: Double
      let isLabelled: Bool
      let label: String
    }

    let low: Double
    let high: Double
    let from: Double
    let to: Double

    init(values: [Double], from: Double, to: Double) {
      let logs = values.map(log10)
      let (least, most) = (logs.min() ?? 0, logs.max() ?? 1)
      let margin = max(0.04 * (most - least), 0.02)
      low = least - margin
      high = most + margin
      self.from = from
      self.to = to
    }

    func position(_ value: Double) -> Double { from + (log10(value) - low) / (high - low) * (to - from) }

    /// 1 to 9 times powers of ten; labels at 1, 2 and 5, or at powers alone where there are many decades.
    var ticks: [Tick] {
      let decades = high - low
      let stride = decades > 12 ? 3 : 1
      var ticks: [Tick] = []
      for exponent in Int(low.rounded(.down))...Int(high.rounded(.up)) {
        for digit in decades > 6 ? 1...1 : 1...9 {
          let value = Double(digit) * pow(10, Double(exponent))
          guard log10(value) >= low, log10(value) <= high else { continue }
          let isLabelled = digit == 1 ? exponent % stride == 0 : decades <= 3 && (digit == 2 || digit == 5)
          ticks.append(Tick(value: value, isLabelled: isLabelled, label: String(format: "%.4g", value)))
        }
      }
      return ticks
    }
  }
}
