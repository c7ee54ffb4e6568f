import CoreMetrics
import Synchronization

/// Keeps metrics that are recorded through swift-metrics, and writes them in Prometheus' text format.
///
/// A recorder or timer that aggregates is a histogram, one that does not is a gauge; timers are in seconds. Metrics
/// that were described come in the order of their descriptions with help and buckets; others follow by name. Recording takes
/// the lock of one series for a few instructions; writing takes each lock once and never all of them.
public final class PrometheusRegistry: MetricsFactory {
  private enum Series: Sendable {
    case counter(CounterSeries)
    case gauge(GaugeSeries)
    case histogram(HistogramSeries)
  }

  private struct Family: Sendable {
    let description: MetricDescription
    var series: [SeriesLabels: Series] = [:]
  }

  private let order: [String]
  private let mostSeries: Int
  private let families: Mutex<[String: Family]>

  /// The media type of `text`.
  public static let contentType = PrometheusText.contentType

  /// - Parameters:
  ///   - descriptions: what is known of metrics beforehand; the first of a name counts.
  ///   - mostSeries: series of one metric beyond so many are not kept, so that labels that grow without end cost
  ///     nothing.
  public init(_ descriptions: [MetricDescription], mostSeries: Int = 500) {
    var (families, order): ([String: Family], [String]) = ([:], [])
    for description in descriptions where families[description.name] == nil {
      families[description.name] = Family(description: description)
      order.append(description.name)
    }
    self.order = order
    self.mostSeries = mostSeries
    self.families = Mutex(families)
  }

  /// Every series, in the text format; the same values give the same text.
  public func text() -> String {
    let families = families.withLock { $0 }
    let others = families.keys.filter { !order.contains($0) }.sorted()
    var text = ""
    for name in order + others {
      guard let family = families[name], !family.series.isEmpty else { continue }
      if !family.description.help.isEmpty {
        text += "# HELP \(name) \(PrometheusText.escaped(help: family.description.help))\n"
      }
      text += "# TYPE \(name) \(family.description.kind.rawValue)\n"
      for (labels, series) in family.series.sorted(by: { $0.key < $1.key }) {
        PrometheusRegistry.write(series, name: name, labels: labels.labels, to: &text)
      }
    }
    return text
  }

  private static func write(_ series: Series, name: String, labels: [SeriesLabels.Label], to text: inout String) {
    switch series {
    case .counter(let counter):
      text += "\(name)\(PrometheusText.labels(labels)) \(PrometheusText.number(counter.value))\n"
    case .gauge(let gauge):
      text += "\(name)\(PrometheusText.labels(labels)) \(PrometheusText.number(gauge.value))\n"
    case .histogram(let histogram):
      let snapshot = histogram.snapshot
      var count = 0
      for (bound, own) in zip(histogram.bounds + [.infinity], snapshot.counts) {
        count += own
        let le = SeriesLabels.Label(name: "le", value: PrometheusText.number(bound))
        text += "\(name)_bucket\(PrometheusText.labels(labels, adding: le)) \(count)\n"
      }
      text += "\(name)_sum\(PrometheusText.labels(labels)) \(PrometheusText.number(snapshot.sum))\n"
      text += "\(name)_count\(PrometheusText.labels(labels)) \(count)\n"
    }
  }

  /// The series of these labels, made where it is not there. Nil where the name belongs to a metric of another kind, or
  /// there are as many series as may be.
  private func series(
    _ label: String,
    _ dimensions: [(String, String)],
    kind: MetricDescription.Kind,
    make: (MetricDescription) -> Series
  ) -> Series? {
    let name = PrometheusText.metricName(label)
    let labels = SeriesLabels(dimensions, reserved: kind == .histogram ? "le" : nil)
    return families.withLock { families in
      let unknown: MetricDescription =
        switch kind {
        case .counter: .counter(name, "")
        case .gauge: .gauge(name, "")
        case .histogram: .histogram(name, "")
        }
      var family = families[name] ?? Family(description: unknown)
      guard family.description.kind == kind else { return nil }
      if let known = family.series[labels] { return known }
      guard family.series.count < mostSeries else { return nil }
      let made = make(family.description)
      family.series[labels] = made
      families[name] = family
      return made
    }
  }

  private func counter(_ label: String, _ dimensions: [(String, String)]) -> CounterSeries {
    let found = series(label, dimensions, kind: .counter) { _ in .counter(CounterSeries()) }
    if case .counter(let series)? = found { return series }
    return CounterSeries()
  }

  private func gauge(_ label: String, _ dimensions: [(String, String)]) -> GaugeSeries {
    let found = series(label, dimensions, kind: .gauge) { _ in .gauge(GaugeSeries()) }
    if case .gauge(let series)? = found { return series }
    return GaugeSeries()
  }

  private func histogram(_ label: String, _ dimensions: [(String, String)]) -> HistogramSeries {
    let found = series(label, dimensions, kind: .histogram) { .histogram(HistogramSeries(bounds: $0.buckets)) }
    if case .histogram(let series)? = found { return series }
    return HistogramSeries(bounds: [])
  }

  private func forget(_ handler: AnyObject) {
    families.withLock { families in
      for (name, var family) in families {
        family.series = family.series.filter { entry in
          switch entry.value {
          case .counter(let series): series !== handler
          case .gauge(let series): series !== handler
          case .histogram(let series): series !== handler
          }
        }
        families[name] = family
      }
    }
  }

  // MARK: What swift-metrics asks for

  /// A counter.
  public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
    counter(label, dimensions)
  }

  /// A counter of parts.
  public func makeFloatingPointCounter(
    label: String,
    dimensions: [(String, String)]
  ) -> any FloatingPointCounterHandler { counter(label, dimensions) }

  /// A gauge.
  public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler { gauge(label, dimensions) }

  /// A histogram, or without `aggregate` a gauge.
  public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
    if aggregate { histogram(label, dimensions) } else { gauge(label, dimensions) }
  }

  /// A histogram in seconds.
  public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
    histogram(label, dimensions)
  }

  /// Forgets a counter.
  public func destroyCounter(_ handler: any CounterHandler) { forget(handler) }
  /// Forgets a counter.
  public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) { forget(handler) }
  /// Forgets a gauge.
  public func destroyMeter(_ handler: any MeterHandler) { forget(handler) }
  /// Forgets a histogram or a gauge.
  public func destroyRecorder(_ handler: any RecorderHandler) { forget(handler) }
  /// Forgets a histogram.
  public func destroyTimer(_ handler: any TimerHandler) { forget(handler) }
}
