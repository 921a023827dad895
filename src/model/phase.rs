//! The phases of a stream: the next one is a pure function of the phase and what happened.

use super::vocabulary::vocabulary;

vocabulary! {
    /// Where a stream is in its life.
    pub enum Phase {
        /// Another process may lead it; this one waits for the lease.
        Standby = "standby",
        /// The lease is held; the stored position is being taken up.
        Resuming = "resuming",
        /// Following, and walking the collection for the first time.
        Snapshotting = "snapshotting",
        /// Following, and walking the collection because history was lost.
        Resyncing = "resyncing",
        /// Following.
        Streaming = "streaming",
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
    WalkCompleted,
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
        !matches!(self, Self::Standby | Self::Draining | Self::Halted)
    }

    /// Whether the stream is followed.
    pub const fn follows(self) -> bool {
        matches!(self, Self::Streaming | Self::Snapshotting | Self::Resyncing)
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
            | (Self::Snapshotting | Self::Resyncing, Happened::WalkCompleted) => Self::Streaming,
            (Self::Resuming, Happened::SnapshotUnderWay) => Self::Snapshotting,
            (Self::Resuming, Happened::ResyncUnderWay) => Self::Resyncing,
            (
                Self::Resuming | Self::Snapshotting | Self::Resyncing | Self::Streaming,
                Happened::ToldToStop,
            ) => Self::Draining,
            (
                Self::Resuming
                | Self::Snapshotting
                | Self::Resyncing
                | Self::Streaming
                | Self::Draining,
                Happened::PersonNeeded,
            ) => Self::Halted,
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
    fn a_lost_lease_ends_in_standby_from_anywhere_and_standby_never_writes() {
        for phase in Phase::ALL {
            assert_eq!(phase.next(Happened::LeaseLost), Some(Phase::Standby));
        }
        for happened in [
            Happened::Resumed,
            Happened::SnapshotUnderWay,
            Happened::ResyncUnderWay,
            Happened::WalkCompleted,
        ] {
            assert_eq!(Phase::Standby.next(happened), None);
            assert_eq!(Phase::Halted.next(happened), None);
        }
    }
}
