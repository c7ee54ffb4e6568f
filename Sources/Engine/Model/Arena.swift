/// One block of floats from which a pass takes its buffers. It grows when a larger pass comes and is reused otherwise,
/// so that a step of a size already seen allocates nothing.
///
/// `@unchecked Sendable`: an arena belongs to one worker, and only that worker's thread touches it during a pass.
final class Arena: @unchecked Sendable {
  private var base: UnsafeMutablePointer<Float>?
  private var capacity = 0
  private var used = 0

  deinit { base?.deallocate() }

  /// Bytes that are held.
  var byteCount: Int { capacity * MemoryLayout<Float>.stride }

  /// Forgets all buffers and makes room for `count` floats and the rounding of `buffers` pieces.
  func reset(toHold count: Int, buffers: Int) {
    used = 0
    let needed = count + buffers * Arena.granule
    guard needed > capacity else { return }
    base?.deallocate()
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: needed * MemoryLayout<Float>.stride,
      alignment: Arena.granule * MemoryLayout<Float>.stride
    )
    base = raw.bindMemory(to: Float.self, capacity: needed)
    capacity = needed
  }

  /// The next `count` floats, on a cache line of their own, uninitialised.
  func take(_ count: Int) -> UnsafeMutablePointer<Float> {
    let rounded = (count + Arena.granule - 1) / Arena.granule * Arena.granule
    guard let base, used + rounded <= capacity else {
      preconditionFailure("an arena of \(capacity) floats was asked for more than it was reset to hold")
    }
    defer { used += rounded }
    return base + used
  }

  /// Floats per cache line.
  private static let granule = 16
}
