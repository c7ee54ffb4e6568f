#if LIBFUZZER
  import CMeter
  import FedLoRAEngine
  import FedLoRAFuzzing
  import Foundation

  // The same targets under libFuzzer, which sees what the code does with an input: Fuzzing/run-libfuzzer builds and starts it.
  // Its `main` takes the place of ours, so the target's name comes from the environment.

  // libFuzzer calls from one thread.
  nonisolated(unsafe) private let session: Session = {
    let name = ProcessInfo.processInfo.environment["FUZZ_TARGET"] ?? ""
    guard let target = FuzzTargets.named(name), let session = try? Session(target: target, record: nil) else {
      preconditionFailure("FUZZ_TARGET is '\(name)', expected one of \(FuzzTargets.all.map(\.name))")
    }
    try? session.warmUp()
    return session
  }()

  /// Called by libFuzzer with each input.
  @_cdecl("LLVMFuzzerTestOneInput")
  public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    do { _ = try session.execute(Array(UnsafeBufferPointer(start: start, count: count)), index: 0) } catch {
      FileHandle.standardError.write(Data("fuzz: \(error)\n".utf8))
      abort()
    }
    return 0
  }

  @_silgen_name("LLVMFuzzerMutate")
  private func mutate(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int, _ capacity: Int) -> Int

  /// Called by libFuzzer for each change: its own mutations or ours, in turn, with the target's repair after them.
  @_cdecl("LLVMFuzzerCustomMutator")
  public func customMutator(_ bytes: UnsafeMutablePointer<UInt8>, _ count: Int, _ capacity: Int, _ seed: CUnsignedInt)
    -> Int
  {
    var generator = SeededGenerator(seed: UInt64(seed))
    let target = session.target
    let choice = generator.next()
    var result: [UInt8]
    if choice & 1 == 0 {
      result = Array(UnsafeBufferPointer(start: bytes, count: mutate(bytes, count, capacity)))
      if choice & 2 == 0, let repair = target.repair { result = repair(result) }
    } else {
      let own = Array(UnsafeBufferPointer(start: bytes, count: count))
      result = Mutator(target).mutated(own, others: [own], using: &generator)
    }
    let length = min(result.count, capacity)
    for index in 0..<length { bytes[index] = result[index] }
    return length
  }
#endif
