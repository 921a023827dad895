//! What may happen, as data: who does it, how often, under which name, and what it is.

use std::time::Duration;

use fastrand::Rng;

/// Those who act at the same time, each one thing after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Whoever works on the source.
    Load,
    /// The machines tidemark runs on.
    Daemons,
    /// MongoDB, the wire to it, and what is done to whole collections.
    Source,
    /// Postgres, the wire to it, and what is done to whole tables.
    Target,
    /// The people who give commands.
    People,
}

impl Lane {
    /// How long it rests between two things.
    pub fn rest(self, rng: &mut Rng) -> Duration {
        Duration::from_millis(match self {
            Self::Load => rng.u64(5..60),
            Self::Daemons => rng.u64(1_000..8_000),
            Self::Source | Self::Target => rng.u64(2_000..9_000),
            Self::People => rng.u64(2_000..10_000),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    WorkingDay,
    Transaction,
    SameAgain,
    BackAgain,
    HugeDocument,
    WideDocument,
    OtherType,
    KillDaemon,
    FreezeDaemon,
    StopDaemon,
    CutSource,
    StallSource,
    KillMongod,
    StepDown,
    RollOplog,
    MajorityStands,
    DropCollection,
    OutCollection,
    RenameOnto,
    CutTarget,
    StallTarget,
    EndSessions,
    CrashPostgres,
    PromoteStandby,
    ReadOnly,
    FullDisk,
    LockTable,
    RefuseRows,
    DropTable,
    TruncateTable,
    RestoreTable,
    Resync,
    CancelResync,
    ApproveResync,
    Compare,
    Rewind,
    RetryLetters,
    Acknowledge,
}

/// One line of the list below.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub action: Action,
    pub lane: Lane,
    /// How often it is chosen among those of its lane.
    pub weight: u32,
    /// For `--without` and `--only`.
    pub name: &'static str,
    pub story: &'static str,
}

const fn line(
    lane: Lane,
    weight: u32,
    action: Action,
    name: &'static str,
    story: &'static str,
) -> Line {
    Line { action, lane, weight, name, story }
}

pub const ACTIONS: &[Line] = &[
    line(Lane::Load, 400, Action::WorkingDay, "working-day", "inserts, updates, replaces, deletes"),
    line(Lane::Load, 60, Action::Transaction, "transaction", "one transaction, both collections"),
    line(Lane::Load, 60, Action::SameAgain, "same-again", "replaces that change nothing"),
    line(Lane::Load, 30, Action::BackAgain, "back-again", "deleted and inserted as it was"),
    line(Lane::Load, 1, Action::HugeDocument, "huge-document", "a document of almost 16 MB"),
    line(Lane::Load, 1, Action::WideDocument, "wide-document", "a document of 100,000 keys"),
    line(Lane::Load, 4, Action::OtherType, "other-type", "a numeric _id changes its type"),
    line(Lane::Daemons, 4, Action::KillDaemon, "kill-daemon", "a daemon is killed"),
    line(Lane::Daemons, 3, Action::FreezeDaemon, "freeze-daemon", "a daemon is frozen"),
    line(Lane::Daemons, 1, Action::StopDaemon, "stop-daemon", "a daemon is told to stop"),
    line(Lane::Source, 5, Action::CutSource, "cut-source", "a member's wires are cut"),
    line(Lane::Source, 4, Action::StallSource, "stall-source", "a member's wires stall"),
    line(Lane::Source, 3, Action::KillMongod, "kill-mongod", "a member is killed"),
    line(Lane::Source, 3, Action::StepDown, "step-down", "the primary steps down"),
    line(Lane::Source, 2, Action::RollOplog, "roll-oplog", "the history rolls over"),
    line(Lane::Source, 1, Action::MajorityStands, "majority-stands", "nothing is confirmed"),
    line(Lane::Source, 1, Action::DropCollection, "drop-collection", "dropped and made again"),
    line(Lane::Source, 1, Action::OutCollection, "out-collection", "$out replaces a collection"),
    line(Lane::Source, 1, Action::RenameOnto, "rename-onto", "another is renamed onto it"),
    line(Lane::Target, 5, Action::CutTarget, "cut-target", "the wires are cut"),
    line(Lane::Target, 4, Action::StallTarget, "stall-target", "the wires stall"),
    line(Lane::Target, 3, Action::EndSessions, "end-sessions", "an administrator ends sessions"),
    line(Lane::Target, 3, Action::CrashPostgres, "crash-postgres", "Postgres crashes"),
    line(
        Lane::Target,
        3,
        Action::PromoteStandby,
        "promote-standby",
        "a lagging standby is promoted",
    ),
    line(Lane::Target, 2, Action::ReadOnly, "read-only", "the database is read-only for a while"),
    line(
        Lane::Target,
        2,
        Action::FullDisk,
        "full-disk",
        "the disk of Postgres is full for a while",
    ),
    line(Lane::Target, 2, Action::LockTable, "lock-table", "a table is locked for a while"),
    line(Lane::Target, 1, Action::RefuseRows, "refuse-rows", "a trigger refuses some rows"),
    line(Lane::Target, 1, Action::DropTable, "drop-table", "a table is dropped"),
    line(Lane::Target, 1, Action::TruncateTable, "truncate-table", "a table is truncated"),
    line(Lane::Target, 1, Action::RestoreTable, "restore-table", "a table is put back from a copy"),
    line(Lane::People, 3, Action::Resync, "resync", "someone asks for a resync"),
    line(Lane::People, 2, Action::CancelResync, "cancel", "someone cancels it"),
    line(Lane::People, 3, Action::ApproveResync, "approve", "someone approves a held one"),
    line(Lane::People, 2, Action::Compare, "compare", "someone compares"),
    line(Lane::People, 1, Action::Rewind, "rewind", "someone rewinds a position"),
    line(Lane::People, 2, Action::RetryLetters, "retry-letters", "someone retries dead letters"),
    line(Lane::People, 2, Action::Acknowledge, "acknowledge", "someone takes an incident on"),
];

/// What of it one lane may do in this run.
pub fn chosen(lane: Lane, only: &[String], without: &[String]) -> Vec<Line> {
    let named = |names: &[String], line: &Line| names.iter().any(|name| name == line.name);
    let of_lane = ACTIONS.iter().filter(|line| line.lane == lane);
    // The load goes on unless it is limited itself.
    let limited = !only.is_empty() && of_lane.clone().any(|line| named(only, line));
    let open = lane == Lane::Load && !limited;
    let fits =
        |line: &&Line| (only.is_empty() || open || named(only, line)) && !named(without, line);
    of_lane.filter(fits).copied().collect()
}

/// One of them, by weight.
pub fn pick(rng: &mut Rng, lines: &[Line]) -> Option<Line> {
    let total: u32 = lines.iter().map(|line| line.weight).sum();
    let mut left = rng.u32(..total.max(1));
    lines.iter().copied().find(|line| {
        let found = left < line.weight;
        left = left.saturating_sub(line.weight);
        found
    })
}

/// A length of time, in milliseconds.
pub fn moment(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}
