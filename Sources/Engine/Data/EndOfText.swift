import Foundation

/// The token that ends a text, which a language model learns to say when it is done.
public enum EndOfText {
  /// The end token of a model folder: `eos_token` of `tokenizer_config.json`, else the first `eos_token_id` of
  /// `config.json`; nil where neither names one that the tokenizer has.
  public static func token(in folder: URL, tokenizer: Tokenizer) -> Int32? {
    func object(_ name: String) -> [String: Any] {
      let data = try? Data(contentsOf: folder.appendingPathComponent(name))
      return data.flatMap { try? JSONSerialization.jsonObject(with: $0) as? [String: Any] } ?? [:]
    }
    let named = object("tokenizer_config.json")["eos_token"]
    let text = named as? String ?? (named as? [String: Any])?["content"] as? String
    if let text, let id = tokenizer.id(of: text) { return id }
    let numbered = object("config.json")["eos_token_id"]
    let number = numbered as? NSNumber ?? (numbered as? [NSNumber])?.first
    return number.flatMap { Int32(exactly: $0.doubleValue) }.flatMap { tokenizer.token(of: $0) == nil ? nil : $0 }
  }
}
