import FedLoRAEngine
import Foundation
import Testing

@Suite("Data files are read, or refused with file, line and column")
struct DatasetReaderTests {
  private func read(
    _ text: String,
    _ format: DatasetFormat,
    columns: DatasetColumns = DatasetColumns(),
    labels: [String]? = nil
  ) throws -> Dataset {
    try DatasetReader.read(Array(text.utf8), name: "data", format: format, columns: columns, labels: labels)
  }

  @Test("the three formats hold the same examples")
  func formats() throws {
    let expected = Dataset(
      examples: [
        Example(text: "one, two", pair: "b", label: 1, client: "amy"),
        Example(text: "said \"x\"", pair: "d", label: 0, client: "bo"),
      ],
      labels: ["no", "yes"]
    )
    let csv = "label,text,text_pair,client\nyes,\"one, two\",b,amy\nno,\"said \"\"x\"\"\",d,bo\n"
    let tsv = "label\ttext\ttext_pair\tclient\nyes\tone, two\tb\tamy\nno\tsaid \"x\"\td\tbo\n"
    let jsonl = """
      {"label":"yes","text":"one, two","text_pair":"b","client":"amy"}
      {"client":"bo","text":"said \\"x\\"","label":"no","text_pair":"d"}
      """
    #expect(try read(csv, .csv) == expected)
    #expect(try read(tsv, .tsv) == expected)
    #expect(try read(jsonl, .jsonl) == expected)
    for (text, format) in [(csv, DatasetFormat.csv), (tsv, .tsv), (jsonl, .jsonl)] {
      let windows = "\u{FEFF}" + text.replacingOccurrences(of: "\n", with: "\r\n") + "\r\n\r\n"
      #expect(try read(windows, format) == expected)
    }
  }

  @Test("quoted fields hold commas, quotes and line ends as they are")
  func quotedFields() throws {
    let dataset = try read("text,label\r\n\"a\r\nb,\"\"c\"\"\n\",x\r\n\"d\",y", .csv)
    #expect(dataset.examples.map(\.text) == ["a\r\nb,\"c\"\n", "d"])
    #expect(dataset.labels == ["x", "y"])
  }

  @Test("columns can be named, and labels given in their order")
  func namedColumns() throws {
    let columns = DatasetColumns(text: "utt", label: "goal", client: "who")
    let dataset = try read("who\tutt\tgoal\nme\thello\tB\n", .tsv, columns: columns, labels: ["A", "B"])
    #expect(dataset.examples == [Example(text: "hello", label: 1, client: "me")])
  }

  @Test("labels that are whole numbers are indexes")
  func numericLabels() throws {
    #expect(try read("label\ttext\n10\ta\n2\tb\n", .tsv).examples.map(\.label) == [10, 2])
    #expect(try read("{\"label\":1,\"text\":\"a\"}", .jsonl).labels == ["0", "1"])
    #expect(try read("{\"label\":1,\"text\":\"a\"}", .jsonl, labels: ["no", "yes"]).examples[0].label == 1)
    #expect(try read("label\ttext\n1\ta\nx\tb\n", .tsv).labels == ["1", "x"])
  }

  struct Malformed: Sendable, CustomTestStringConvertible {
    let text: String
    let format: DatasetFormat
    let code: DatasetError.Code
    let line: Int?
    let mention: String
    var testDescription: String { "\(format.rawValue) \(text.debugDescription)" }
  }

  static let malformed: [Malformed] = [
    .init(text: "", format: .tsv, code: .badHeader, line: nil, mention: "header"),
    .init(text: "label\ttext\n", format: .tsv, code: .empty, line: nil, mention: "no example"),
    .init(text: "label\tlabel\nx\ty\n", format: .tsv, code: .badHeader, line: 1, mention: "\"label\" twice"),
    .init(text: "label\ttext\na\tb\nc\n", format: .tsv, code: .raggedRow, line: 3, mention: "1 fields"),
    .init(text: "label\ttext\na\tb\tc\n", format: .tsv, code: .raggedRow, line: 2, mention: "3 fields"),
    .init(text: "label\tbody\na\tb\n", format: .tsv, code: .missingColumn, line: 2, mention: "label, body"),
    .init(text: "kind\ttext\na\tb\n", format: .tsv, code: .missingColumn, line: 2, mention: "kind, text"),
    .init(text: "label\ttext\na\t \n", format: .tsv, code: .emptyField, line: 2, mention: "column text"),
    .init(text: "label\ttext\n\tb\n", format: .tsv, code: .emptyField, line: 2, mention: "column label"),
    .init(text: "label,text\nx,\"a\nb\n", format: .csv, code: .badQuotes, line: 2, mention: "field 2"),
    .init(text: "label,text\nx,\"a\nb\"c\n", format: .csv, code: .badQuotes, line: 3, mention: "byte 3"),
    .init(text: "label,text\nx,\"a\nb\"\ny\n", format: .csv, code: .raggedRow, line: 4, mention: "1 fields"),
    .init(text: "label,text\nx,\n", format: .csv, code: .emptyField, line: 2, mention: "column text"),
    .init(
      text: "{\"label\":\"a\",\"text\":\"b\"}\n{\"label\":",
      format: .jsonl,
      code: .invalidJSON,
      line: 2,
      mention: "byte 10"
    ),
    .init(text: "[1]", format: .jsonl, code: .invalidJSON, line: 1, mention: "an array"),
    .init(text: "{\"a\":1,\"a\":2}", format: .jsonl, code: .invalidJSON, line: 1, mention: "twice"),
    .init(text: "{\"label\":\"a\",\"text\":7}", format: .jsonl, code: .wrongKind, line: 1, mention: "the number 7"),
    .init(text: "{\"label\":\"a\",\"text\":[]}", format: .jsonl, code: .wrongKind, line: 1, mention: "an array"),
    .init(text: "{\"label\":-1,\"text\":\"b\"}", format: .jsonl, code: .unknownLabel, line: 1, mention: "-1"),
    .init(text: "{\"label\":0.5,\"text\":\"b\"}", format: .jsonl, code: .wrongKind, line: 1, mention: "0.5"),
    .init(
      text: "{\"text\":\"b\",\"label\":\"x\"}\n{\"text\":\"b\"}",
      format: .jsonl,
      code: .missingColumn,
      line: 2,
      mention: "label"
    ),
    .init(text: "", format: .jsonl, code: .empty, line: nil, mention: "no example"),
    .init(
      text: "{\"label\":\"\\ud800\",\"text\":\"b\"}",
      format: .jsonl,
      code: .invalidJSON,
      line: 1,
      mention: "surrogate"
    ),
  ]

  @Test("a malformed file says where and what", arguments: malformed)
  func malformedFiles(_ file: Malformed) throws {
    let error = try #require(throws: DatasetError.self) { try read(file.text, file.format) }
    #expect(error.code == file.code)
    #expect(error.line == file.line)
    #expect(error.description.contains(file.mention), "\(error)")
    #expect(error.description.contains("data"))
  }

  @Test("an unknown label names those that are known")
  func unknownLabel() throws {
    let error = try #require(throws: DatasetError.self) {
      try read("label\ttext\na\tb\nz\tc\n", .tsv, labels: ["a", "b"])
    }
    #expect(error.code == .unknownLabel && error.line == 3)
    #expect(error.description.contains("one of a, b"), "\(error)")
    #expect(throws: DatasetError.self) { try read("label\ttext\n2\tb\n", .tsv, labels: ["a", "b"]) }
  }

  @Test("bytes that are not UTF-8 are found to the byte", arguments: DatasetFormat.allCases)
  func notUTF8(format: DatasetFormat) throws {
    let texts: [DatasetFormat: String] = [
      .tsv: "label\ttext\nx\té#\n", .csv: "label,text\nx,é#\n",
      .jsonl: "{\"label\":\"x\",\"text\":\"a\"}\n{\"a\":\"é#\"}\n",
    ]
    var bytes = Array(try #require(texts[format]).utf8)
    bytes[try #require(bytes.lastIndex(of: UInt8(ascii: "#")))] = 0xE9
    let error = try #require(throws: DatasetError.self) {
      try DatasetReader.read(bytes, name: "data", format: format)
    }
    #expect(error.code == .notUTF8 && error.line == 2)
    #expect(error.description.contains("0xe9"), "\(error)")
  }

  @Test("no damage to a file makes the reader crash or lose rows silently", arguments: 0..<60)
  func damage(seed: Int) throws {
    let good: [(String, DatasetFormat)] = [
      ("label,text\nx,\"a, b\"\ny,c\n", .csv), ("label\ttext\nx\ta\ny\tc\n", .tsv),
      ("{\"label\":\"x\",\"text\":\"a\"}\n{\"label\":\"y\",\"text\":\"c\"}\n", .jsonl),
    ]
    var generator = SeededGenerator(seed: UInt64(seed))
    for (text, format) in good {
      for _ in 0..<50 {
        var bytes = Array(text.utf8)
        for _ in 0...generator.draw(below: 3) {
          bytes[generator.draw(below: bytes.count)] = UInt8(generator.draw(below: 256))
        }
        if let dataset = try? DatasetReader.read(bytes, name: "data", format: format) {
          #expect(!dataset.examples.isEmpty)
          #expect(dataset.examples.allSatisfy { dataset.labels.indices.contains($0.label) && !$0.text.isEmpty })
        }
      }
    }
  }

  @Test("files are read by their extension, and a strange one is refused")
  func files() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("data-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("a.tsv")
    try Data("label\ttext\nx\ty\n".utf8).write(to: file)
    #expect(try DatasetReader.read(file).examples.count == 1)
    let missing = try #require(throws: DatasetError.self) {
      try DatasetReader.read(folder.appendingPathComponent("b.tsv"))
    }
    #expect(missing.code == .unreadable)
    let strange = try #require(throws: DatasetError.self) {
      try DatasetReader.read(folder.appendingPathComponent("b.xls"))
    }
    #expect(strange.code == .unknownFormat)
  }
}
