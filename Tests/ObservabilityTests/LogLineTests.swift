import FedLoRAObservability
import FedLoRATestSupport
import Foundation
import Logging
import Testing

@Suite("Log lines")
struct LogLineTests {
  private let lines = EventLog<String>()

  private func logger(_ format: LogFormat, level: Logger.Level = .info) -> Logger {
    let lines = lines
    return Logger(label: "fedlora.test") {
      LineLogHandler(
        label: $0,
        level: level,
        format: format,
        clock: { Date(timeIntervalSince1970: 1_700_000_000.25) },
        write: lines.record
      )
    }
  }

  @Test("in JSON are one object each, exactly")
  func json() throws {
    var logger = logger(.json)
    logger[metadataKey: "run"] = "r"
    logger.info(
      "round \"open\"\n\u{1}\u{1B}é",
      metadata: [
        "round": .stringConvertible(3), "client": "a\\b", "list": ["x", "y"], "flag": .stringConvertible(true),
      ]
    )
    let line = try #require(lines.events.first)
    #expect(
      line == #"{"time":"2023-11-14T22:13:20.250Z","level":"info","label":"fedlora.test","message":"round \"open\"\n"#
        + #"\u0001\u001bé","metadata":{"client":"a\\b","flag":true,"list":["x","y"],"round":3,"run":"r"}}"#
    )
    let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
    #expect(object["message"] as? String == "round \"open\"\n\u{1}\u{1B}é")
    #expect(object["time"] as? String == "2023-11-14T22:13:20.250Z")
    #expect((object["metadata"] as? [String: Any])?["round"] as? Int == 3)
  }

  @Test("in text stay one line, whatever a peer puts into them")
  func text() throws {
    logger(.text).warning("connection refused", metadata: ["reason": "x\n2023 ERROR forged\u{1B}[2J", "peer": "p"])
    #expect(
      lines.events == [
        #"2023-11-14T22:13:20.250Z WARNING connection refused peer=p reason=x\u{a}2023 ERROR forged\u{1b}[2J"#
      ]
    )
  }

  @Test("prefer a record's fields to its logger's, and these to the provider's; what is less severe is left out")
  func fields() throws {
    let lines = lines
    var logger = Logger(label: "l") { label in
      var handler = LineLogHandler(label: label, level: .notice, format: .json, write: lines.record)
      handler.metadataProvider = Logger.MetadataProvider { ["a": "provider", "b": "provider", "c": "provider"] }
      return handler
    }
    logger[metadataKey: "b"] = "logger"
    logger[metadataKey: "c"] = "logger"
    logger.info("left out")
    logger.notice("kept", metadata: ["c": "record"])
    #expect(lines.events.count == 1)
    #expect(lines.events[0].hasSuffix(#""metadata":{"a":"provider","b":"logger","c":"record"}}"#))
  }
}
