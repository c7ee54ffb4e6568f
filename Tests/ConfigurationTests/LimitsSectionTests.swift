import FedLoRAConfiguration
import FedLoRAProtocol
import FedLoRATestSupport
import Foundation
import Testing

@Suite("Limits and enrolment in a run file")
struct LimitsSectionTests {
  private func load(_ assignments: String...) throws -> RunConfiguration {
    let scratch = try ScratchFolder()
    let file = scratch.appending("run.yaml")
    try Data("labels: [a, b]\n".utf8).write(to: file)
    return try RunConfiguration.load(file, assignments: assignments).0
  }

  @Test("are the transport's own where nothing is said, and what is said otherwise")
  func transport() throws {
    let standard = try load().limits.transport
    let own = LimitsSectionTests.values(standard)
    #expect(own == LimitsSectionTests.values(.init()))
    let chosen = try load(
      "limits.connections=5",
      "limits.connections_per_address=4",
      "limits.connections_per_client=3",
      "limits.handshakes=2",
      "limits.handshakes_per_address=1",
      "limits.handshake_seconds=0.5",
      "limits.hello_seconds=1.5",
      "limits.stream_seconds=2.5",
      "limits.stream_memory_mib=7"
    ).limits.transport
    #expect(
      LimitsSectionTests.values(chosen)
        == ["5", "4", "3", "2", "1", "0.5 seconds", "1.5 seconds", "2.5 seconds", "\(7 << 20)"]
    )
  }

  private static func values(_ transport: TransportConfiguration) -> [String] {
    [
      "\(transport.maximumConnections)", "\(transport.maximumConnectionsPerNetwork)",
      "\(transport.maximumConnectionsPerParticipant)", "\(transport.maximumPendingHandshakes)",
      "\(transport.maximumPendingHandshakesPerNetwork)", "\(transport.handshakeTimeout)", "\(transport.helloTimeout)",
      "\(transport.streamTimeout)", "\(transport.inboundStreamBudget)",
    ]
  }

  @Test(
    "refuse what cannot be meant",
    arguments: [
      "limits.connections=0", "limits.handshakes_per_address=-1", "limits.hello_seconds=0",
      "limits.handshake_seconds=.inf", "limits.stream_memory_mib=0", "enrolment.port=70000",
    ]
  )
  func ranges(assignment: String) throws {
    let key = String(assignment.prefix { $0 != "=" })
    #expect {
      try load(assignment)
    } throws: { error in
      (error as? ConfigurationError)?.key == key
    }
  }

  @Test("keep who has no certificate off the run's port")
  func ports() throws {
    #expect(throws: ConfigurationError.self) {
      try load("enrolment.ca=ca", "enrolment.port=7443", "listen.port=7443")
    }
    #expect(try load("enrolment.ca=ca").enrolment.port == 7444)
    #expect(try load("enrolment.ca=ca", "enrolment.port=0", "listen.port=0").enrolment.ca == "ca")
  }
}
