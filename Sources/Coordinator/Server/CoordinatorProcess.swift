import Foundation

/// What the process of a coordinator asks of its system; a simulation with a coordinator in it asks for nothing.
package enum CoordinatorProcess {
  /// To be called once, before the first connection.
  package static func prepare() {
    openAsManyFilesAsAllowed()
    keepFreedBuffers()
  }

  /// Every connection takes a file descriptor, and the usual limit of 1024 is a quarter of `limits.connections`.
  private static func openAsManyFilesAsAllowed() {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
  }

  /// Each update takes a buffer of some megabytes for some milliseconds. By default glibc gives such buffers back to the
  /// system and gets them anew, page by page and cleared: an eighth of the processor time of a round. Now up to 64 MiB of freed
  /// memory stay with the process in each of at most four arenas; buffers above 32 MiB are given back as ever.
  private static func keepFreedBuffers() {
    // No module has malloc.h. Another allocator than glibc's has no such function, or takes what it knows of.
    typealias SetOption = @convention(c) (_ option: Int32, _ value: Int32) -> Int32
    guard let address = dlsym(nil, "mallopt") else { return }
    let set = unsafeBitCast(address, to: SetOption.self)
    let (arenaMax, mmapThreshold, trimThreshold): (Int32, Int32, Int32) = (-8, -3, -1)
    _ = set(arenaMax, 4)
    _ = set(mmapThreshold, 32 << 20)
    _ = set(trimThreshold, 64 << 20)
  }
}
