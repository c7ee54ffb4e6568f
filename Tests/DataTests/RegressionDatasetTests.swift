import FedLoRAEngine
import Testing

/// Rows with numbers to learn.
@Suite("Data for a regression")
struct RegressionDatasetTests {
  private func read(
    _ text: String,
    _ columns: DatasetColumns = DatasetColumns(),
    format: DatasetFormat = .jsonl
  ) throws -> Dataset {
    try DatasetReader.read(Array(text.utf8), name: "rows", format: format, columns: columns, task: .regression)
  }

  @Test("takes numbers and texts that are numbers, from usual or named columns")
  func numbers() throws {
    let json = try read(
      #"{"sentence1": "a", "sentence2": "b", "score": 3.5, "user": "u"}"# + "\n"
        + #"{"sentence1": "c", "sentence2": "d", "score": -2, "user": "v"}"# + "\n"
        + #"{"sentence1": "e", "sentence2": "f", "score": "1e-3", "user": "v"}"#
    )
    #expect(json.labels.isEmpty)
    #expect(
      json.examples == [
        Example(text: "a", pair: "b", value: 3.5, client: "u"), Example(text: "c", pair: "d", value: -2, client: "v"),
        Example(text: "e", pair: "f", value: 0.001, client: "v"),
      ]
    )
    let table = try read("text\tlabel\trank\na\t 4.0 \t1\n", format: .tsv)
    #expect(table.examples.map(\.value) == [4])
    #expect(
      try read("text\tlabel\trank\na\t4\t1\n", DatasetColumns(label: "rank"), format: .tsv).examples[0].value == 1
    )
    // The fingerprint knows the numbers.
    let other = try read("text\tlabel\na\t5\n", format: .tsv)
    #expect(DatasetFingerprint.of(table) != DatasetFingerprint.of(other))
    #expect(DatasetFingerprint.of(table) == DatasetFingerprint.of(try read(#"{"text": "a", "label": 4}"#)))
  }

  @Test(
    "refuses what is no finite number, with line and column",
    arguments: [
      #""three""#, #""""#, #""nan""#, #""inf""#, #""-Infinity""#, #""0x10""#, "1e39", #""1e400""#, "[1]", "true",
      "null",
      #""1,5""#,
    ]
  )
  func refused(_ value: String) throws {
    let error = #expect(throws: DatasetError.self) {
      try read(#"{"text": "a", "label": 1}"# + "\n{\"text\": \"b\", \"label\": \(value)}")
    }
    #expect(error?.code == .badNumber && error?.line == 2 && error?.column == "column label")
    #expect(error?.description.contains("3.5") == true)
  }
}
