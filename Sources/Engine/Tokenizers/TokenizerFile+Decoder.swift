/// The decoder of a `tokenizer.json`.
extension TokenizerFile {
  func decoder(_ node: JSONNode?) throws(TokenizerError) -> TokenDecoder {
    guard let decoder = try decoder(node, "decoder") else { return .spaced }
    try checkGrowth(decoder.growth, "decoder")
    return decoder
  }

  private func decoder(_ node: JSONNode?, _ key: String) throws(TokenizerError) -> TokenDecoder? {
    guard let type = try type(of: node, key) else { return nil }
    switch type {
    case "WordPiece":
      return .wordPiece(
        prefix: try string(node?["prefix"], "\(key).prefix", default: "##"),
        cleansUp: try flag(node?["cleanup"], "\(key).cleanup", default: true)
      )
    case "ByteLevel": return .byteLevel
    case "ByteFallback": return .byteFallback
    case "Fuse": return .fuse
    case "Metaspace":
      let metaspace = try metaspace(node, key)
      let mark = try scalar(node?["replacement"], "\(key).replacement")
      return .metaspace(mark: mark, dropsFirst: metaspace.prefix != .never)
    case "Strip":
      return .strip(
        try scalar(node?["content"], "\(key).content"),
        start: try count(node?["start"], "\(key).start", default: 0),
        stop: try count(node?["stop"], "\(key).stop", default: 0)
      )
    case "Replace":
      let content = try string(node?["content"], "\(key).content")
      return .replace(try pattern(node?["pattern"], "\(key).pattern"), by: content)
    case "BPEDecoder":
      let suffix = try string(node?["suffix"], "\(key).suffix", default: "</w>")
      guard !suffix.isEmpty else { throw invalid("\(key).suffix", node?["suffix"], "a suffix that is not empty") }
      return .bytePair(suffix: suffix)
    case "Sequence":
      var parts: [TokenDecoder] = []
      for (index, part) in try array(node?["decoders"], "\(key).decoders").enumerated() {
        if let decoder = try decoder(part, "\(key).decoders[\(index)]") { parts.append(decoder) }
      }
      return .sequence(parts)
    default:
      throw unsupported(
        "\(key).type",
        type,
        "WordPiece, ByteLevel, ByteFallback, Fuse, Metaspace, Strip, Replace, BPEDecoder, Sequence, null"
      )
    }
  }
}
