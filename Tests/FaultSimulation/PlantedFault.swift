/// Faults that are built in on purpose, one at a time, to see that the simulation finds them.
package enum PlantedFault: String, CaseIterable, Sendable {
  /// The coordinator does not sync the files of updates and states.
  case coordinatorSkipsFileSyncs = "coordinator-skips-file-syncs"
  /// The coordinator does not sync folders after a rename.
  case coordinatorSkipsFolderSyncs = "coordinator-skips-folder-syncs"
  /// The coordinator's database commits without waiting for the disk.
  case coordinatorSkipsDatabaseSyncs = "coordinator-skips-database-syncs"
  /// An update is acknowledged when it arrives and stored when the next thing happens.
  case acknowledgesEarly = "acknowledges-early"
  /// An update counts in the open round, whichever round it is of.
  case forgetsRoundCheck = "forgets-round-check"
  /// An update counts under the name that it states first, not that of its sender.
  case takesAnotherName = "takes-another-name"
  /// One update of a round is added twice.
  case countsTwice = "counts-twice"
  /// A coordinator that comes back does not know of the newest commit.
  case forgetsCommit = "forgets-commit"
  /// A round is closed although an accepted update is left out.
  case dropsAccepted = "drops-accepted"
  /// A coordinator that comes back arms no timer.
  case forgetsTimers = "forgets-timers"
  /// A round's state is sent before the commit of the round before is durable.
  case sendsUncommitted = "sends-uncommitted"
  /// In an asynchronous run: a stale update counts like a fresh one.
  case forgetsStaleness = "forgets-staleness"
  /// A private release is charged once its round is committed.
  case chargesReleaseLate = "charges-release-late"
  /// A round that was charged before a crash is noised again at no charge.
  case chargesRoundOnce = "charges-round-once"
  /// A private release goes out without its noise.
  case forgetsNoise = "forgets-noise"
  /// A coordinator that comes back draws the open round's secret cohort again.
  case redrawsCohort = "redraws-cohort"
  /// A commit says how many updates a secret cohort sent.
  case tellsCohortSize = "tells-cohort-size"
  /// A client of no secret cohort is told who is in it.
  case tellsCohort = "tells-cohort"
  /// A robust round is the mean of its updates after a restart.
  case forgetsRule = "forgets-rule"
  /// An update whose tensors were refused counts all the same.
  case countsRefused = "counts-refused"
  /// Nobody is told that its update was refused.
  case refusesSilently = "refuses-silently"
  /// A client whose update was refused cannot send another one.
  case refusesForGood = "refuses-for-good"
  /// A client does not sync what it seals.
  case clientSkipsSyncs = "client-skips-syncs"
  /// A client that comes back has forgotten its sealed update.
  case forgetsSealed = "forgets-sealed"
  /// Clients of one process share what each takes for its own tensors.
  case sharesPersonal = "shares-personal"
  /// A client sends its update before it is sealed.
  case sendsUnsealed = "sends-unsealed"
  /// A client charges its ledger after it has sent.
  case chargesLate = "charges-late"

  /// In which runs it shows.
  package var scope: FaultSettings.Scope { self == .forgetsStaleness ? .buffered : .everything }

  /// The only kind of run in which it shows; nil where it shows in all.
  var kind: RunKind.Name? {
    switch self {
    case .chargesReleaseLate, .chargesRoundOnce, .forgetsNoise, .redrawsCohort, .tellsCohortSize, .tellsCohort: .secret
    case .forgetsRule: .robust
    default: nil
    }
  }
}
