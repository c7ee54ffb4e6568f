#if !LIBFUZZER
  /// Makes an input smaller as long as it still ends a child for the same cause: parts are cut out, long ones
  /// first.
  struct Minimiser {
    let child: Child
    let death: Child.Death.Cause
    /// Each try starts a process.
    private static let mostTries = 400

    func minimised(_ input: [UInt8]) throws -> [UInt8] {
      var best = input
      var tries = 0
      func holds(_ candidate: [UInt8]) throws -> Bool {
        tries += 1
        return try child.run(input: candidate)?.cause == death
      }
      // A child that stood still takes minutes to say so again.
      guard death != .stuck, try holds(best) else { return input }
      var size = max(1, best.count / 2)
      while tries < Minimiser.mostTries {
        var place = 0
        var hasShrunk = false
        while place < best.count, tries < Minimiser.mostTries {
          var candidate = best
          candidate.removeSubrange(place..<min(best.count, place + size))
          if try holds(candidate) {
            best = candidate
            hasShrunk = true
          } else {
            place += size
          }
        }
        if size > 1 { size /= 2 } else if !hasShrunk { break }
      }
      return best
    }
  }
#endif
