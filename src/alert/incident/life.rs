//! The life of an incident: pending → open → acked → resolving → resolved. Pure: the time is
//! passed in.
//!
//! Identity is (environment, service, stream, code), never an error's text. What is told of it is
//! numbered by transition, so that each channel can say how far it has got.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, Severity};

/// What an incident is about, within one service and environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub code: Code,
    /// `None`: of an end that all streams share, or of the process.
    pub stream: Option<String>,
}

/// How far a resync is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub documents_read: u64,
    pub documents_estimated: Option<u64>,
    pub rows_written: u64,
    pub rows_deleted: u64,
    pub eta_at: Option<DateTime<Utc>>,
}

/// What a resync repaired. No ids: those stay in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub resync: i64,
    pub blind_from: Option<DateTime<Utc>>,
    pub blind_until: Option<DateTime<Utc>>,
    pub rows_inserted: i64,
    pub rows_changed: i64,
    pub rows_deleted: i64,
}

/// What the rules see wrong now.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    pub key: Key,
    pub severity: Severity,
    /// Since when, where the status tells.
    pub since: Option<DateTime<Utc>>,
    /// How long it must last before it is an incident.
    pub lasting: TimeDelta,
    /// What is wrong, in one clause.
    pub summary: String,
    /// What a person must do; `None` if nothing.
    pub action: Option<String>,
    /// What tidemark is doing about it.
    pub doing: String,
    /// Failures so far, cumulative.
    pub occurrences: u64,
    pub progress: Option<Progress>,
    /// The resync that repairs it.
    pub resync: Option<i64>,
    /// What the resync repaired, if it has ended: the cause is then over, though its incident may
    /// not have been told yet.
    pub over: Option<Gap>,
    /// A deeper cause explains it.
    pub inhibited: bool,
}

/// What happened to an incident that people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    Opened,
    Worsened,
    Acknowledged,
    Reminder,
    Reopened,
    Resolved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    /// The cause is away; if it stays away, the incident is resolved.
    Resolving,
    Resolved,
}

/// Somebody has taken an incident on, until a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub by: String,
    pub until: DateTime<Utc>,
}

/// What is kept of an incident beside its columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// A title in place of the rule's, for the test incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub since: DateTime<Utc>,
    /// The worst it has been.
    pub worst: Severity,
    pub doing: String,
    pub action: Option<String>,
    pub progress: Option<Progress>,
    pub resync: Option<i64>,
    pub gap: Option<Gap>,
    /// The number of the last transition.
    pub revision: u32,
    pub last: Transition,
    pub changed_at: DateTime<Utc>,
    pub remind_at: DateTime<Utc>,
    pub away_since: Option<DateTime<Utc>>,
}

impl Detail {
    /// Whether the last transition changes what the message says.
    pub const fn last_is_news(&self) -> bool {
        !matches!(self.last, Transition::Opened | Transition::Reminder)
    }
}

/// How far one channel has got with one incident.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The transition last told.
    #[serde(skip)]
    pub told: u32,
    /// How often this delivery was changed, so that an older copy overwrites none that is newer.
    #[serde(skip)]
    pub version: u32,
    /// Where the message is: Slack's channel id and timestamp.
    pub message: Option<(String, String)>,
    /// What the message shows, as a digest.
    pub shown: Option<String>,
    pub edited_at: Option<DateTime<Utc>>,
    /// The worst severity this channel was told.
    pub worst: Option<Severity>,
    /// Whether its end was told.
    pub ended: bool,
}

/// One cause of trouble, from its opening to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Given by Postgres.
    pub id: Option<i64>,
    pub tag: Uuid,
    pub key: Key,
    pub severity: Severity,
    pub state: State,
    pub opened_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
    pub count: u64,
    pub ack: Option<Ack>,
    pub summary: String,
    pub detail: Detail,
    /// By channel.
    pub deliveries: BTreeMap<&'static str, Delivery>,
    /// Whether it differs from its row in what channels are told: it must then be written down
    /// before it is told.
    pub unsaved: bool,
    /// Whether it differs from its row in what changes all the time: it is then written down now
    /// and then.
    pub touched: bool,
    pub saved_at: Option<DateTime<Utc>>,
    /// How often in a row it could not be written down though Postgres answers; `write_after` says
    /// when it is tried again.
    pub(super) refusals: u32,
    pub(super) write_after: Option<DateTime<Utc>>,
    pub(super) inhibited: bool,
    occurrences: u64,
}

impl Incident {
    pub(in crate::alert) fn open(
        now: DateTime<Utc>,
        cause: &Cause,
        since: DateTime<Utc>,
        repeat: TimeDelta,
    ) -> Self {
        Self {
            id: None,
            tag: Uuid::new_v4(),
            key: cause.key.clone(),
            severity: cause.severity,
            state: State::Open,
            opened_at: now,
            resolved_at: None,
            count: 1,
            ack: None,
            summary: cause.summary.clone(),
            detail: Detail {
                title: None,
                since,
                worst: cause.severity,
                doing: cause.doing.clone(),
                action: cause.action.clone(),
                progress: cause.progress.clone(),
                resync: cause.resync,
                gap: cause.over.clone(),
                revision: 1,
                last: Transition::Opened,
                changed_at: now,
                remind_at: later(now, repeat),
                away_since: None,
            },
            deliveries: BTreeMap::new(),
            unsaved: true,
            touched: false,
            saved_at: None,
            refusals: 0,
            write_after: None,
            inhibited: false,
            occurrences: cause.occurrences,
        }
    }

    /// As it was stored.
    #[expect(clippy::too_many_arguments, reason = "one a column")]
    pub const fn stored(
        id: i64,
        tag: Uuid,
        key: Key,
        severity: Severity,
        state: State,
        (opened_at, resolved_at): (DateTime<Utc>, Option<DateTime<Utc>>),
        count: u64,
        ack: Option<Ack>,
        summary: String,
        detail: Detail,
    ) -> Self {
        Self {
            id: Some(id),
            tag,
            key,
            severity,
            state,
            opened_at,
            resolved_at,
            count,
            ack,
            summary,
            detail,
            deliveries: BTreeMap::new(),
            unsaved: false,
            touched: false,
            saved_at: None,
            refusals: 0,
            write_after: None,
            inhibited: false,
            occurrences: 0,
        }
    }

    pub const fn is_resolved(&self) -> bool {
        matches!(self.state, State::Resolved)
    }

    /// Who has taken it on, if that still holds.
    pub fn acked(&self, now: DateTime<Utc>) -> Option<&Ack> {
        self.ack.as_ref().filter(|ack| ack.until > now)
    }

    /// The state's name, for people.
    pub fn state_name(&self, now: DateTime<Utc>) -> &'static str {
        match self.state {
            State::Open if self.acked(now).is_some() => "acked",
            State::Open => "open",
            State::Resolving => "resolving",
            State::Resolved => "resolved",
        }
    }

    pub(super) const fn turn(&mut self, now: DateTime<Utc>, to: Transition) {
        self.detail.revision += 1;
        self.detail.last = to;
        self.detail.changed_at = now;
        self.unsaved = true;
    }

    /// The cause is there.
    pub(super) fn met(&mut self, now: DateTime<Utc>, cause: &Cause) {
        if self.state == State::Resolving {
            self.state = State::Open;
            self.detail.away_since = None;
            self.count += 1;
            self.unsaved = true;
        }
        if self.occurrences > 0 && cause.occurrences > self.occurrences {
            self.count += cause.occurrences - self.occurrences;
            self.touched = true;
        }
        self.occurrences = cause.occurrences;
        self.inhibited = cause.inhibited;
        self.touched |= self.summary != cause.summary;
        let told = (&self.detail.doing, &self.detail.action, self.severity);
        self.unsaved |= told != (&cause.doing, &cause.action, cause.severity)
            || (cause.resync.is_some() && cause.resync != self.detail.resync);
        self.summary.clone_from(&cause.summary);
        self.detail.doing.clone_from(&cause.doing);
        self.detail.action.clone_from(&cause.action);
        self.detail.progress.clone_from(&cause.progress);
        self.detail.resync = cause.resync.or(self.detail.resync);
        self.severity = cause.severity;
        if cause.severity > self.detail.worst {
            self.detail.worst = cause.severity;
            self.turn(now, Transition::Worsened);
        }
    }

    pub(super) fn reopen(&mut self, now: DateTime<Utc>, cause: &Cause, repeat: TimeDelta) {
        self.state = State::Open;
        self.resolved_at = None;
        self.ack = None;
        self.count += 1;
        self.occurrences = cause.occurrences;
        self.detail.away_since = None;
        self.detail.gap = None;
        self.detail.remind_at = later(now, repeat);
        self.turn(now, Transition::Reopened);
        self.met(now, cause);
    }

    /// The cause is away.
    pub(in crate::alert) fn missed(&mut self, now: DateTime<Utc>, keep_firing_for: TimeDelta) {
        if self.state == State::Open {
            self.state = State::Resolving;
            self.detail.away_since = Some(now);
            self.unsaved = true;
        }
        if self.detail.away_since.is_none_or(|since| now - since >= keep_firing_for) {
            self.state = State::Resolved;
            self.resolved_at = Some(now);
            self.turn(now, Transition::Resolved);
        }
    }

    /// A resync that repaired it has ended.
    pub(super) fn repaired(&mut self, gap: &Gap) {
        if self.detail.gap.as_ref() != Some(gap) {
            self.count += u64::from(self.detail.resync.is_some_and(|resync| resync != gap.resync));
            self.detail.resync = Some(gap.resync);
            self.detail.gap = Some(gap.clone());
            self.unsaved = true;
        }
    }
}

/// Later by a length that may be longer than time itself.
pub(super) fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl Incident {
    /// Channels that heard nothing of it need hear nothing more. Returns whether there are any.
    pub(in crate::alert) fn pass_over(&mut self) -> bool {
        let (revision, worst) = (self.detail.revision, self.detail.worst);
        let mut any = false;
        for delivery in self.deliveries.values_mut().filter(|delivery| delivery.told == 0) {
            (delivery.told, delivery.worst, delivery.ended) = (revision, Some(worst), true);
            delivery.version += 1;
            any = true;
        }
        any
    }

    /// Whether some channel has not been told all of it.
    pub fn is_pending(&self) -> bool {
        self.deliveries.values().any(|delivery| delivery.is_pending(self))
    }
}

impl Delivery {
    pub const fn is_pending(&self, incident: &Incident) -> bool {
        self.told < incident.detail.revision
    }
}
