/// The first stage of `tokenizer.json`: rewrites the text.
indirect enum Normalizer: Sendable {
  case bert(BertNormalizer)
  case form(UnicodeForm)
  case lowercase
  case stripAccents
  case sequence([Normalizer])

  func applied(to text: NormalizedText) -> NormalizedText {
    switch self {
    case .bert(let bert): bert.applied(to: text)
    case .form(let form): form.applied(to: text)
    case .lowercase: Self.lowercased(text)
    case .stripAccents: Self.dropping(.combiningMark, from: text)
    case .sequence(let normalizers): normalizers.reduce(text) { $1.applied(to: $0) }
    }
  }

  static func lowercased(_ text: NormalizedText) -> NormalizedText {
    text.rebuilt { scalar, start, end, into in
      if let image = ScalarMapping.lowercase.image(of: scalar) {
        for part in image { into.append(part, start: start, end: end) }
      } else {
        into.append(scalar, start: start, end: end)
      }
    }
  }

  static func dropping(_ dropped: ScalarClass, from text: NormalizedText) -> NormalizedText {
    text.rebuilt { scalar, start, end, into in
      if ScalarClass.of(scalar).isDisjoint(with: dropped) { into.append(scalar, start: start, end: end) }
    }
  }
}

/// `BertNormalizer`: cleaning, spaces around ideographs, accents, case, in this order.
struct BertNormalizer: Sendable {
  let cleansText: Bool
  let separatesChinese: Bool
  let stripsAccents: Bool
  let lowercases: Bool

  func applied(to text: NormalizedText) -> NormalizedText {
    var text = text
    if cleansText || separatesChinese {
      text = text.rebuilt { scalar, start, end, into in
        let kind = ScalarClass.of(scalar)
        if cleansText, kind.contains(.removedByCleaning) { return }
        if separatesChinese, kind.contains(.chinese) {
          into.append(0x20, start: start, end: end)
          into.append(scalar, start: start, end: end)
          into.append(0x20, start: start, end: end)
        } else {
          into.append(cleansText && kind.contains(.whitespace) ? 0x20 : scalar, start: start, end: end)
        }
      }
    }
    if stripsAccents { text = Normalizer.dropping(.nonspacingMark, from: UnicodeForm.nfd.applied(to: text)) }
    return lowercases ? Normalizer.lowercased(text) : text
  }
}
