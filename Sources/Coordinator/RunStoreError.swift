/// Why a run's folder cannot be used, or something cannot be kept in it.
public enum RunStoreError: Error, Equatable, CustomStringConvertible {
  /// There is no run in the folder.
  case noRun(path: String)
  /// There is a run in the folder already.
  case runExists(path: String)
  /// Another process, or another part of this one, has the run open.
  case inUse(path: String)
  /// The folder or its database cannot be opened.
  case cannotOpen(path: String, reason: String)
  /// The folder's disk is full, read-only or broken.
  case unwritable(path: String, reason: String)
  /// The database was written by a later version of fedlora.
  case newerVersion(path: String)
  /// Something that the database names is not there, or does not fit the rest.
  case damaged(path: String, reason: String)
  /// A client's name cannot be a file's name.
  case unusableName(String)
  /// A metric is NaN or infinite.
  case metricNotFinite(name: String, metric: String)
  /// A round is committed out of turn.
  case roundOutOfTurn(found: Int, expected: Int)

  /// What was found, what was expected, and what to do.
  public var description: String {
    switch self {
    case .noRun(let path): "\(path) holds no run (run.sqlite is missing); check the path, or start a new run there"
    case .runExists(let path): "\(path) holds a run already; resume it, or choose another folder"
    case .inUse(let path): "the run in \(path) is open in another coordinator; stop that one first"
    case .cannotOpen(let path, let reason): "cannot open the run in \(path): \(reason)"
    case .unwritable(let path, let reason):
      "the run in \(path) cannot be read or written: \(reason); make room or mend the disk, then start again: nothing "
        + "that was acknowledged is lost"
    case .newerVersion(let path): "the run in \(path) was written by a newer fedlora; use that version or a later one"
    case .damaged(let path, let reason): "the run in \(path) is damaged: \(reason)"
    case .unusableName(let name): "the client name '\(name)' is empty or longer than 80 bytes"
    case .metricNotFinite(let name, let metric): "metric '\(metric)' of client '\(name)' is not finite"
    case .roundOutOfTurn(let found, let expected): "round \(found) cannot be committed, round \(expected) is next"
    }
  }
}
