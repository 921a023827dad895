//! What the rules look at: the status of the streams, what Postgres knows, how the channels fare.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::channel::backoff::ChannelTrouble;
use crate::alert::incident::life::Gap;
use crate::model::phase::Phase;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::status::{FailingReport, StreamReport};

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

/// What a cause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of<'a> {
    Stream(&'a str),
    /// A group of more than one stream.
    Group(&'a str),
    Process,
}

impl<'a> Of<'a> {
    pub(super) const fn name(self) -> Option<&'a str> {
        match self {
            Self::Stream(name) | Self::Group(name) => Some(name),
            Self::Process => None,
        }
    }
}

/// The streams of one group.
#[derive(Debug)]
pub(super) struct SeenGroup<'a> {
    name: &'a str,
    pub streams: Vec<&'a Seen>,
    /// The steps that fail for all of them.
    pub failing: Vec<&'a FailingReport>,
}

impl Observed {
    /// The streams by group. One that a release without groups tells of is a group of its own.
    pub(super) fn groups(&self) -> Vec<SeenGroup<'_>> {
        let mut groups: BTreeMap<&str, SeenGroup<'_>> = BTreeMap::new();
        for seen in &self.streams {
            let StreamReport { name, group, .. } = &seen.report;
            let name = if group.is_empty() { name } else { group };
            let new = SeenGroup { name, streams: Vec::new(), failing: Vec::new() };
            groups.entry(name).or_insert(new).streams.push(seen);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.iter_mut().for_each(SeenGroup::share);
        groups
    }
}

impl<'a> SeenGroup<'a> {
    pub const fn is_many(&self) -> bool {
        self.streams.len() > 1
    }

    /// What an incident of it is about.
    pub fn of(&self) -> Of<'a> {
        match self.streams.as_slice() {
            [alone] => Of::Stream(&alone.report.name),
            _ => Of::Group(self.name),
        }
    }

    /// A report that shows what is the group's: of a stream that is at work, if there is one.
    pub fn report(&self) -> Option<&'a StreamReport> {
        let mut fresh = self.streams.iter().filter(|seen| seen.fresh).map(|seen| &seen.report);
        let first = fresh.next()?;
        let at_work = |report: &&StreamReport| report.phase.is_at_work();
        std::iter::once(first).chain(fresh).find(at_work).or(Some(first))
    }

    /// Whether it is the one that incidents call so.
    pub fn is(&self, name: &str) -> bool {
        self.is_many() && self.name == name
    }

    /// Whether a person told all of its streams to stop for a while.
    pub fn is_paused(&self) -> bool {
        self.streams.iter().all(|seen| seen.report.phase == Phase::Paused)
    }

    /// Since when no process leads it.
    pub fn unled_since(&self) -> Option<DateTime<Utc>> {
        let since = self.streams.iter().map(|seen| seen.unled_since);
        since.min().flatten()
    }

    fn share(&mut self) {
        let mut fresh = self.streams.iter().filter(|seen| seen.fresh).map(|seen| &seen.report);
        self.failing = fresh.next().iter().flat_map(|report| &report.failing).collect();
        for report in fresh {
            self.failing.retain(|failing| report.failing.contains(failing));
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Dead letters not resolved, by stream.
    pub dead_letters: BTreeMap<String, u64>,
    /// Each stream's last ended walk, if it completed.
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
    /// It ended a short while ago.
    pub lately: bool,
    pub gap: Gap,
}

#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// `retry.escalate_after`.
    pub escalate_after: TimeDelta,
    /// `expect_changes_within`, by stream.
    pub changes_within: BTreeMap<String, TimeDelta>,
}
