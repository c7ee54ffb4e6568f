import FedLoRAEngine
import Foundation
import Testing

@Suite("The embedded data set and encoder fit each other")
struct EmbeddedDataTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Simulations/Embedded")

  private func read() throws -> (train: Dataset, test: Dataset) {
    let train = try DatasetReader.read(Self.folder.appendingPathComponent("data/train.tsv"))
    let test = try DatasetReader.read(Self.folder.appendingPathComponent("data/test.tsv"), labels: train.labels)
    return (train, test)
  }

  @Test("six labels, evenly used, and no test text in the training set")
  func labels() throws {
    let (train, test) = try read()
    #expect(train.labels == ["access", "devices", "facilities", "network", "printing", "records"])
    #expect(Set(train.labelCounts) == [500])
    #expect(Set(test.labelCounts) == [100])
    #expect(Set(train.examples.map(\.text)).isDisjoint(with: test.examples.map(\.text)))
  }

  @Test("every word is in the vocabulary, and a ticket is short")
  func tokens() throws {
    let (train, test) = try read()
    let tokenizer = try Tokenizer.load(from: Self.folder.appendingPathComponent("encoder"))
    let unknown = try #require(tokenizer.id(of: "[UNK]"))
    for dataset in [train, test] {
      let encoded = try TokenizedDataset(dataset, tokenizer: tokenizer, maxLength: 48)
      #expect(encoded.labels == dataset.labels)
      for (example, tokens) in zip(dataset.examples, encoded.examples) {
        #expect(tokens.ids.count < 48 && !tokens.ids.contains(unknown), "\(example.text)")
        #expect(tokens.label == example.label && tokens.typeIds.count == tokens.ids.count)
      }
    }
  }

  @Test("ten clients get their own mix of labels in training and test")
  func partition() throws {
    let (train, test) = try read()
    let plan = try PartitionPlan.draw(.dirichlet(alpha: 0.5), clients: 10, train: train, seed: 1, minimumExamples: 20)
    let (own, tested) = (try plan.applied(to: train), try plan.applied(to: test, role: "test"))
    #expect(own.reduce(0) { $0 + $1.indices.count } == 3000)
    #expect(tested.reduce(0) { $0 + $1.indices.count } == 600)
    for (share, other) in zip(own, tested) {
      for label in 0..<6 { #expect(abs(Double(share.labelCounts[label]) / 5 - Double(other.labelCounts[label])) <= 2) }
    }
  }
}
