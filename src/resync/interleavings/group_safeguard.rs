//! The safeguards of the cut, each of which the model of a group can be run without.

/// Which safeguard is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Omitted {
    Nothing,
    /// A batch ends between two cluster times.
    WholeTimes,
    /// Where it does not, no table is exact until that time is passed.
    Amid,
    /// A table that is walked is not exact.
    Walking,
    /// Nor is it afterwards, until the position has passed the latest of the walk's reads.
    Walked,
    /// What a sweep leaves, because the source has it, is as new as its answer.
    Swept,
    /// A chunk is as new as the newest of its finds.
    NewestFind,
    /// What is of the time at which a walk begins is swept, too.
    HalfIsOlder,
    /// A document that could not be read as it was makes the table newer than the position.
    LookedUp,
    /// So does one that was not found.
    GoneIsAhead,
    /// What was read while a walk was open counts also when it has ended.
    KeptByWalk,
    /// What was ahead of the position before a walk is so once that is cancelled.
    AheadBefore,
    /// A table that lacks something is not exact when its walk is cancelled.
    BlindIsWalked,
    /// A table that is parked is not exact.
    Parked,
    /// It is walked before it is again.
    Repair,
    /// After a rewind tables are newer than the position.
    Rewound,
    /// The first position is not past what has not come yet.
    Opening,
}
