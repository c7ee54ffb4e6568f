/// Which layers of a model something holds for.
public enum LayerChoice: Sendable, Equatable {
  /// All of them.
  case all
  /// Every second one, from the first.
  case even
  /// Those from this one on.
  case from(Int)
  /// All but every n-th: with 4 the fourth, the eighth and so on are left out.
  case allButEvery(Int)
  /// Those where the list says so; none beyond its end.
  case listed([Bool])

  /// Whether layer `index`, counted from 0, is one of them.
  public func contains(_ index: Int) -> Bool {
    switch self {
    case .all: true
    case .even: index.isMultiple(of: 2)
    case .from(let first): index >= first
    case .allButEvery(let interval): (index + 1) % interval != 0
    case .listed(let flags): flags.indices.contains(index) && flags[index]
    }
  }
}
