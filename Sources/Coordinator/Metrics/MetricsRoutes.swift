import FedLoRAObservability

extension CoordinatorServer {
  /// What a `MetricsServer` of this coordinator answers: `/metrics` in Prometheus' text format, and `/healthz`, which
  /// is 200 while the run goes on and 503 once it has ended or was stopped.
  /// - Parameters:
  ///   - registry: where this coordinator records its metrics.
  ///   - sample: brings other metrics of the registry up to date.
  public func metricsRoutes(
    _ registry: PrometheusRegistry,
    sample: @escaping @Sendable () -> Void = {}
  ) -> [String: MetricsServer.Route] {
    [
      "/metrics": {
        self.sampleMetrics()
        sample()
        return HTTPAnswer(status: 200, contentType: PrometheusRegistry.contentType, body: registry.text())
      },
      "/healthz": {
        self.isRunOver
          ? HTTPAnswer(status: 503, body: "the run is over\n") : HTTPAnswer(status: 200, body: "ok\n")
      },
    ]
  }
}
