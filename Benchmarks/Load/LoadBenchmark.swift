import ArgumentParser

/// What a coordinator carries: rounds without training, idle sessions, a long run with clients that come and go.
@main
struct LoadBenchmark: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load-benchmark",
    abstract: "Measures a coordinator that does everything but wait for training.",
    discussion: """
      The coordinator serves in a process of its own, over TLS on the loopback interface, and makes every update durable before it
      acknowledges it, as ever. The clients are here, in one process; they answer each round at once with tensors that are
      ready, and keep nothing on the disk.

        load-benchmark rounds --clients 10 --megabytes 1.5
        load-benchmark idle --sessions 1000
        load-benchmark soak --rounds 2000
      """,
    subcommands: [Rounds.self, Idle.self, Soak.self, Serve.self]
  )
}
