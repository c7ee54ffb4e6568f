import FedLoRACoordinator

/// What a simulation reports while it runs.
public enum SimulationEvent: Sendable {
  /// Model and data are read.
  case loaded(clients: Int, train: Int, test: Int, labels: Int, parameters: Int)
  /// A comparison plays this run, the so-manieth of so many.
  case cell(name: String, number: Int, of: Int)
  /// A baseline or a strategy starts.
  case started(name: String, rounds: Int?)
  /// A baseline has come this far, in [0, 1].
  case progress(name: String, fraction: Double)
  /// A coordinator reported something.
  case coordinator(strategy: String, CoordinatorEvent)
  /// A baseline or a strategy is done.
  case finished(ResultRow)
}
