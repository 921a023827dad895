//! One stream, as it is reported: part of `GET /status`, and of what a leader writes down.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::foreign;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::drift_kind::DriftKind;
use crate::model::history_window::Headroom;
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, brief};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::step::Step;

/// `2026-11-22T10:14:50.634Z`.
pub(super) fn millis<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&at.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
}

#[expect(clippy::ref_option, reason = "serde's signature")]
pub(super) fn optional_millis<S: Serializer>(
    at: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => millis(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    pub name: String,
    pub source: String,
    pub table: String,
    /// Its group; empty in a report of a release without groups.
    #[serde(default)]
    pub group: String,
    /// Whether the table is exactly the source at the position.
    #[serde(default)]
    pub exact: bool,
    #[serde(deserialize_with = "foreign::phase")]
    pub phase: Phase,
    #[serde(serialize_with = "millis")]
    pub phase_since: DateTime<Utc>,
    pub halt_code: Option<String>,
    /// Why the stream is halted or parked, or what is being tried again, in one clause; then the
    /// remedy.
    pub reason: Option<String>,
    pub leader: bool,
    /// Who holds the stream, where that is known.
    pub holder: Option<String>,
    pub epoch: i64,
    pub position: Option<PositionReport>,
    #[serde(serialize_with = "optional_millis")]
    pub last_poll_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "optional_millis")]
    pub last_commit_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "optional_millis")]
    pub last_event_at: Option<DateTime<Utc>>,
    pub history_window_seconds: Option<f64>,
    pub headroom_seconds: Option<f64>,
    pub lag_seconds: f64,
    /// Since when no majority of the source's members confirms what its primary has written.
    #[serde(default, serialize_with = "optional_millis")]
    pub unconfirmed_since: Option<DateTime<Utc>>,
    pub events_received: u64,
    pub events_applied: u64,
    pub events_skipped: u64,
    pub rows_changed: u64,
    pub rows_unchanged: u64,
    pub dead_letters: u64,
    #[serde(default, deserialize_with = "foreign::counts")]
    pub dead_letters_by_code: BTreeMap<DeadLetterCode, u64>,
    /// Fields that differ from their configuration.
    #[serde(default, deserialize_with = "foreign::known")]
    pub drift: Vec<DriftReport>,
    /// What is known of the documents' fields.
    #[serde(default)]
    pub fields: FieldsReport,
    /// Attempts of the step that is failing now; 0 if none is.
    pub retrying: u64,
    /// The steps that fail and are tried again.
    #[serde(default, deserialize_with = "foreign::failing")]
    pub failing: Vec<FailingReport>,
    /// Failed attempts and halts since the start.
    #[serde(default)]
    pub failures: u64,
    pub resync: Option<ResyncReport>,
    /// When Postgres was last met at an earlier state than it had been in.
    #[serde(default, serialize_with = "optional_millis")]
    pub rewound_at: Option<DateTime<Utc>>,
    /// The last scheduled comparison.
    #[serde(default)]
    pub compared: Option<ComparedReport>,
    /// Since when a scheduled comparison has been under way.
    #[serde(default, serialize_with = "optional_millis")]
    pub comparing_since: Option<DateTime<Utc>>,
}

/// A field that differs from its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReport {
    /// Its path in the document.
    pub field: String,
    /// The column that reads it; `null` for a field that none does.
    pub column: Option<String>,
    pub kind: DriftKind,
    /// In how many documents.
    pub documents: u64,
    #[serde(serialize_with = "millis")]
    pub first_seen_at: DateTime<Utc>,
    #[serde(serialize_with = "millis")]
    pub last_seen_at: DateTime<Utc>,
    /// For one that has gone: a field that has come, with a name much like it.
    pub likely_new_name: Option<String>,
}

impl std::fmt::Display for DriftReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) if *column != self.field => {
                write!(f, "{column} ({}): {}", self.field, self.kind)?;
            }
            _ => write!(f, "{}: {}", self.field, self.kind)?,
        }
        write!(f, " ×{}", self.documents)?;
        match &self.likely_new_name {
            Some(name) => write!(f, ", likely renamed to {name}"),
            None => Ok(()),
        }
    }
}

/// What is known of a stream's documents: kept from one leader to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldsReport {
    /// `column=field` as configured.
    pub columns: Vec<String>,
    /// Configured fields that have been seen.
    pub present: Vec<String>,
    /// Fields that no column reads, that many documents have, and that are nothing new.
    pub unmapped: Vec<String>,
    /// How many of the first documents have been seen: what they have was always there.
    #[serde(default)]
    pub documents: u64,
}

/// A step that fails and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingReport {
    pub step: Step,
    /// What it is an incident of, if it lasts.
    pub code: String,
    #[serde(serialize_with = "millis")]
    pub since: DateTime<Utc>,
    pub attempts: u64,
    pub reason: String,
}

/// What a scheduled comparison of source and table found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedReport {
    #[serde(serialize_with = "millis")]
    pub at: DateTime<Utc>,
    pub documents: u64,
    pub missing: u64,
    pub extra: u64,
    pub different: u64,
}

impl ComparedReport {
    pub const fn differences(&self) -> u64 {
        self.missing + self.extra + self.different
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionReport {
    /// As it is shown: an event's token holds an `_id`.
    pub resume_token: String,
    pub cluster_time: String,
    pub increment: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResyncReport {
    pub id: i64,
    #[serde(deserialize_with = "foreign::reason")]
    pub reason: Reason,
    #[serde(deserialize_with = "foreign::state")]
    pub state: ResyncState,
    pub documents_read: u64,
    pub rows_upserted: u64,
    pub rows_deleted: u64,
    /// How many other walks that wait have their turn before it, while it waits.
    #[serde(default)]
    pub queue_place: Option<u64>,
    /// What a held sweep would delete.
    pub rows_to_delete: Option<u64>,
    pub documents_estimated: Option<u64>,
    /// Why a person's word is waited for: `resync_held` or `resync_over_budget`.
    pub held_code: Option<String>,
    pub note: Option<String>,
    #[serde(serialize_with = "millis")]
    pub started_at: DateTime<Utc>,
    #[serde(serialize_with = "optional_millis")]
    pub eta_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "optional_millis")]
    pub deadline_at: Option<DateTime<Utc>>,
}

impl StreamReport {
    /// A stream of which nothing is known yet.
    pub fn new(name: &str, source: &str, table: &str) -> Self {
        Self {
            name: name.to_owned(),
            source: source.to_owned(),
            table: table.to_owned(),
            group: String::new(),
            exact: false,
            phase: Phase::Standby,
            phase_since: Utc::now(),
            halt_code: None,
            reason: None,
            leader: false,
            holder: None,
            epoch: 0,
            position: None,
            last_poll_at: None,
            last_commit_at: None,
            last_event_at: None,
            history_window_seconds: None,
            headroom_seconds: None,
            lag_seconds: 0.0,
            unconfirmed_since: None,
            events_received: 0,
            events_applied: 0,
            events_skipped: 0,
            rows_changed: 0,
            rows_unchanged: 0,
            dead_letters: 0,
            dead_letters_by_code: BTreeMap::new(),
            drift: Vec::new(),
            fields: FieldsReport::default(),
            retrying: 0,
            failing: Vec::new(),
            failures: 0,
            resync: None,
            rewound_at: None,
            compared: None,
            comparing_since: None,
        }
    }

    /// What of the source's history is left to the position, where both are known.
    pub fn headroom(&self) -> Option<Headroom> {
        let (left, window) = self.headroom_seconds.zip(self.history_window_seconds)?;
        Some(Headroom { left, window })
    }
}

impl PositionReport {
    /// Of the whole token.
    pub fn new(token: &str, at: ClusterTime) -> Self {
        let cluster_time = at.at().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        Self { resume_token: brief(token), cluster_time, increment: at.increment() }
    }
}
