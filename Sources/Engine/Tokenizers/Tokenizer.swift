import Foundation

/// A Hugging Face tokenizer, read from `tokenizer.json`: normalizer, pre-tokenizer, model, post-processor and decoder.
///
/// Equal to the `tokenizers` library token for token, offsets included; `docs/tokenizers.md` lists the stages that are
/// built. Truncation and padding that the file may carry are ignored: how long a training text may be is the caller's
/// decision, and this engine pads nothing.
///
///     let tokenizer = try Tokenizer.load(from: modelFolder)
///     let tokens = try tokenizer.encodeIds("The lift is fine, the door is not.", maxLength: 64)
public struct Tokenizer: Sendable {
  let normalizer: Normalizer?
  let preTokenizer: PreTokenizer?
  let model: TokenModel
  private let postProcessor: PostProcessor
  private let decoder: TokenDecoder
  let added: AddedTokens
  private let vocabulary: Vocabulary

  /// Reads a `tokenizer.json`, or the one in a model folder.
  /// - Throws: `TokenizerError` that names file, key and value where something is wrong or not supported.
  public static func load(from folderOrFile: URL) throws(TokenizerError) -> Tokenizer {
    var isFolder: ObjCBool = false
    let exists = FileManager.default.fileExists(atPath: folderOrFile.path, isDirectory: &isFolder)
    let file = exists && isFolder.boolValue ? folderOrFile.appendingPathComponent("tokenizer.json") : folderOrFile
    return try Tokenizer(file: TokenizerFile(path: file.path))
  }

  private init(file: TokenizerFile) throws(TokenizerError) {
    var (vocabulary, model) = try file.model()
    self.model = model
    let normalizer = try file.normalizer(file.root["normalizer"])
    self.normalizer = normalizer
    let tokens = try file.addedTokens(file.root["added_tokens"])
    for token in tokens {
      let shown = token.isNormalized ? Self.normalized(token.content, by: normalizer) : token.content
      vocabulary.insert(token.content, id: token.id, shown: shown)
    }
    self.vocabulary = vocabulary
    preTokenizer = try file.preTokenizer(file.root["pre_tokenizer"])
    postProcessor = try file.postProcessor(file.root["post_processor"])
    decoder = try file.decoder(file.root["decoder"])
    added = AddedTokens(tokens, normalizer: normalizer)
  }

  // MARK: Vocabulary

  /// Number of different tokens, added ones included.
  public var vocabularySize: Int { vocabulary.count }

  /// One more than the greatest id: how many rows an embedding table needs at least.
  public var idLimit: Int { vocabulary.limit }

  /// The id of a token, compared scalar for scalar.
  public func id(of token: String) -> Int32? { vocabulary.id(of: token) }

  /// The token with this id.
  public func token(of id: Int32) -> String? { vocabulary.token(of: id) }

  // MARK: Encoding

  /// Encodes one text, or two as a pair, with token texts and offsets.
  /// - Parameters:
  ///   - maxLength: most tokens of the result, special ones included; nil for no limit.
  ///   - truncation: what is cut where the limit is passed.
  ///   - addSpecialTokens: whether the post-processor's special tokens are put around.
  /// - Throws: `TokenizerError.lengthTooSmall` or `.cannotTruncate`.
  public func encode(
    _ text: String,
    pair: String? = nil,
    maxLength: Int? = nil,
    truncation: TruncationStrategy = .longestFirst,
    addSpecialTokens: Bool = true
  ) throws(TokenizerError) -> Encoding {
    var (first, second) = (TokenSequence(keepsText: true), TokenSequence(keepsText: true))
    tokenize(text, into: &first)
    if let pair { tokenize(pair, into: &second) }
    let kept = try lengths(
      first.ids.count,
      pair.map { _ in second.ids.count },
      maxLength,
      truncation,
      addSpecialTokens
    )
    var ids: [Int32] = []
    var typeIds: [Int32] = []
    var tokens: [String] = []
    var offsets: [Range<Int>] = []
    func append(_ sequence: TokenSequence, _ count: Int, _ typeId: Int32) {
      ids += sequence.ids.prefix(count)
      typeIds += repeatElement(typeId, count: count)
      for index in 0..<count {
        let token = sequence.foundTexts[index] ?? vocabulary.token(of: sequence.ids[index]) ?? ""
        tokens.append(token)
        let span = sequence.spans[index]
        offsets.append(postProcessor.trim?.trimmed(span, of: token, isFirst: index == 0) ?? span)
      }
    }
    for piece in postProcessor.template(isPair: pair != nil) {
      switch piece {
      case .first(let typeId): append(first, kept.first, typeId)
      case .second(let typeId): append(second, kept.second ?? 0, typeId)
      case .special(let specialIds, let texts, let typeId):
        guard addSpecialTokens else { continue }
        ids += specialIds
        tokens += texts
        typeIds += repeatElement(typeId, count: specialIds.count)
        offsets += repeatElement(0..<0, count: specialIds.count)
      }
    }
    return Encoding(ids: ids, typeIds: typeIds, tokens: tokens, offsets: offsets)
  }

  /// Encodes as `encode` does, without token texts and offsets: the fast way, for training.
  public func encodeIds(
    _ text: String,
    pair: String? = nil,
    maxLength: Int? = nil,
    truncation: TruncationStrategy = .longestFirst,
    addSpecialTokens: Bool = true
  ) throws(TokenizerError) -> TokenIds {
    var (first, second) = (TokenSequence(keepsText: false), TokenSequence(keepsText: false))
    tokenize(text, into: &first)
    if let pair { tokenize(pair, into: &second) }
    let kept = try lengths(
      first.ids.count,
      pair.map { _ in second.ids.count },
      maxLength,
      truncation,
      addSpecialTokens
    )
    var ids: [Int32] = []
    var typeIds: [Int32] = []
    ids.reserveCapacity(kept.first + (kept.second ?? 0) + 4)
    typeIds.reserveCapacity(kept.first + (kept.second ?? 0) + 4)
    for piece in postProcessor.template(isPair: pair != nil) {
      switch piece {
      case .first(let typeId):
        ids += first.ids.prefix(kept.first)
        typeIds += repeatElement(typeId, count: kept.first)
      case .second(let typeId):
        ids += second.ids.prefix(kept.second ?? 0)
        typeIds += repeatElement(typeId, count: kept.second ?? 0)
      case .special(let specialIds, _, let typeId):
        guard addSpecialTokens else { continue }
        ids += specialIds
        typeIds += repeatElement(typeId, count: specialIds.count)
      }
    }
    return TokenIds(ids: ids, typeIds: typeIds)
  }

  private func lengths(
    _ first: Int,
    _ second: Int?,
    _ maxLength: Int?,
    _ truncation: TruncationStrategy,
    _ addSpecialTokens: Bool
  ) throws(TokenizerError) -> (first: Int, second: Int?) {
    guard let maxLength else { return (first, second) }
    let special = addSpecialTokens ? postProcessor.addedTokens(isPair: second != nil) : 0
    guard maxLength >= special, maxLength > 0 else {
      throw .lengthTooSmall(maximumLength: maxLength, specialTokens: special)
    }
    return try truncation.kept(first: first, second: second, room: maxLength - special, maximumLength: maxLength)
  }

  // MARK: Decoding

  /// The text of some tokens; ids that no token has are passed over.
  public func decode(_ ids: [Int32], skippingSpecialTokens: Bool = true) -> String {
    decoder.text(
      of: ids.compactMap { id in
        skippingSpecialTokens && added.special.contains(id) ? nil : vocabulary.token(of: id)
      }
    )
  }

  /// The text as the normalizer leaves it, added tokens not regarded.
  package func normalized(_ text: String) -> String { Self.normalized(text, by: normalizer) }

  private static func normalized(_ text: String, by normalizer: Normalizer?) -> String {
    let plain = NormalizedText(text.unicodeScalars.lazy.map(\.value), startingAt: 0)
    let result = normalizer?.applied(to: plain) ?? plain
    return result.string(0..<result.count)
  }
}
