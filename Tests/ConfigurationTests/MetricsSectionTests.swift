import FedLoRAConfiguration
import FedLoRATestSupport
import Foundation
import Testing

@Suite("Metrics in a run file")
struct MetricsSectionTests {
  private func load(_ assignments: String...) throws -> RunConfiguration {
    let scratch = try ScratchFolder()
    let file = scratch.appending("run.yaml")
    try Data("labels: [a, b]\n".utf8).write(to: file)
    return try RunConfiguration.load(file, assignments: assignments).0
  }

  @Test("are off and on loopback where nothing is said")
  func defaults() throws {
    let metrics = try load().metrics
    #expect(metrics.port == 0 && metrics.host == "127.0.0.1")
    #expect(try load("metrics.port=9464", "metrics.host=::1").metrics.port == 9464)
  }

  @Test(
    "are refused by key where the port cannot be",
    arguments: [
      ["metrics.port=-1"], ["metrics.port=65536"], ["metrics.port=7443"], ["metrics.port=x"],
      ["metrics.port=7444", "enrolment.ca=ca"],
    ]
  )
  func badPorts(assignments: [String]) throws {
    let scratch = try ScratchFolder()
    let file = scratch.appending("run.yaml")
    try Data("labels: [a, b]\n".utf8).write(to: file)
    #expect {
      _ = try RunConfiguration.load(file, assignments: assignments)
    } throws: { error in
      (error as? ConfigurationError)?.key == "metrics.port"
    }
    #expect(try load("metrics.port=7444").metrics.port == 7444)
  }

  @Test("an empty host is refused only where metrics are shown")
  func host() throws {
    #expect {
      _ = try load("metrics.port=9464", "metrics.host=''")
    } throws: { error in
      (error as? ConfigurationError)?.key == "metrics.host"
    }
    #expect(try load("metrics.host=''").metrics.port == 0)
  }
}
