//! What walks repair that was missed: how far they have got for a whole group, what those that have
//! ended repaired, and what is left where one ended without completing. Pure.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use crate::alert::incident::life::{Gap, Progress};
use crate::alert::rule::causes::{Causes, earlier};
use crate::alert::rule::loss::{is_of_position, lost_by, severity, why};
use crate::alert::rule::observed::{Facts, KnownWalk, Of, SeenGroup};
use crate::alert::rule::resync::progress;
use crate::error::Code;
use crate::model::resync_state::ResyncState;
use crate::status::{ResyncReport, StreamReport};

const REPAIR: &str = "Ask for the repair again: `tidemark resync STREAM --reason TEXT --execute`.";

const BLIND: &str = "It goes on following. Rows that changed while it was blind may be wrong \
                     until a resync is completed.";

impl Causes<'_> {
    /// What the position of a whole group missed, while its tables are repaired.
    pub(super) fn of_lost_history(&mut self, group: &SeenGroup<'_>, report: &StreamReport) {
        let fresh = group.streams.iter().filter(|seen| seen.fresh);
        let walk = |report: &'_ StreamReport| report.resync.clone();
        let open: Vec<(&str, ResyncReport)> = fresh
            .filter_map(|seen| Some((seen.report.name.as_str(), walk(&seen.report)?)))
            .filter(|(_, walk)| is_of_position(walk.reason))
            .collect();
        let Some((_, first)) = open.first().filter(|_| group.is_many()) else { return };
        let names: Vec<&str> = open.iter().map(|(name, _)| *name).collect();
        let summary = format!("{}; to be repaired: {}", why(first.reason), told(&names));
        let cause = self.add(Code::HistoryLost, group.of(), summary);
        for (_, walk) in &open {
            cause.since = Some(earlier(cause.since, walk.started_at));
            cause.resync = cause.resync.max(Some(walk.id));
            cause.progress = Some(sum(cause.progress.take(), progress(walk)));
        }
        cause.lasting = TimeDelta::zero();
        if report.halt_code.is_none() {
            cause.action = None;
            "It repairs the tables, each by a full walk of its collection, and goes on following."
                .clone_into(&mut cause.doing);
        }
    }

    /// What was missed by streams whose walks have ended.
    pub(super) fn of_repairs(&mut self, groups: &[SeenGroup<'_>], facts: &Facts) {
        let mut of_groups: BTreeMap<&str, Vec<&KnownWalk>> = BTreeMap::new();
        let is_groups = |causes: &Self, walk: &KnownWalk| match causes.groups.get(&*walk.stream) {
            Some(Of::Group(_)) => is_of_position(walk.reason),
            _ => false,
        };
        for walk in &facts.ended {
            if !is_groups(self, walk) {
                self.of_repaired(walk);
            }
        }
        // A stream that is configured nowhere any more has nothing to be repaired.
        let unrepaired =
            facts.unrepaired.iter().filter(|walk| self.groups.contains_key(&*walk.stream));
        for walk in unrepaired.collect::<Vec<_>>() {
            if is_groups(self, walk) {
                let name = self.groups.get(&*walk.stream).and_then(|of| of.name());
                of_groups.entry(name.unwrap_or_default()).or_default().push(walk);
            } else {
                self.of_unrepaired(walk);
            }
        }
        for group in groups.iter().filter(|group| group.is_many()) {
            let of = group.of();
            let left = of_groups.remove(of.name().unwrap_or_default()).unwrap_or_default();
            self.of_group_unrepaired(of, &left);
            if !self.has(Code::HistoryLost, of) {
                self.of_group_repaired(of, facts);
            }
        }
    }

    fn of_repaired(&mut self, walk: &KnownWalk) {
        let of = Of::Stream(&walk.stream);
        let Some(code) = lost_by(walk.reason).filter(|_| walk.lately) else { return };
        if !self.has(code, of) {
            self.over(code, of, walk, walk.gap.clone());
        }
    }

    fn over(&mut self, code: Code, of: Of<'_>, walk: &KnownWalk, gap: Gap) {
        let asked = !walk.reason.is_automatic();
        let cause = self.add(code, of, why(walk.reason).to_owned());
        cause.action = None;
        cause.resync = Some(gap.resync);
        cause.over = Some(gap);
        cause.lasting = if asked { TimeDelta::MAX } else { TimeDelta::zero() };
    }

    /// Every table of a group is repaired: told in one, however long the first has been so.
    fn of_group_repaired(&mut self, of: Of<'_>, facts: &Facts) {
        let is_its = |walk: &&KnownWalk| {
            is_of_position(walk.reason) && self.groups.get(&*walk.stream) == Some(&of)
        };
        let ended: Vec<&KnownWalk> = facts.ended.iter().filter(is_its).collect();
        let Some(last) = ended.iter().filter(|w| w.lately).max_by_key(|w| w.gap.resync) else {
            return;
        };
        let same = ended.iter().filter(|walk| walk.gap.blind_from == last.gap.blind_from);
        let gap = same.fold(
            Gap { rows_inserted: 0, rows_changed: 0, rows_deleted: 0, ..last.gap.clone() },
            |all, walk| Gap {
                blind_until: all.blind_until.max(walk.gap.blind_until),
                rows_inserted: all.rows_inserted + walk.gap.rows_inserted,
                rows_changed: all.rows_changed + walk.gap.rows_changed,
                rows_deleted: all.rows_deleted + walk.gap.rows_deleted,
                ..all
            },
        );
        self.over(Code::HistoryLost, of, last, gap);
    }

    fn of_group_unrepaired(&mut self, of: Of<'_>, walks: &[&KnownWalk]) {
        let Some(first) = walks.first() else { return };
        let names = |ended: bool| -> Vec<&str> {
            let of = walks.iter().filter(|walk| ended_as(walk).is_some() == ended);
            of.map(|walk| walk.stream.as_str()).collect()
        };
        let (ended, waiting) = (names(true), names(false));
        if !self.has(Code::HistoryLost, of) {
            let cause = self.add(Code::HistoryLost, of, why(first.reason).to_owned());
            cause.action = None;
            "The repair of its tables goes on when it does.".clone_into(&mut cause.doing);
            if !waiting.is_empty() {
                cause.summary = format!("{}; to be repaired: {}", cause.summary, told(&waiting));
            }
        }
        if ended.is_empty() {
            return;
        }
        let cause = self.add(Code::HistoryLost, of, String::new());
        let what = told(&ended);
        cause.summary = format!("{}; ended without completing: {what}", cause.summary);
        let only = ended.first().filter(|_| ended.len() == 1);
        cause.action = Some(REPAIR.replace("STREAM", only.unwrap_or(&"STREAM")));
        BLIND.clone_into(&mut cause.doing);
    }

    /// Only a completed walk repairs what was missed.
    fn of_unrepaired(&mut self, walk: &KnownWalk) {
        let KnownWalk { stream, reason, gap, .. } = walk;
        let reason = *reason;
        // Where nothing was lost, a walk that waits is nobody's trouble; one that ended without
        // completing is.
        if lost_by(reason).is_none() && ended_as(walk).is_none() {
            return;
        }
        let code = lost_by(reason).unwrap_or(Code::HistoryLost);
        let of = Of::Stream(stream);
        if self.has(code, of) {
            return;
        }
        let (id, why) = (gap.resync, why(reason));
        let Some(ended) = ended_as(walk) else {
            let cause = self.add(code, of, why.to_owned());
            cause.severity = severity(reason, cause.severity);
            (cause.action, cause.resync) = (None, Some(id));
            cause.doing = format!("Its repair, resync {id}, goes on when the stream does.");
            return;
        };
        let cause = self.add(code, of, format!("{why}; its repair, resync {id}, {ended}"));
        cause.action = Some(REPAIR.replace("STREAM", stream));
        BLIND.clone_into(&mut cause.doing);
    }
}

/// How a walk ended that did not complete; `None` if it goes on.
const fn ended_as(walk: &KnownWalk) -> Option<&'static str> {
    match walk.state {
        ResyncState::Cancelled => Some("was cancelled"),
        ResyncState::Failed => Some("ended without completing"),
        _ => None,
    }
}

/// So many streams are named; of more, their number is told.
const NAMED_MAX: usize = 3;

fn told(streams: &[&str]) -> String {
    if streams.len() <= NAMED_MAX {
        streams.join(", ")
    } else {
        format!("{} tables", streams.len())
    }
}

fn sum(all: Option<Progress>, one: Progress) -> Progress {
    let Some(all) = all else { return one };
    Progress {
        documents_read: all.documents_read + one.documents_read,
        documents_estimated: all
            .documents_estimated
            .zip(one.documents_estimated)
            .map(|(a, b)| a + b),
        rows_written: all.rows_written + one.rows_written,
        rows_deleted: all.rows_deleted + one.rows_deleted,
        eta_at: all.eta_at.max(one.eta_at),
    }
}
