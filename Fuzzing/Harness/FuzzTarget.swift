import Foundation

/// One parser of bytes from outside the process, with what is promised about it.
///
/// `run` parses an input and checks what has to hold of the result. An error that it throws is a refusal, which is what a
/// parser should answer to nonsense; only `FuzzFailure` says that something is wrong. That it neither traps, nor hangs, nor
/// takes more memory than `limits` allow is seen from outside.
public struct FuzzTarget: Sendable {
  /// Name on the command line and of the corpus folder.
  public let name: String
  /// What is parsed, in a few words.
  public let about: String
  /// What one input may cost.
  public let limits: FuzzLimits
  /// Byte strings that mean something in the format.
  public let dictionary: [[UInt8]]
  /// Valid inputs, made by code; they are committed as the start of the corpus.
  public let seeds: @Sendable () throws -> [[UInt8]]
  /// Puts lengths and hashes right again, so that a mutation gets past them; nil where the format has none.
  public let repair: (@Sendable ([UInt8]) -> [UInt8])?
  /// Parses an input.
  public let run: @Sendable ([UInt8], FuzzScratch) throws -> Void

  /// Takes all parts.
  public init(
    name: String,
    about: String,
    limits: FuzzLimits = FuzzLimits(),
    dictionary: [String] = [],
    seeds: @escaping @Sendable () throws -> [[UInt8]],
    repair: (@Sendable ([UInt8]) -> [UInt8])? = nil,
    run: @escaping @Sendable ([UInt8], FuzzScratch) throws -> Void
  ) {
    self.name = name
    self.about = about
    self.limits = limits
    self.dictionary = dictionary.map { Array($0.utf8) }
    self.seeds = seeds
    self.repair = repair
    self.run = run
  }

  /// Runs one input.
  /// - Returns: whether the parser accepted it.
  /// - Throws: `FuzzFailure` alone.
  public func accepts(_ bytes: [UInt8], _ scratch: FuzzScratch) throws(FuzzFailure) -> Bool {
    do {
      try run(bytes, scratch)
      return true
    } catch let failure as FuzzFailure {
      throw failure
    } catch {
      return false
    }
  }
}

/// What one input may cost its parser.
public struct FuzzLimits: Sendable, Equatable {
  /// Live bytes beyond what was live before, whatever the input's length.
  public let memory: Int
  /// Live bytes more for each byte of the input.
  public let memoryPerByte: Int
  /// Processor time of all threads.
  public let milliseconds: Int
  /// Longest input that the fuzzer makes, in bytes.
  public let length: Int

  /// Takes the limits.
  public init(memory: Int = 2 << 20, memoryPerByte: Int = 64, milliseconds: Int = 2000, length: Int = 8192) {
    self.memory = memory
    self.memoryPerByte = memoryPerByte
    self.milliseconds = milliseconds
    self.length = length
  }

  /// Live bytes that an input of `length` bytes may take.
  public func memory(length: Int) -> Int { memory + memoryPerByte * length }
}

/// Something that must hold of whatever a parser accepts does not.
public struct FuzzFailure: Error, CustomStringConvertible {
  /// What does not hold.
  public let reason: String
  /// What does not hold.
  public var description: String { reason }

  /// Says what does not hold.
  public init(_ reason: String) { self.reason = reason }

  /// - Throws: `FuzzFailure` where `condition` does not hold.
  static func unless(_ condition: Bool, _ reason: @autoclosure () -> String) throws(FuzzFailure) {
    if !condition { throw FuzzFailure(reason()) }
  }

  /// Runs `body`, which must not fail: what was accepted once has to be accepted in its own written form.
  static func onError<Result>(_ reason: String, _ body: () throws -> Result) throws(FuzzFailure) -> Result {
    do { return try body() } catch { throw FuzzFailure("\(reason): \(error)") }
  }
}

/// A folder for parsers that read files. It lies below `FUZZ_SCRATCH` where the environment has that, else in memory where
/// the machine has such a place.
public final class FuzzScratch: Sendable {
  /// Names the folder below which a process makes its own. A child that is killed leaves its folder there for its parent.
  public static let parentVariable = "FUZZ_SCRATCH"

  /// The folder.
  public let folder: URL

  /// Makes a new folder.
  public init() throws {
    let memory = URL(fileURLWithPath: "/dev/shm")
    let given = ProcessInfo.processInfo.environment[Self.parentVariable].map { URL(fileURLWithPath: $0) }
    let parent = given ?? (access(memory.path, W_OK) == 0 ? memory : FileManager.default.temporaryDirectory)
    folder = parent.appendingPathComponent("fedlora-fuzz-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// Writes `bytes` to the file of this name, replacing what it held.
  func file(_ name: String, _ bytes: some Collection<UInt8>) throws -> URL {
    let url = folder.appendingPathComponent(name)
    let descriptor = open(url.path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw FuzzFailure("cannot write \(url.path): \(String(cString: strerror(errno)))") }
    defer { close(descriptor) }
    var rest = Array(bytes)[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      guard written > 0 else { throw FuzzFailure("cannot write \(url.path): \(String(cString: strerror(errno)))") }
      rest = rest.dropFirst(written)
    }
    return url
  }

  /// A folder inside this one.
  func subfolder(_ name: String) throws -> URL {
    let url = folder.appendingPathComponent(name)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    return url
  }
}
