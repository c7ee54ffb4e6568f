import FedLoRACheckpoint
import Foundation
import Testing

/// A folder that is removed with the value that owns it.
final class TemporaryFolder {
  let url = FileManager.default.temporaryDirectory.appendingPathComponent("fedlora-\(UUID().uuidString)")
  init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }
  deinit { try? FileManager.default.removeItem(at: url) }
  func file(_ name: String) -> URL { url.appendingPathComponent(name) }
}

@Suite struct SafetensorsTests {
  private func bytes(_ header: String, data: [UInt8] = [], declared: UInt64? = nil) -> Data {
    var result = Data()
    withUnsafeBytes(of: (declared ?? UInt64(header.utf8.count)).littleEndian) { result.append(contentsOf: $0) }
    result.append(contentsOf: header.utf8)
    result.append(contentsOf: data)
    return result
  }

  @Test func tensorsComeBackAsTheyWereWritten() throws {
    let folder = try TemporaryFolder()
    let set = try TensorSet([
      ("b.weight", Tensor(shape: [2, 3], values: [1, -2, 3.5, .leastNonzeroMagnitude, 0, -0])),
      ("a \"quoted\" ü", Tensor(shape: [], values: [7])),
      ("empty", Tensor(shape: [0, 4], values: [])),
    ])
    let url = folder.file("t.safetensors")
    try SafetensorsFile.write(set, to: url, metadata: ["format": "pt"])
    #expect(try SafetensorsFile.read(url) == set)
    #expect(try SafetensorsFile(opening: url).metadata == ["format": "pt"])
    #expect(try SafetensorsFile.serialize(set) == SafetensorsFile.serialize(set))
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path) == ["t.safetensors"])
  }

  @Test func halfAndBrainFloatsAreWidenedExactly() throws {
    let folder = try TemporaryFolder()
    let halves: [UInt16] = [0x3C00, 0xC000, 0x0001, 0x03FF, 0x7BFF, 0x8000, 0x3555]
    let brains: [UInt16] = [0x3F80, 0xC000, 0x4049, 0x0001]
    var data: [UInt8] = []
    for half in halves + brains { data += [UInt8(half & 0xFF), UInt8(half >> 8)] }
    let header =
      "{\"h\":{\"dtype\":\"F16\",\"shape\":[7],\"data_offsets\":[0,14]},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[14,22]}}"
    let url = folder.file("h.safetensors")
    try bytes(header, data: data).write(to: url)
    let file = try SafetensorsFile(opening: url)
    #expect(try file.floats("h") == [1, -2, 0x1p-24, 0x3FFp-24, 65504, -0.0, 0x1.554p-2])
    #expect(try file.floats("b") == [1, -2, 3.140625, Float(bitPattern: 0x0001_0000)])
  }

  struct Malformed: Sendable, CustomStringConvertible {
    let description: String
    let content: Data
    let code: SafetensorsError.Code
  }

  static let malformed: [Malformed] = {
    func make(_ header: String, _ data: Int = 0, declared: UInt64? = nil) -> Data {
      SafetensorsTests().bytes(header, data: [UInt8](repeating: 0, count: data), declared: declared)
    }
    func one(_ dtype: String, _ shape: String, _ offsets: String) -> String {
      "{\"w\":{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}}"
    }
    return [
      .init(description: "empty file", content: Data(), code: .truncated),
      .init(description: "three bytes", content: Data([1, 2, 3]), code: .truncated),
      .init(description: "absurd header length", content: make("{}", declared: .max), code: .headerLength),
      .init(description: "header length zero", content: make("", declared: 0), code: .headerLength),
      .init(description: "header cut short", content: make("{}", declared: 50), code: .truncated),
      .init(description: "not JSON", content: make("{{{{"), code: .malformedHeader),
      .init(description: "a list", content: make("[1]"), code: .malformedHeader),
      .init(description: "entry is a number", content: make("{\"w\":3}"), code: .malformedHeader),
      .init(description: "metadata of numbers", content: make("{\"__metadata__\":{\"a\":1}}"), code: .malformedHeader),
      .init(
        description: "no offsets",
        content: make("{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}"),
        code: .malformedHeader
      ),
      .init(description: "fractional extent", content: make(one("F32", "[1.5]", "[0,4]"), 4), code: .malformedHeader),
      .init(description: "negative extent", content: make(one("F32", "[-1]", "[0,4]"), 4), code: .malformedHeader),
      .init(description: "negative offset", content: make(one("F32", "[1]", "[-4,0]"), 4), code: .malformedHeader),
      .init(description: "unknown dtype", content: make(one("F8", "[4]", "[0,4]"), 4), code: .unsupportedType),
      .init(description: "wrong dtype for the span", content: make(one("F64", "[1]", "[0,4]"), 4), code: .badOffsets),
      .init(description: "backwards offsets", content: make(one("F32", "[1]", "[4,0]"), 4), code: .badOffsets),
      .init(description: "data cut short", content: make(one("F32", "[4]", "[0,16]"), 8), code: .truncated),
      .init(
        description: "extents that overflow",
        content: make(one("F32", "[4611686018427387904,4]", "[0,4]"), 4),
        code: .badOffsets
      ),
      .init(description: "bytes left over", content: make(one("F32", "[1]", "[0,4]"), 8), code: .badOffsets),
      .init(
        description: "overlap",
        content: make(
          "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
          12
        ),
        code: .badOffsets
      ),
      .init(
        description: "hole",
        content: make(
          "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
          12
        ),
        code: .badOffsets
      ),
    ]
  }()

  @Test(arguments: malformed)
  func aMalformedFileIsRefusedByName(_ example: Malformed) throws {
    let folder = try TemporaryFolder()
    let url = folder.file("broken.safetensors")
    try example.content.write(to: url)
    let error = #expect(throws: SafetensorsError.self) { try SafetensorsFile(opening: url) }
    #expect(error?.code == example.code, "\(String(describing: error))")
    #expect(error?.description.contains("broken.safetensors") == true)
  }

  @Test func everyTruncationOfAGoodFileIsRefused() throws {
    let folder = try TemporaryFolder()
    let whole = try SafetensorsFile.serialize(TensorSet(["w": Tensor(shape: [3], values: [1, 2, 3])]))
    let url = folder.file("cut.safetensors")
    for length in 0..<whole.count {
      try whole.prefix(length).write(to: url)
      #expect(throws: SafetensorsError.self) { try SafetensorsFile(opening: url) }
    }
  }

  @Test func aMissingTensorAndAWrongTypeNameTheTensor() throws {
    let folder = try TemporaryFolder()
    let url = folder.file("i.safetensors")
    try bytes("{\"n\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]}}", data: [5, 0, 0, 0, 0, 0, 0, 0]).write(
      to: url
    )
    let file = try SafetensorsFile(opening: url)
    #expect(try file.integers("n") == [5])
    #expect(throws: SafetensorsError.self) { try file.floats("n") }
    let missing = #expect(throws: SafetensorsError.self) { try file.floats("other") }
    #expect(missing?.code == .missingTensor)
    #expect(missing?.tensor == "other")
    let absent = #expect(throws: SafetensorsError.self) { try SafetensorsFile(opening: folder.file("none")) }
    #expect(absent?.code == .unreadable)
  }

  @Test func shardsAreFoundThroughTheirIndex() throws {
    let folder = try TemporaryFolder()
    try SafetensorsFile.write(TensorSet(["a": Tensor(shape: [1], values: [1])]), to: folder.file("one.safetensors"))
    try SafetensorsFile.write(TensorSet(["b": Tensor(shape: [1], values: [2])]), to: folder.file("two.safetensors"))
    func index(_ map: String) throws -> CheckpointFolder {
      try Data("{\"weight_map\":\(map)}".utf8).write(to: folder.file("model.safetensors.index.json"))
      return try CheckpointFolder(folder.url)
    }
    let good = try index("{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}")
    #expect(good.names == ["a", "b"])
    #expect(try good.file(holding: "b")?.floats("b") == [2])
    #expect(throws: SafetensorsError.self) { try index("{\"a\":\"two.safetensors\"}") }
    #expect(throws: SafetensorsError.self) { try index("{\"a\":\"../one.safetensors\"}") }
    #expect(throws: SafetensorsError.self) { try index("{\"a\":\"three.safetensors\"}") }
    #expect(throws: SafetensorsError.self) { try index("[]") }
  }
}
