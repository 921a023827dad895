//! What the rules look at: the status of the streams, what Postgres knows, how the channels fare.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::channel::backoff::ChannelTrouble;
use crate::alert::incident::life::Gap;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::status::StreamReport;

/// Everything the rules look at.
#[derive(Debug)]
pub struct Observed {
    pub streams: Vec<Seen>,
    /// What Postgres knows; `None` while it cannot be asked.
    pub facts: Option<Facts>,
    pub channels: Vec<ChannelTrouble>,
    pub limits: Limits,
}

/// A stream, as its leader tells.
#[derive(Debug, Clone)]
pub struct Seen {
    pub report: StreamReport,
    /// Whether the report is of now; if not, nothing is concluded from it.
    pub fresh: bool,
    /// Since when no process leads it.
    pub unled_since: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Dead letters not resolved, by stream.
    pub dead_letters: BTreeMap<String, u64>,
    /// Each stream's last ended walk, if it completed a short while ago.
    pub ended: Vec<KnownWalk>,
    /// Streams whose newest walk failed.
    pub failed: Vec<KnownWalk>,
    /// Each stream's last walk that was to repair what was missed and ended without completing, if
    /// no walk has completed since.
    pub unrepaired: Vec<KnownWalk>,
    /// Processes that ended without saying so, lately.
    pub crashes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownWalk {
    pub stream: String,
    pub reason: Reason,
    pub state: ResyncState,
    pub note: Option<String>,
    pub gap: Gap,
}

#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// `retry.escalate_after`.
    pub escalate_after: TimeDelta,
    /// `expect_changes_within`, by stream.
    pub changes_within: BTreeMap<String, TimeDelta>,
}
