import Foundation

/// How a data file is written.
public enum DatasetFormat: String, Codable, CaseIterable, Sendable {
  /// One JSON object a line.
  case jsonl
  /// Comma-separated with a header row, quoted as RFC 4180 says.
  case csv
  /// Tab-separated with a header row, without quoting: a field holds neither tab nor line end.
  case tsv

  /// The format that a file's name tells.
  public init?(fileExtension: String) {
    switch fileExtension.lowercased() {
    case "jsonl", "ndjson": self = .jsonl
    case "csv": self = .csv
    case "tsv", "tab": self = .tsv
    default: return nil
    }
  }
}

/// Which columns hold what. A name that is not given is looked for among the usual ones.
public struct DatasetColumns: Equatable, Codable, Sendable {
  /// The text.
  public var text: String?
  /// The second text of a pair; where no usual name is found there are no pairs.
  public var pair: String?
  /// The label: a class by name or number, or for a regression the number itself.
  public var label: String?
  /// Whose example it is; where no usual name is found nobody's.
  public var client: String?
  /// For a language model: what is given.
  public var prompt: String?
  /// For a language model: what is learnt; where neither prompt nor response is found the text is learnt whole.
  public var response: String?
  /// For a language model: a conversation, a JSON list of objects with `role` and `content`; the assistant's are
  /// learnt.
  public var messages: String?
  /// For a language model: a JSON list of answers to choose from, of which the response is one, by its text or its
  /// number from 0.
  public var choices: String?

  /// Names some columns.
  public init(
    text: String? = nil,
    pair: String? = nil,
    label: String? = nil,
    client: String? = nil,
    prompt: String? = nil,
    response: String? = nil,
    messages: String? = nil,
    choices: String? = nil
  ) {
    self.text = text
    self.pair = pair
    self.label = label
    self.client = client
    self.prompt = prompt
    self.response = response
    self.messages = messages
    self.choices = choices
  }

  static let usualText = ["text", "sentence", "sentence1", "text_a", "premise", "utterance"]
  static let usualPair = ["text_pair", "sentence2", "text_b", "hypothesis"]
  static let usualLabel = ["label", "labels", "intent", "category", "class"]
  static let usualNumber = ["label", "labels", "score", "similarity", "target", "value"]
  static let usualClient = ["client", "client_id", "user", "user_id", "speaker", "site"]
  static let usualPrompt = ["prompt", "instruction", "question"]
  static let usualResponse = ["response", "completion", "answer", "output"]
  static let usualRight = ["response", "answer", "label"]
  static let usualMessages = ["messages", "conversation"]
}

/// Reads labelled texts, or texts for a language model. A byte order mark, CRLF line ends and blank lines are accepted; everything else that is odd is an
/// error that names file, line and column.
public enum DatasetReader {
  /// Reads a file.
  /// - Parameters:
  ///   - format: how it is written; nil to go by the file's extension.
  ///   - labels: the names of the labels in their order, as a training set gave them; nil to take those of this file,
  ///     sorted. Labels that are all whole numbers are indexes. Not regarded for a regression or a language model.
  ///   - task: what the examples are for, and with it which columns there must be.
  /// - Throws: `DatasetError`.
  public static func read(
    _ file: URL,
    format: DatasetFormat? = nil,
    columns: DatasetColumns = DatasetColumns(),
    labels: [String]? = nil,
    task: TaskKind = .classification
  ) throws(DatasetError) -> Dataset {
    guard let format = format ?? DatasetFormat(fileExtension: file.pathExtension) else {
      throw DatasetError(
        code: .unknownFormat,
        file: file.path,
        line: nil,
        column: nil,
        found: "the extension \"\(file.pathExtension)\"",
        expected: "jsonl, csv or tsv, or an explicit format"
      )
    }
    let data: Data
    do {
      data = try Data(contentsOf: file)
    } catch {
      throw DatasetError(
        code: .unreadable,
        file: file.path,
        line: nil,
        column: nil,
        found: error.localizedDescription,
        expected: "a readable file"
      )
    }
    return try read([UInt8](data), name: file.path, format: format, columns: columns, labels: labels, task: task)
  }

  /// Reads the bytes of a file that errors call `name`.
  public static func read(
    _ bytes: [UInt8],
    name: String,
    format: DatasetFormat,
    columns: DatasetColumns = DatasetColumns(),
    labels: [String]? = nil,
    task: TaskKind = .classification
  ) throws(DatasetError) -> Dataset {
    let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
    let bytes = bytes.starts(with: mark) ? Array(bytes.dropFirst(3)) : bytes
    let source = RecordSource(file: name)
    let records: Records =
      switch format {
      case .jsonl: try source.jsonLines(bytes)
      case .csv: try source.commaSeparated(bytes)
      case .tsv: try source.tabSeparated(bytes)
      }
    let builder = DatasetBuilder(file: name, records: records, columns: columns)
    return switch task {
    case .classification: try builder.dataset(labels: labels)
    case .regression: try builder.regressionDataset()
    case .causalLM: try builder.languageDataset()
    }
  }
}
