import Crypto
import FedLoRACheckpoint
import FedLoRAProtocol
import Foundation
import SwiftProtobuf
import Testing

@Suite("Tensor streams")
struct StreamTests {
  static func tensors() throws -> TensorSet {
    try TensorSet([
      ("a.lora_A.weight", Tensor(shape: [2, 3], values: [1, 2, 3, 4, 5, 6])),
      ("b.empty", Tensor(shape: [0, 4], values: [])),
      ("b.lora_B.weight", Tensor(shape: [5], values: [-1, 0.5, .pi, .leastNonzeroMagnitude, -0.0])),
      ("c.scalar", Tensor(shape: [], values: [42])),
    ])
  }

  private func update(_ tensors: TensorSet, change: (inout WireTensorStream) -> Void = { _ in }) -> WireEnvelope {
    var stream = TensorPayload(tensors).declaration
    change(&stream)
    return WireEnvelope(
      .update(
        .with {
          $0.round = 1
          $0.tensors = stream
        }
      )
    )
  }

  /// The bytes of `tensors` cut at `size`.
  private func chunks(_ tensors: TensorSet, size: Int) -> [WireChunk] {
    let bytes = tensors.entries.reduce(into: Data()) { data, entry in
      entry.tensor.values.withUnsafeBytes { data.append(contentsOf: $0) }
    }
    return stride(from: 0, to: bytes.count, by: size).map { start in
      .with {
        $0.offset = UInt64(start)
        $0.data = bytes[start..<min(start + size, bytes.count)]
      }
    }
  }

  /// Feeds a message and its chunks to a reader; the first message that is settled.
  private func read(
    _ envelope: WireEnvelope,
    _ chunks: [WireChunk],
    expecting layout: TensorLayout,
    consequence: StreamExpectation.Consequence = .report,
    limit: Int = 1 << 20
  ) throws -> Inbound? {
    var reader = InboundReader(maximumStreamLength: limit)
    let stream = try #require(try reader.declaration(of: envelope))
    let expectation = StreamExpectation(layout, onViolation: consequence)
    if let inbound = try reader.begin(envelope, stream: stream, expectation: expectation) { return inbound }
    for chunk in chunks {
      if let inbound = try reader.append(chunk) { return inbound }
    }
    return nil
  }

  private func violation(
    of envelope: WireEnvelope,
    _ chunks: [WireChunk] = [],
    expecting layout: TensorLayout,
    limit: Int = 1 << 20
  ) throws -> StreamViolation {
    let violation = try #require(
      try read(envelope, chunks, expecting: layout, limit: limit)?.violation,
      "the stream was not refused"
    )
    // The same stream ends the connection where that is the consequence.
    #expect {
      try read(envelope, chunks, expecting: layout, consequence: .close, limit: limit)
    } throws: { error in
      guard case .violation(let code, _)? = error as? TransportError else { return false }
      return code == violation.code
    }
    return violation
  }

  @Test("come out as they went in, wherever they are cut", arguments: [1, 3, 4, 7, 24, 1000])
  func roundTrip(size: Int) throws {
    let tensors = try Self.tensors()
    let inbound = try read(update(tensors), chunks(tensors, size: size), expecting: TensorLayout(tensors))
    let found = try #require(inbound?.tensors)
    #expect(found == tensors)
    #expect(found["b.lora_B.weight"]?.values.map(\.bitPattern) == tensors["b.lora_B.weight"]?.values.map(\.bitPattern))
  }

  @Test("are sent in the chunks that a receiver takes", arguments: [1, 5, 8, 24, 1 << 20])
  func sealing(size: Int) throws {
    let tensors = try Self.tensors()
    let sealed = try SealedMessage(update(tensors), payload: TensorPayload(tensors), chunkLength: size)
    let read = try SealedMessage(bytes: sealed.bytes)
    #expect(read == sealed)
    #expect(read.tensors == tensors)
  }

  @Test("without tensors are complete at once")
  func empty() throws {
    let inbound = try read(update(TensorSet()), [], expecting: TensorLayout(TensorSet()))
    #expect(inbound?.tensors?.isEmpty == true)
    let bare = WireEnvelope(.update(.with { $0.round = 1 }))
    #expect(try read(bare, [], expecting: TensorLayout(TensorSet()))?.tensors?.isEmpty == true)
  }

  @Test("that an Update leaves out are missed")
  func absent() throws {
    let bare = WireEnvelope(.update(.with { $0.round = 1 }))
    let violation = try violation(of: bare, expecting: TensorLayout(Self.tensors()))
    #expect(violation.code == .missingTensor)
    #expect(violation.text.contains("'a.lora_A.weight'"))
  }

  struct Case: Sendable, CustomTestStringConvertible {
    let code: ReasonCode
    let words: [String]
    let change: @Sendable (inout WireTensorStream) -> Void
    var testDescription: String { "\(code) \(words.joined(separator: " "))" }
  }

  static let cases: [Case] = [
    Case(code: .missingTensor, words: ["'c.scalar'"]) { $0.tensors.removeLast() },
    Case(code: .unexpectedTensor, words: ["'zz'", "not expected"]) { $0.tensors.append(.with { $0.name = "zz" }) },
    Case(code: .unexpectedTensor, words: ["'c.scalar'", "twice"]) { $0.tensors.append($0.tensors[3]) },
    Case(code: .unexpectedTensor, words: ["'renamed'"]) { $0.tensors[0].name = "renamed" },
    Case(code: .wrongOrder, words: ["'c.scalar'", "'a.lora_A.weight'"]) { $0.tensors.swapAt(0, 3) },
    Case(code: .wrongDataType, words: ["'a.lora_A.weight'"]) { $0.tensors[0].dataType = .unspecified },
    Case(code: .wrongDataType, words: ["'c.scalar'"]) { $0.tensors[3].dataType = .UNRECOGNIZED(9) },
    Case(code: .wrongShape, words: ["'a.lora_A.weight'", "[3, 2]", "[2, 3]"]) { $0.tensors[0].shape = [3, 2] },
    Case(code: .wrongShape, words: ["'b.lora_B.weight'", "[1, 5]"]) { $0.tensors[2].shape = [1, 5] },
    Case(code: .wrongShape, words: ["18446744073709551615"]) { $0.tensors[0].shape = [.max, .max, 2] },
    Case(code: .tooLarge, words: ["49", "48"]) { $0.length = 49 },
    Case(code: .tooLarge, words: ["18446744073709551615"]) { $0.length = .max },
    Case(code: .wrongLength, words: ["44", "48"]) { $0.length = 44 },
    Case(code: .wrongHash, words: ["31", "32"]) { $0.sha256.removeLast() },
    Case(code: .wrongHash, words: ["was declared"]) { $0.sha256[0] ^= 1 },
  ]

  @Test("that are not as expected are refused with the reason", arguments: cases)
  func declarations(_ item: Case) throws {
    let tensors = try Self.tensors()
    let found = try violation(
      of: update(tensors, change: item.change),
      chunks(tensors, size: 16),
      expecting: TensorLayout(tensors)
    )
    #expect(found.code == item.code)
    for word in item.words { #expect(found.text.contains(word), "\(found.text)") }
  }

  @Test("with values that are not finite are refused", arguments: [Float.nan, .infinity, -.infinity, .signalingNaN])
  func notFinite(value: Float) throws {
    var tensors = try Self.tensors()
    tensors["b.lora_B.weight"]?.values[3] = value
    let found = try violation(of: update(tensors), chunks(tensors, size: 16), expecting: TensorLayout(tensors))
    #expect(found.code == .notFinite)
    #expect(found.text.contains("'b.lora_B.weight'") && found.text.contains("index 3"), "\(found.text)")
  }

  @Test("with chunks out of place are refused")
  func chunkViolations() throws {
    let tensors = try Self.tensors()
    let layout = TensorLayout(tensors)
    let good = chunks(tensors, size: 16)
    func code(_ change: (inout [WireChunk]) -> Void) throws -> ReasonCode {
      var changed = good
      change(&changed)
      return try violation(of: update(tensors), changed, expecting: layout).code
    }
    #expect(try code { $0.swapAt(0, 1) } == .wrongOffset)
    #expect(try code { $0[1].offset = 15 } == .wrongOffset)
    #expect(try code { $0[1] = $0[0] } == .wrongOffset)
    #expect(try code { $0[1].offset = .max } == .wrongOffset)
    #expect(try code { $0[0].data = Data() } == .emptyChunk)
    #expect(try code { $0[2].data.append(0) } == .tooLarge)
    #expect(try code { $0[1].data[$0[1].data.startIndex] ^= 1 } == .wrongHash)
  }

  @Test("in chunks beyond 1 MiB are refused")
  func largeChunk() throws {
    let tensors = try TensorSet([("w", Tensor(zeros: [1 << 19]))])
    let large = chunks(tensors, size: (1 << 20) + 4)
    let layout = TensorLayout(tensors)
    #expect(try violation(of: update(tensors), large, expecting: layout, limit: 1 << 22).code == .tooLarge)
    #expect(
      try read(update(tensors), chunks(tensors, size: 1 << 20), expecting: layout, limit: 1 << 22)?.tensors != nil
    )
    // The limit on whole streams.
    #expect(try violation(of: update(tensors), expecting: layout, limit: 1 << 20).code == .tooLarge)
  }

  @Test("that were refused are thrown away, and the next one counts")
  func discarding() throws {
    let tensors = try Self.tensors()
    let layout = TensorLayout(tensors)
    var reader = InboundReader(maximumStreamLength: 100)
    let bad = update(tensors) { $0.sha256[0] ^= 1 }
    let stream = try #require(try reader.declaration(of: bad))
    _ = try reader.begin(bad, stream: stream, expectation: .update(layout))
    let outcomes = try chunks(tensors, size: 16).compactMap { try reader.append($0) }
    #expect(outcomes.map(\.violation?.code) == [.wrongHash])
    #expect(try reader.append(.with { $0.data = Data(count: 60) }) == nil as Inbound?)
    let good = update(tensors)
    let again = try #require(try reader.declaration(of: good))
    #expect(try reader.begin(good, stream: again, expectation: .update(layout)) == nil as Inbound?)
    #expect(try chunks(tensors, size: 16).compactMap { try reader.append($0) }.first?.tensors == tensors)
  }

  @Test("that were refused may not go on for ever")
  func discardLimit() throws {
    let tensors = try Self.tensors()
    var reader = InboundReader(maximumStreamLength: 100)
    let bad = update(tensors) { $0.length = 1 }
    let stream = try #require(try reader.declaration(of: bad))
    let refused = try reader.begin(bad, stream: stream, expectation: .update(TensorLayout(tensors)))
    #expect(refused?.violation?.code == .wrongLength)
    _ = try reader.append(.with { $0.data = Data(count: 100) })
    #expect(throws: TransportError.self) { try reader.append(.with { $0.data = Data(count: 1) }) }
  }

  @Test("follow each other and need a declaration")
  func order() throws {
    let tensors = try Self.tensors()
    var reader = InboundReader(maximumStreamLength: 100)
    #expect(throws: TransportError.self) { try reader.append(.with { $0.data = Data(count: 1) }) }
    let envelope = update(tensors)
    let stream = try #require(try reader.declaration(of: envelope))
    _ = try reader.begin(envelope, stream: stream, expectation: .update(TensorLayout(tensors)))
    #expect(throws: TransportError.self) { try reader.declaration(of: envelope) }
  }

  @Test("are declared in a layout that a manifest can hold")
  func layouts() throws {
    let layout = TensorLayout(try Self.tensors())
    #expect(try TensorLayout(layout.declarations) == layout)
    #expect(layout.byteCount == 48)
    func code(_ change: (inout [WireTensorDeclaration]) -> Void) -> ReasonCode? {
      var declarations = layout.declarations
      change(&declarations)
      do {
        _ = try TensorLayout(declarations, maximumByteCount: 1000)
        return nil
      } catch {
        return error.code
      }
    }
    #expect(code { _ in } == nil)
    #expect(code { $0.swapAt(0, 1) } == .wrongOrder)
    #expect(code { $0[1] = $0[0] } == .unexpectedTensor)
    #expect(code { $0[0].name = "" } == .unexpectedTensor)
    #expect(code { $0[0].dataType = .unspecified } == .wrongDataType)
    #expect(code { $0[0].shape = [.max] } == .tooLarge)
    #expect(code { $0[0].shape = [1 << 40, 1 << 40] } == .tooLarge)
    #expect(code { $0[0].shape = [251] } == .tooLarge)
  }

  @Test("that were sealed and then damaged are found", arguments: 0..<40)
  func damage(seed: UInt64) throws {
    var generator = SplitMix64(state: seed)
    let tensors = try Self.tensors()
    var bytes = try SealedMessage(update(tensors), payload: TensorPayload(tensors), chunkLength: 16).bytes
    if seed < 20 {
      bytes = bytes.prefix(Int.random(in: 0..<bytes.count, using: &generator))
      #expect(throws: (any Error).self, "seed \(seed)") { try SealedMessage(bytes: bytes) }
    } else {
      // A flipped bit in the data of the last chunk.
      bytes[bytes.endIndex - 1 - Int.random(in: 0..<4, using: &generator)] ^=
        1 << UInt8.random(in: 0..<8, using: &generator)
      #expect(throws: StreamViolation.self, "seed \(seed)") { try SealedMessage(bytes: bytes) }
    }
  }
}

/// Equality for the tests' comparisons with nil only.
func == (left: Inbound?, right: Inbound?) -> Bool {
  switch (left, right) {
  case (nil, nil): true
  case (let left?, let right?): left.envelope == right.envelope && left.tensors == right.tensors
  default: false
  }
}
