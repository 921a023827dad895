//! The safeguards of a walk, each of which the model can be run without.

/// Which safeguard is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    Sweep,
    /// Older cluster times overwrite newer ones.
    Guard,
    /// A chunk is stamped with the time it is written at instead of the time it was read at.
    EarlyStamp,
    /// A document that was looked up is stamped with its event's time instead of the time it was
    /// read at.
    ReadStamp,
    /// Keys written live since a chunk's read began are written from the chunk all the same.
    TouchedKeys,
    /// The sweep takes rows newer than the walk's start, too.
    SweepAge,
    /// The walk's place is remembered before its chunk is written.
    PlaceWithChunk,
    /// What is left out of a chunk because the table has it does not count as seen.
    SeenThoughKnown,
    /// What a live batch leaves unwritten while a walk is open does not count as seen.
    SeenThoughUnwritten,
    /// A segment of the table may hold rows that the find did not find.
    NothingElseInSegment,
    /// What one find found is followed by what another did, wherever that one began.
    OneLine,
    /// What is in memory is written on top of a database that went back.
    Revision,
    /// A walk is believed though its collection is gone, or is another one.
    SameCollection,
    /// A walk begins at what the source is by now, and what happened before is applied beside it.
    SkipsWhatWas,
    /// The sweep begins though the live stream has not come to the walk's start.
    SweepInTurn,
}
