/// The byte-pair model (Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units"): a word
/// starts as its scalars, and the two neighbours whose merge has the lowest rank become one, the leftmost first, until
/// no two neighbours have a merge.
///
/// There is no cache of words: a short word costs about as much to merge as to look up.
struct BytePair: Sendable {
  /// What a token may be called within a word.
  struct Affixes: Sendable {
    /// Before the scalars that do not start a word.
    var continuing = ""
    /// Behind the scalar that ends one.
    var ending = ""
  }

  private let merges: MergeTable
  /// Tokens of one scalar, by whether it starts and whether it ends a word: 1 for the start, 2 for the end.
  private let symbols: [SymbolTable]
  /// Tokens `<0x00>` to `<0xFF>` for the bytes of a scalar that is no token; nil where there is no such fallback.
  private let bytes: [Int32?]?
  /// Id of a scalar that is no token; nil where such scalars are dropped.
  private let unknown: Int32?
  /// Whether unknown scalars in a row are one token.
  private let fusesUnknown: Bool
  /// The whole vocabulary, where a word that is a token is not merged.
  private let whole: TokenTrie?

  init(
    vocabulary: Vocabulary,
    merges: MergeTable,
    affixes: Affixes,
    unknown: Int32?,
    fusesUnknown: Bool,
    fallsBackToBytes: Bool,
    ignoresMerges: Bool
  ) {
    self.merges = merges
    self.unknown = unknown
    self.fusesUnknown = fusesUnknown
    let tokens = vocabulary.tokens
    let plain = SymbolTable(tokens, prefix: "", suffix: "")
    let (prefix, suffix) = (affixes.continuing, affixes.ending)
    let hasAffixes = !prefix.isEmpty || !suffix.isEmpty
    symbols =
      hasAffixes
      ? [
        SymbolTable(tokens, prefix: prefix, suffix: ""), plain, SymbolTable(tokens, prefix: prefix, suffix: suffix),
        SymbolTable(tokens, prefix: "", suffix: suffix),
      ] : [plain]
    bytes = fallsBackToBytes ? vocabulary.byteTokens : nil
    if ignoresMerges {
      var trie = TokenTrie()
      for (id, token) in tokens { trie.insert(token.unicodeScalars.lazy.map(\.value), token: id) }
      whole = trie
    } else {
      whole = nil
    }
  }

  /// A token in the making, and how many bytes of the word it stands for.
  private struct Symbol {
    var id: Int32
    var width: Int32
  }

  /// Words of more symbols are merged through a queue: the scan for the lowest rank is quadratic.
  private static let mostForScan = 40

  /// Appends the pieces of one word.
  func tokenize(_ word: UnsafeBufferPointer<UInt32>, into pieces: inout [TokenPiece]) {
    if let token = whole?.token(of: word) {
      pieces.append((token, 0..<word.count))
      return
    }
    let most = word.count * (bytes == nil ? 1 : 4)
    withUnsafeTemporaryAllocation(of: Symbol.self, capacity: max(most, 1)) { buffer in
      let symbols = start(word, buffer)
      let count = symbols.count <= Self.mostForScan ? mergeByScan(symbols) : mergeByQueue(symbols)
      place(symbols[..<count], word, into: &pieces)
    }
  }

  /// Fills in the symbols that a word starts as.
  private func start(_ word: UnsafeBufferPointer<UInt32>, _ buffer: UnsafeMutableBufferPointer<Symbol>)
    -> UnsafeMutableBufferPointer<Symbol>
  {
    var count = 0
    func append(_ id: Int32, _ width: Int32) {
      buffer.initializeElement(at: count, to: Symbol(id: id, width: width))
      count += 1
    }
    var unknownWidth: Int32 = 0
    for index in word.indices {
      let scalar = word[index]
      let kind = symbols.count == 1 ? 0 : (index == 0 ? 1 : 0) + (index == word.count - 1 ? 2 : 0)
      let width = Int32(utf8Width(scalar))
      if let id = symbols[kind].id(of: scalar) {
        if unknownWidth > 0, let unknown { append(unknown, unknownWidth) }
        unknownWidth = 0
        append(id, width)
        continue
      }
      // Bytes go before unknown scalars that wait to be fused: so does the library.
      if let bytes, appendBytes(of: scalar, bytes, append) { continue }
      guard let unknown else { continue }
      if unknownWidth > 0, !fusesUnknown {
        append(unknown, unknownWidth)
        unknownWidth = 0
      }
      unknownWidth += width
    }
    if unknownWidth > 0, let unknown { append(unknown, unknownWidth) }
    return UnsafeMutableBufferPointer(rebasing: buffer[..<count])
  }

  private func appendBytes(of scalar: UInt32, _ bytes: [Int32?], _ append: (Int32, Int32) -> Void) -> Bool {
    guard let value = Unicode.Scalar(scalar), let encoded = UTF8.encode(value),
      encoded.allSatisfy({ bytes[Int($0)] != nil })
    else { return false }
    for byte in encoded {
      if let id = bytes[Int(byte)] { append(id, 1) }
    }
    return true
  }

  /// Merges in place and says how many symbols are left.
  private func mergeByScan(_ symbols: UnsafeMutableBufferPointer<Symbol>) -> Int {
    var count = symbols.count
    guard count > 1 else { return count }
    return withUnsafeTemporaryAllocation(of: UInt64.self, capacity: count) { ranks in
      for index in 0..<count - 1 {
        ranks.initializeElement(at: index, to: merges.merge(symbols[index].id, symbols[index + 1].id))
      }
      while count > 1 {
        var best = MergeTable.none
        var place = 0
        for index in 0..<count - 1 where ranks[index] < best { (best, place) = (ranks[index], index) }
        guard best != MergeTable.none else { break }
        symbols[place].id = MergeTable.token(best)
        symbols[place].width += symbols[place + 1].width
        count -= 1
        for index in place + 1..<max(count, place + 1) {
          symbols[index] = symbols[index + 1]
          ranks[index - 1] = ranks[index]
        }
        if place < count - 1 { ranks[place] = merges.merge(symbols[place].id, symbols[place + 1].id) }
        if place > 0 { ranks[place - 1] = merges.merge(symbols[place - 1].id, symbols[place].id) }
      }
      return count
    }
  }

  /// Merges in place and says how many symbols are left; in time n log n.
  private func mergeByQueue(_ symbols: UnsafeMutableBufferPointer<Symbol>) -> Int {
    let count = symbols.count
    var next = (0..<count).map { Int32($0 + 1) }
    var previous = (0..<count).map { Int32($0 - 1) }
    var queue = LeastFirst()
    func offer(_ left: Int, _ right: Int) {
      let merge = merges.merge(symbols[left].id, symbols[right].id)
      if merge != MergeTable.none { queue.insert((merge >> 32) << 32 | UInt64(left)) }
    }
    for index in 0..<count - 1 { offer(index, index + 1) }
    while let entry = queue.removeLeast() {
      let left = Int(entry & 0xFFFF_FFFF)
      guard symbols[left].width > 0, next[left] < count else { continue }
      let right = Int(next[left])
      let merge = merges.merge(symbols[left].id, symbols[right].id)
      // An entry is stale once one of its two symbols has grown.
      guard merge != MergeTable.none, merge >> 32 == entry >> 32 else { continue }
      symbols[left].id = MergeTable.token(merge)
      symbols[left].width += symbols[right].width
      symbols[right].width = 0
      next[left] = next[right]
      if next[left] < count {
        previous[Int(next[left])] = Int32(left)
        offer(left, Int(next[left]))
      }
      if previous[left] >= 0 { offer(Int(previous[left]), left) }
    }
    var kept = 0
    for index in 0..<count where symbols[index].width > 0 {
      symbols[kept] = symbols[index]
      kept += 1
    }
    return kept
  }

  /// Turns widths in bytes into ranges of scalars; a byte stands for the scalar that it is a part of.
  private func place(
    _ symbols: Slice<UnsafeMutableBufferPointer<Symbol>>,
    _ word: UnsafeBufferPointer<UInt32>,
    into pieces: inout [TokenPiece]
  ) {
    /// The scalar at hand, and where its bytes end.
    var (scalar, end) = (0, word.isEmpty ? 0 : utf8Width(word[0]))
    var bytes = 0
    func advance(past byte: Int) {
      while end <= byte, scalar < word.count {
        scalar += 1
        if scalar < word.count { end += utf8Width(word[scalar]) }
      }
    }
    for symbol in symbols {
      advance(past: bytes)
      let first = scalar
      bytes += Int(symbol.width)
      advance(past: bytes - 1)
      pieces.append((symbol.id, first..<max(first, min(scalar + 1, word.count))))
    }
  }
}

/// How many bytes a scalar has in UTF-8.
@inline(__always)
private func utf8Width(_ scalar: UInt32) -> Int { scalar < 0x80 ? 1 : scalar < 0x800 ? 2 : scalar < 0x1_0000 ? 3 : 4 }

/// Tokens of one scalar between a prefix and a suffix, by that scalar.
private struct SymbolTable: Sendable {
  /// The scalars of the byte alphabet and of European scripts, where -1 is no token.
  private var low = [Int32](repeating: -1, count: 0x600)
  private var high: [UInt32: Int32] = [:]

  init(_ tokens: [(id: Int32, text: String)], prefix: String, suffix: String) {
    for (id, token) in tokens {
      let text = token.utf8
      guard text.count > prefix.utf8.count + suffix.utf8.count,
        text.count <= prefix.utf8.count + suffix.utf8.count + 4, text.starts(with: prefix.utf8),
        text.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
      else { continue }
      let inner = Substring(text.dropFirst(prefix.utf8.count).dropLast(suffix.utf8.count)).unicodeScalars
      guard let scalar = inner.first?.value, inner.count == 1 else { continue }
      if scalar < UInt32(low.count) { low[Int(scalar)] = id } else { high[scalar] = id }
    }
  }

  @inline(__always)
  func id(of scalar: UInt32) -> Int32? {
    if scalar < UInt32(low.count) { return low[Int(scalar)] < 0 ? nil : low[Int(scalar)] }
    return high[scalar]
  }
}
