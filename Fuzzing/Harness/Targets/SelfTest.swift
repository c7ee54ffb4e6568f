import Foundation

extension FuzzTarget {
  /// A parser with one fault of each kind, by which the fuzzer itself is tested. It is in no list.
  static let selfTest = FuzzTarget(
    name: "self-test",
    about: "a parser with faults that are meant",
    limits: FuzzLimits(memory: 1 << 20, memoryPerByte: 1, milliseconds: 300, length: 256),
    dictionary: ["!trap", "!memory", "!time", "!wrong"],
    seeds: { [Array("an innocent text of some length".utf8)] }
  ) { bytes, _ in
    let text = String(decoding: bytes, as: UTF8.self)
    if text.contains("!trap") { _ = bytes[bytes.count + 7] }
    // A gigabyte for a few bytes, which an unlucky length field asks for.
    if text.contains("!memory") { try FuzzFailure.unless([UInt8](repeating: 1, count: 1 << 30).count > 0, "no memory") }
    if text.contains("!time") { while bytes.count < 1000 { _ = text.count } }
    try FuzzFailure.unless(!text.contains("!wrong"), "an input is wrong")
  }
}
