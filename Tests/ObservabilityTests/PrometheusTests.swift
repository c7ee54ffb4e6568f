import CoreMetrics
import FedLoRAObservability
import FedLoRATestSupport
import Testing

@Suite("Prometheus' text format")
struct PrometheusTests {
  @Test("is written exactly: order, escapes, cumulative buckets")
  func exactText() {
    let registry = PrometheusRegistry([
      .histogram("wait_seconds", "How long.", buckets: [1, 0.25, 1, .infinity]),
      .counter("seen_total", "A backslash \\ and\nan end of line."), .gauge("unused", "Never recorded."),
    ])
    let wait = Timer(label: "wait_seconds", dimensions: [("phase", "a")], factory: registry)
    for nanoseconds in [250_000_000, 250_000_001, 1_500_000_000] { wait.recordNanoseconds(nanoseconds) }
    Counter(label: "seen_total", dimensions: [("b", "x\"y\\z\n"), ("a", "ü")], factory: registry).increment(by: 3)
    Counter(label: "seen_total", factory: registry).increment()
    Meter(label: "level", factory: registry).set(-0.5)
    #expect(
      registry.text() == """
        # HELP wait_seconds How long.
        # TYPE wait_seconds histogram
        wait_seconds_bucket{phase="a",le="0.25"} 1
        wait_seconds_bucket{phase="a",le="1"} 2
        wait_seconds_bucket{phase="a",le="+Inf"} 3
        wait_seconds_sum{phase="a"} 2.000000001
        wait_seconds_count{phase="a"} 3
        # HELP seen_total A backslash \\\\ and\\nan end of line.
        # TYPE seen_total counter
        seen_total 1
        seen_total{a="ü",b="x\\"y\\\\z\\n"} 3
        # TYPE level gauge
        level -0.5

        """
    )
  }

  @Test("has words for what is no number, and whole numbers without a point")
  func numbers() throws {
    let registry = PrometheusRegistry([.histogram("size", "", buckets: [10])])
    for (name, value) in [
      ("a", Double.nan), ("b", .infinity), ("c", -.infinity), ("d", 1e300), ("e", 123_456_789_012), ("f", 1e-7),
      ("g", 0),
    ] { Meter(label: name, factory: registry).set(value) }
    let size = Recorder(label: "size", factory: registry)
    for value in [10, 10.5, Double.nan, .infinity] { size.record(value) }
    let text = registry.text()
    for line in [
      "a NaN", "b +Inf", "c -Inf", "d 1e+300", "e 123456789012", "f 1e-07", "g 0", "size_bucket{le=\"10\"} 1",
      "size_bucket{le=\"+Inf\"} 4", "size_sum NaN", "size_count 4",
    ] { #expect(text.contains("\n\(line)\n"), "\(line) in \(text)") }
    #expect(try Scrape(text).samples.count == 11)
  }

  @Test("keeps names to the allowed characters, and le for itself")
  func names() throws {
    let registry = PrometheusRegistry([])
    Recorder(label: "9 lives/s", dimensions: [("le", "x"), ("__own", "y"), ("a-b", "z")], factory: registry).record(1)
    let text = registry.text()
    #expect(text.contains("_9_lives_s_count{a_b=\"z\",exported_le=\"x\",label__own=\"y\"} 1\n"), "\(text)")
    _ = try Scrape(text)
  }

  @Test("the same labels in another order are the same series; counters never fall; another kind is not mixed in")
  func series() {
    let registry = PrometheusRegistry([])
    Counter(label: "n", dimensions: [("a", "1"), ("b", "2")], factory: registry).increment(by: 2)
    Counter(label: "n", dimensions: [("b", "2"), ("a", "1")], factory: registry).increment(by: -7)
    FloatingPointCounter(label: "n", dimensions: [("b", "2"), ("a", "1")], factory: registry).increment(by: 0.5)
    Meter(label: "n", factory: registry).set(99)
    #expect(registry.text() == "# TYPE n counter\nn{a=\"1\",b=\"2\"} 2.5\n")
    Counter(label: "n", dimensions: [("a", "1"), ("b", "2")], factory: registry).destroy()
    #expect(registry.text().isEmpty)
  }

  @Test("labels that grow without end cost no more than the bound")
  func bound() {
    let registry = PrometheusRegistry([], mostSeries: 3)
    for number in 0..<100 {
      Counter(label: "n_total", dimensions: [("word", "\(number)")], factory: registry).increment()
    }
    #expect(registry.text().split(separator: "\n").count == 4)
  }

  @Test("counts every observation made from many threads")
  func threads() async throws {
    let registry = PrometheusRegistry([])
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<8 {
        group.addTask {
          let timer = Timer(label: "t_seconds", factory: registry)
          let counter = Counter(label: "n_total", factory: registry)
          for _ in 0..<1000 {
            timer.recordNanoseconds(2_000_000)
            counter.increment()
          }
        }
      }
    }
    let scrape = try Scrape(registry.text())
    #expect(scrape["n_total"] == 8000)
    #expect(scrape["t_seconds_count"] == 8000)
    #expect(scrape["t_seconds_bucket{le=\"0.0025\"}"] == 8000 && scrape["t_seconds_bucket{le=\"0.001\"}"] == 0)
  }

  @Test("the process's own numbers are there and plausible")
  func process() throws {
    let registry = PrometheusRegistry(ProcessMetrics.descriptions)
    let process = ProcessMetrics(registry)
    let before = try #require(ProcessReadings.openFiles)
    process.sample()
    let scrape = try Scrape(registry.text())
    #expect(scrape.types.count == ProcessMetrics.descriptions.count && scrape.help.count == scrape.types.count)
    #expect(try #require(scrape["process_resident_memory_bytes"]) > 1_000_000)
    #expect(abs(try #require(scrape["process_open_fds"]) - Double(before)) < 50)
    let start = try #require(scrape["process_start_time_seconds"])
    #expect(start > 1.6e9 && start < 1e11)
    #expect(try #require(scrape["process_cpu_seconds_total"]) > 0)
    #expect(try #require(scrape["process_max_fds"]) >= Double(before))
  }
}
