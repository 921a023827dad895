//! The phases of a stream: the next one is a pure function of the phase and what happened.

use super::vocabulary::vocabulary;

vocabulary! {
    /// Where a stream is in its life.
    pub enum Phase {
        /// Another process may lead it; this one waits for the lease.
        Standby = "standby",
        /// The lease is held; the stored position is being taken up.
        Resuming = "resuming",
        /// Following, and waiting for its turn to walk the collection.
        Queued = "queued",
        /// Following, and walking the collection for the first time.
        Snapshotting = "snapshotting",
        /// Following, and walking the collection because history was lost.
        Resyncing = "resyncing",
        /// Following.
        Streaming = "streaming",
        /// Its table or collection cannot be followed for now, for a cause of its own: its group
        /// goes on without it, and it is repaired by a resync once the cause is gone.
        Parked = "parked",
        /// A person told it to stop for a while; repaired by a resync, too.
        Paused = "paused",
        /// Told to stop: the last batch is being committed.
        Draining = "draining",
        /// A person must act; probed slowly.
        Halted = "halted",
    }
}

/// What can happen to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    LeaseGranted,
    LeaseLost,
    /// Opened after a position, with no walk under way.
    Resumed,
    /// Opened, with the first walk begun or continued.
    SnapshotUnderWay,
    /// Opened, with a resync begun or continued.
    ResyncUnderWay,
    /// A walk is due, and has to wait for those of other streams.
    WalkQueued,
    WalkCompleted,
    /// Its table or collection cannot be followed for now.
    SetAside,
    /// A person told it to stop for a while.
    ToldToPause,
    ToldToStop,
    Stopped,
    PersonNeeded,
    ProbeDue,
}

impl Phase {
    /// As stored. Of one of another release nothing is concluded, as while a stream is taken up.
    pub fn stored(word: &str) -> Self {
        Self::parse(word).unwrap_or(Self::Resuming)
    }

    /// Whether the stream is followed in it, or soon will be.
    pub const fn is_at_work(self) -> bool {
        matches!(self, Self::Resuming) || self.follows()
    }

    /// Whether the stream is followed.
    pub const fn follows(self) -> bool {
        matches!(self, Self::Queued | Self::Snapshotting | Self::Resyncing | Self::Streaming)
    }

    /// Whether the lease is held and not about to be given back: a walk can be due, which is what
    /// repairs parked and paused streams.
    const fn is_taken_up(self) -> bool {
        self.is_at_work() || matches!(self, Self::Parked | Self::Paused)
    }

    /// The next phase; `None` if this cannot happen in this phase.
    pub const fn next(self, happened: Happened) -> Option<Self> {
        let next = match (self, happened) {
            (_, Happened::LeaseLost)
            | (Self::Draining | Self::Halted | Self::Resuming, Happened::Stopped) => Self::Standby,
            (Self::Standby, Happened::LeaseGranted) | (Self::Halted, Happened::ProbeDue) => {
                Self::Resuming
            }
            (Self::Resuming, Happened::Resumed)
            | (Self::Queued | Self::Snapshotting | Self::Resyncing, Happened::WalkCompleted) => {
                Self::Streaming
            }
            (Self::Resuming | Self::Queued, Happened::SnapshotUnderWay) => Self::Snapshotting,
            (Self::Resuming | Self::Queued, Happened::ResyncUnderWay) => Self::Resyncing,
            (from, Happened::WalkQueued) if from.is_taken_up() => Self::Queued,
            (from, Happened::SetAside) if from.is_at_work() => Self::Parked,
            (from, Happened::ToldToPause) if from.is_taken_up() => Self::Paused,
            (from, Happened::ToldToStop) if from.is_taken_up() => Self::Draining,
            (Self::Draining, Happened::PersonNeeded) => Self::Halted,
            (from, Happened::PersonNeeded) if from.is_taken_up() => Self::Halted,
            _ => return None,
        };
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_lives_from_standby_to_streaming_and_back() {
        let story = [
            (Happened::LeaseGranted, Phase::Resuming),
            (Happened::SnapshotUnderWay, Phase::Snapshotting),
            (Happened::WalkCompleted, Phase::Streaming),
            (Happened::PersonNeeded, Phase::Halted),
            (Happened::ProbeDue, Phase::Resuming),
            (Happened::Resumed, Phase::Streaming),
            (Happened::ToldToStop, Phase::Draining),
            (Happened::Stopped, Phase::Standby),
        ];
        story.into_iter().fold(Phase::Standby, |phase, (happened, expected)| {
            assert_eq!(phase.next(happened), Some(expected), "{phase:?} {happened:?}");
            expected
        });
    }

    #[test]
    fn a_stream_that_is_set_aside_is_repaired_in_its_turn() {
        let story = [
            (Happened::SetAside, Phase::Parked),
            (Happened::WalkQueued, Phase::Queued),
            (Happened::ResyncUnderWay, Phase::Resyncing),
            (Happened::ToldToPause, Phase::Paused),
            (Happened::WalkQueued, Phase::Queued),
            (Happened::WalkCompleted, Phase::Streaming),
        ];
        story.into_iter().fold(Phase::Streaming, |phase, (happened, expected)| {
            assert_eq!(phase.next(happened), Some(expected), "{phase:?} {happened:?}");
            expected
        });
        assert_eq!(Phase::Parked.next(Happened::Resumed), None, "what was missed is not skipped");
        assert!(!Phase::Parked.is_at_work() && Phase::Queued.follows());
    }

    #[test]
    fn a_lost_lease_ends_in_standby_from_anywhere_and_standby_never_writes() {
        for phase in Phase::ALL {
            assert_eq!(phase.next(Happened::LeaseLost), Some(Phase::Standby));
        }
        for happened in [
            Happened::Resumed,
            Happened::SnapshotUnderWay,
            Happened::ResyncUnderWay,
            Happened::WalkCompleted,
            Happened::WalkQueued,
            Happened::SetAside,
        ] {
            assert_eq!(Phase::Standby.next(happened), None);
            assert_eq!(Phase::Halted.next(happened), None);
        }
    }
}
