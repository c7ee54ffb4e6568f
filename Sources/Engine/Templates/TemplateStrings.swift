/// Python's methods of strings, on Unicode scalars.
enum TemplateStrings {
  /// Where `part` begins in `whole` from `start` on, byte for byte, in a time that grows with both lengths' sum (Knuth, Morris
  /// and Pratt 1977).
  static func find(_ part: [UInt8], in whole: [UInt8], from start: Int = 0) -> Int? {
    if part.isEmpty { return start <= whole.count ? start : nil }
    guard whole.count - start >= part.count else { return nil }
    // borders[i]: how much of the part's beginning ends the first i + 1 bytes.
    var borders = [Int](repeating: 0, count: part.count)
    var matched = 0
    for index in part.indices.dropFirst() {
      while matched > 0, part[index] != part[matched] { matched = borders[matched - 1] }
      if part[index] == part[matched] { matched += 1 }
      borders[index] = matched
    }
    matched = 0
    for index in start..<whole.count {
      while matched > 0, whole[index] != part[matched] { matched = borders[matched - 1] }
      if whole[index] == part[matched] { matched += 1 }
      if matched == part.count { return index + 1 - part.count }
    }
    return nil
  }

  /// Every place of `part` in `whole` that does not overlap the one before, at most `limit` of them.
  static func places(of part: [UInt8], in whole: [UInt8], limit: Int = .max) -> [Int] {
    var result: [Int] = []
    var start = 0
    while result.count < limit, let place = find(part, in: whole, from: start) {
      result.append(place)
      start = place + part.count
    }
    return result
  }

  /// Without `characters` (white space where nil) at the ends that are named.
  static func stripped(_ text: String, _ characters: String?, start: Bool = true, end: Bool = true) -> String {
    let given = characters.map { Set($0.unicodeScalars) }
    func goes(_ scalar: Unicode.Scalar) -> Bool { given?.contains(scalar) ?? scalar.isTemplateSpace }
    var rest = text.unicodeScalars[...]
    if start { while let first = rest.first, goes(first) { rest.removeFirst() } }
    if end { while let last = rest.last, goes(last) { rest.removeLast() } }
    return String(rest)
  }

  /// `str.split`: at white space where `separator` is nil, and then without empty parts.
  static func split(_ text: String, _ separator: String?, limit: Int?) -> [String] {
    let most = limit.flatMap { $0 < 0 ? nil : $0 } ?? .max
    guard let separator else { return words(text, most) }
    let (whole, part) = (Array(text.utf8), Array(separator.utf8))
    var result: [String] = []
    var start = 0
    for place in places(of: part, in: whole, limit: most) {
      result.append(String(decoding: whole[start..<place], as: UTF8.self))
      start = place + part.count
    }
    result.append(String(decoding: whole[start...], as: UTF8.self))
    return result
  }

  private static func words(_ text: String, _ most: Int) -> [String] {
    var result: [String] = []
    var rest = text.unicodeScalars[...]
    while true {
      while rest.first?.isTemplateSpace == true { rest.removeFirst() }
      if rest.isEmpty { return result }
      // White space at the end of what is not split stays.
      if result.count == most { return result + [String(rest)] }
      let end = rest.firstIndex(where: \.isTemplateSpace) ?? rest.endIndex
      result.append(String(rest[..<end]))
      rest = rest[end...]
    }
  }

  /// `str.replace`.
  static func replaced(_ text: String, _ old: String, _ new: String, limit: Int?) -> String {
    let most = limit.flatMap { $0 < 0 ? nil : $0 } ?? .max
    if old.unicodeScalars.isEmpty { return interspersed(text, new, most) }
    let (whole, part) = (Array(text.utf8), Array(old.utf8))
    var result: [UInt8] = []
    var start = 0
    for place in places(of: part, in: whole, limit: most) {
      result += whole[start..<place]
      result += new.utf8
      start = place + part.count
    }
    result += whole[start...]
    return String(decoding: result, as: UTF8.self)
  }

  private static func interspersed(_ text: String, _ new: String, _ most: Int) -> String {
    var result = String.UnicodeScalarView()
    var count = 0
    for scalar in text.unicodeScalars {
      if count < most { result.append(contentsOf: new.unicodeScalars) }
      count += 1
      result.append(scalar)
    }
    if count < most { result.append(contentsOf: new.unicodeScalars) }
    return String(result)
  }

  /// `str.splitlines`.
  static func lines(_ text: String) -> [String] {
    var result: [String] = []
    var line = String.UnicodeScalarView()
    var last: Unicode.Scalar?
    for scalar in text.unicodeScalars {
      defer { last = scalar }
      if scalar == "\n", last == "\r" { continue }
      switch scalar.value {
      case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029:
        result.append(String(line))
        line = String.UnicodeScalarView()
      default: line.append(scalar)
      }
    }
    return line.isEmpty ? result : result + [String(line)]
  }

  /// `str.capitalize`.
  static func capitalised(_ text: String) -> String {
    guard let first = text.unicodeScalars.first else { return text }
    return first.properties.titlecaseMapping + String(text.unicodeScalars.dropFirst()).lowercased()
  }

  /// `str.title`: each run of letters begins with a capital.
  static func titled(_ text: String) -> String {
    var result = ""
    var isInside = false
    for scalar in text.unicodeScalars {
      let isLetter = scalar.properties.isCased
      result.unicodeScalars.append(
        contentsOf: (isInside
          ? scalar.properties.lowercaseMapping : isLetter ? scalar.properties.titlecaseMapping : String(scalar))
          .unicodeScalars
      )
      isInside = isLetter
    }
    return result
  }

  /// Jinja's `title`: each part behind white space, a hyphen or an opening bracket begins with a capital.
  static func headline(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    var isInside = false
    for scalar in text.unicodeScalars {
      let separates = scalar.isTemplateSpace || ["-", "(", "{", "[", "<"].contains(scalar)
      let mapped = isInside ? scalar.properties.lowercaseMapping : scalar.properties.uppercaseMapping
      result.append(contentsOf: separates ? [scalar] : Array(mapped.unicodeScalars))
      isInside = !separates
    }
    return String(result)
  }
}
