import FedLoRAEngine
import Foundation

extension FuzzTarget {
  private static let words = [
    "text", "label", "text_pair", "sentence1", "sentence2", "client", "user_id", "positive", "0", "1", "9999", "10000",
    "-1",
    "messages", "role", "assistant", "content", "options", "score", "1e39", "007", "\"\"", "\"", ",", "\t", "\n",
    "\r\n", "\r", "\u{FEFF}", "\u{E9}", "e\u{301}", "\u{0}", "  ",
  ]

  /// Comma-separated data.
  static let csv = FuzzTarget(
    name: "csv",
    about: "a data set in CSV",
    limits: DatasetSamples.limits,
    dictionary: words,
    seeds: {
      [
        "text,label,client\nthe lift is stuck,yes,a\n\"two, with \"\"quotes\"\"\",no,b\n\"over\nlines\",yes,a\n",
        "\u{FEFF}sentence1,sentence2,label\r\na,b,0\r\nc,d,2\r\n", "text,label\nx,1\n\ny,01",
      ].map { Array($0.utf8) }
    }
  ) { bytes, _ in try DatasetSamples.check(bytes, .csv) }

  /// Tab-separated data.
  static let tsv = FuzzTarget(
    name: "tsv",
    about: "a data set in TSV",
    limits: DatasetSamples.limits,
    dictionary: words,
    seeds: {
      ["text\tlabel\nthe lift is stuck\tyes\nfine\tno\n", "text_a\ttext_b\tclass\tspeaker\r\na\tb\t0\tx\r\nc\td\t3\ty"]
        .map {
          Array($0.utf8)
        }
    }
  ) { bytes, _ in try DatasetSamples.check(bytes, .tsv) }

  /// JSON lines.
  static let jsonLines = FuzzTarget(
    name: "jsonl",
    about: "a data set in JSON lines",
    limits: FuzzLimits(memory: 4 << 20, memoryPerByte: 512, length: 1 << 16),
    dictionary: words + [
      "{", "}", "[", "]", ":", "\"text\":", "\"label\":", "null", "true", "1e5", "\\u00e9", "\\ud800", "\\\"",
    ],
    seeds: {
      [
        "{\"text\":\"the lift is stuck\",\"label\":\"yes\",\"client\":1}\n\n{\"label\":\"no\",\"text\":\"fine\",\"client\":\"b\"}\n",
        "{\"premise\":\"\\u00e9\",\"hypothesis\":\"b\",\"label\":0,\"more\":{\"a\":[1,null]}}\n{\"premise\":\"a\",\"hypothesis\":\"b\",\"label\":4}",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"text\":\"x\",\"label\":1.5}",
        "{\"text\":\"q\",\"options\":[\"a\",\"b\"],\"label\":1}\n{\"text\":\"q\",\"options\":[\"a\",\"b\"],\"label\":\"a\"}",
        // Every line has a key of its own.
        (0..<300).map { "{\"text\":\"a\",\"label\":1,\"k\($0)\":0}" }.joined(separator: "\n"),
      ].map { Array($0.utf8) }
    }
  ) { bytes, _ in try DatasetSamples.check(bytes, .jsonl) }
}

enum DatasetSamples {
  static let limits = FuzzLimits(memory: 4 << 20, memoryPerByte: 512)

  static func check(_ bytes: [UInt8], _ format: DatasetFormat) throws {
    // The other tasks refuse most of it, and must do no more than that.
    for (task, columns) in [
      (TaskKind.regression, DatasetColumns()), (.causalLM, DatasetColumns()),
      (.causalLM, DatasetColumns(prompt: "text", response: "label", choices: "options")),
    ] {
      do { _ = try DatasetReader.read(bytes, name: "data", format: format, columns: columns, task: task) } catch {
        // `DatasetError` alone can be thrown here.
      }
    }
    let read = try DatasetReader.read(bytes, name: "data", format: format)
    try FuzzFailure.unless(
      read.examples.allSatisfy { read.labels.indices.contains($0.label) },
      "a label is out of range"
    )
    // The same examples as quoted CSV are the same examples.
    let hasPair = read.examples.contains { $0.pair != nil }
    let hasClient = read.examples.contains { $0.client != nil }
    var text = "text,label" + (hasPair ? ",text_pair" : "") + (hasClient ? ",client" : "") + "\n"
    for example in read.examples {
      let fields =
        [example.text, read.labels[example.label]] + (hasPair ? [example.pair ?? ""] : [])
        + (hasClient ? [example.client ?? ""] : [])
      text +=
        fields.map { "\"\($0.replacingOccurrences(of: "\"", with: "\"\"", options: .literal))\"" }.joined(
          separator: ","
        ) + "\n"
    }
    let again = try FuzzFailure.onError("a data set cannot be read from its own CSV") {
      try DatasetReader.read(Array(text.utf8), name: "again", format: .csv, labels: read.labels)
    }
    try FuzzFailure.unless(
      zip(again.examples, read.examples).allSatisfy {
        $0.text.utf8.elementsEqual($1.text.utf8) && $0.label == $1.label && $0.pair == $1.pair && $0.client == $1.client
      } && again.examples.count == read.examples.count,
      "examples change when they are written as CSV"
    )
  }
}
