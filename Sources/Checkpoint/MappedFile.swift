import Foundation

/// A whole file mapped read-only into memory for as long as the object lives.
///
/// `@unchecked Sendable`: the bytes are immutable after `init` and are let go of only in `deinit`.
public final class MappedFile: @unchecked Sendable {
  /// The content; valid as long as this object lives.
  public let bytes: UnsafeRawBufferPointer
  private let isMapped: Bool

  /// Takes a copy of bytes that are not in a file of this machine.
  public init(copying data: Data) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: data.count, alignment: 64)
    data.copyBytes(to: copy)
    bytes = UnsafeRawBufferPointer(copy)
    isMapped = false
  }

  /// Maps a file.
  /// - Throws: `SafetensorsError` with code `unreadable`.
  public init(_ url: URL) throws {
    isMapped = true
    let descriptor = open(url.path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw MappedFile.failure(url, "cannot be opened") }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw MappedFile.failure(url, "cannot be examined") }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw SafetensorsError(.unreadable, file: url.path, reason: "is not a regular file")
    }
    let size = Int(status.st_size)
    guard size > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), address != MAP_FAILED else {
      throw MappedFile.failure(url, "cannot be mapped")
    }
    bytes = UnsafeRawBufferPointer(start: address, count: size)
  }

  deinit {
    guard isMapped else { return bytes.deallocate() }
    if let address = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: address), bytes.count) }
  }

  /// Gives back the memory of whole pages within `range`; whoever reads them again gets them from the file again.
  func release(_ range: Range<Int>) {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    let first = (range.lowerBound + page - 1) / page * page
    let end = range.upperBound / page * page
    guard isMapped, first < end, let start = bytes.baseAddress else { return }
    // Only advice: where it is not taken, the memory stays, and nothing else changes.
    _ = madvise(UnsafeMutableRawPointer(mutating: start + first), end - first, MADV_DONTNEED)
  }

  private static func failure(_ url: URL, _ what: String) -> SafetensorsError {
    SafetensorsError(.unreadable, file: url.path, reason: "\(what): \(String(cString: strerror(errno)))")
  }
}
