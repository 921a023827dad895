//! What is wrong where a collection is walked: what a walk repairs, what keeps it. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::incident::life::Progress;
use crate::alert::rule::causes::Causes;
use crate::alert::rule::loss::{is_of_position, lost_by, severity, why};
use crate::alert::rule::observed::{Of, SeenGroup};
use crate::error::{Code, rules};
use crate::model::resync_state::ResyncState;
use crate::status::{ResyncReport, StreamReport};

/// How long after its deadline a resync is flagged from outside, if it has not said so itself.
const OVERDUE: TimeDelta = TimeDelta::seconds(30);

impl Causes<'_> {
    pub(super) fn of_walk(
        &mut self,
        now: DateTime<Utc>,
        group: &SeenGroup<'_>,
        stream: &StreamReport,
        walk: &ResyncReport,
    ) {
        let name = Of::Stream(&stream.name);
        let id = walk.id.to_string();
        // What the position missed is told once, of the group.
        let is_groups = group.is_many() && is_of_position(walk.reason);
        if let Some(lost) = lost_by(walk.reason).filter(|_| !is_groups) {
            let asked = !walk.reason.is_automatic();
            let summary = match lost {
                Code::SourceDropped => "the collection was dropped or renamed, and is there again",
                _ => why(walk.reason),
            };
            let cause = self.add(lost, name, summary.to_owned());
            cause.since = Some(walk.started_at);
            cause.severity = severity(walk.reason, cause.severity);
            cause.resync = Some(walk.id);
            cause.progress = Some(progress(walk));
            // A resync that a person asked for opens no incident, but keeps the one open that made
            // them ask.
            cause.lasting = if asked { TimeDelta::MAX } else { TimeDelta::zero() };
            if stream.halt_code.is_none() {
                cause.action = None;
                cause.doing = format!(
                    "It repairs the table by resync {id}, a full walk of the collection, and goes \
                     on following."
                );
            }
        }
        let held = walk
            .held_code
            .as_deref()
            .and_then(Code::parse)
            .filter(|_| walk.state == ResyncState::Held);
        let overdue =
            walk.deadline_at.filter(|at| now - *at > OVERDUE && walk.state != ResyncState::Held);
        let code = held.or(overdue.map(|_| Code::ResyncOverBudget));
        if let Some(code) = code {
            let said = walk
                .note
                .clone()
                .unwrap_or_else(|| "it has passed its deadline and has not ended".to_owned());
            let cause = self.add(code, name, format!("resync {id}: {said}"));
            // Only a resync that waits for a word can be given one.
            let overdue = || {
                format!(
                    "Find out why it is slow; `tidemark resync cancel {id} --reason TEXT \
                     --execute` ends it."
                )
            };
            cause.action = Some(match held {
                Some(code) => rules::of(code).to_do(name.name(), Some(walk.id)),
                None => overdue(),
            });
            cause.progress = Some(progress(walk));
        }
    }
}

pub(super) const fn progress(walk: &ResyncReport) -> Progress {
    Progress {
        documents_read: walk.documents_read,
        documents_estimated: walk.documents_estimated,
        rows_written: walk.rows_upserted,
        rows_deleted: walk.rows_deleted,
        eta_at: walk.eta_at,
    }
}
