//! What is one for all streams of a group, as it is reported: part of `GET /status`, and what a
//! leader writes down beside its lease.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::foreign;
use super::stream_report::{FailingReport, PositionReport, StreamReport, millis, optional_millis};
use crate::model::history_window::Headroom;
use crate::model::phase::Phase;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    pub name: String,
    /// `standby`, `resuming`, `streaming`, `draining` or `halted`; a group that follows is
    /// `streaming`, whatever its streams do.
    #[serde(deserialize_with = "foreign::phase")]
    pub phase: Phase,
    #[serde(serialize_with = "millis")]
    pub phase_since: DateTime<Utc>,
    pub halt_code: Option<String>,
    /// Why it is halted, or what is being tried again, in one clause; then the remedy.
    pub reason: Option<String>,
    pub leader: bool,
    pub holder: Option<String>,
    pub epoch: i64,
    /// Whether what a commit shows of its tables is the source at one cluster time.
    pub exact: bool,
    pub position: Option<PositionReport>,
    #[serde(serialize_with = "optional_millis")]
    pub last_poll_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "optional_millis")]
    pub last_commit_at: Option<DateTime<Utc>>,
    pub history_window_seconds: Option<f64>,
    pub headroom_seconds: Option<f64>,
    pub lag_seconds: f64,
    /// Since when no majority of the source's members confirms what its primary has written.
    #[serde(serialize_with = "optional_millis")]
    pub unconfirmed_since: Option<DateTime<Utc>>,
    /// When Postgres was last met at an earlier state than it had been in.
    #[serde(serialize_with = "optional_millis")]
    pub rewound_at: Option<DateTime<Utc>>,
    /// Attempts of the step that is failing now; 0 if none is.
    pub retrying: u64,
    /// The steps that fail and are tried again.
    #[serde(deserialize_with = "foreign::failing")]
    pub failing: Vec<FailingReport>,
    /// Failed attempts and halts since the start.
    pub failures: u64,
}

impl GroupReport {
    /// A group of which nothing is known yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            phase: Phase::Standby,
            phase_since: Utc::now(),
            halt_code: None,
            reason: None,
            leader: false,
            holder: None,
            epoch: 0,
            exact: true,
            position: None,
            last_poll_at: None,
            last_commit_at: None,
            history_window_seconds: None,
            headroom_seconds: None,
            lag_seconds: 0.0,
            unconfirmed_since: None,
            rewound_at: None,
            retrying: 0,
            failing: Vec::new(),
            failures: 0,
        }
    }

    /// A stream with nothing of its own: what befalls the group, as of a stream.
    pub fn as_stream(&self) -> StreamReport {
        let phase = Phase::Streaming;
        StreamReport { phase, exact: true, ..StreamReport::new(&self.name, "", "") }.of_group(self)
    }

    /// What of the source's history is left to the position, where both are known.
    pub fn headroom(&self) -> Option<Headroom> {
        let (left, window) = self.headroom_seconds.zip(self.history_window_seconds)?;
        Some(Headroom { left, window })
    }

    /// The reason of the step that has failed for longest.
    pub fn longest(failing: &[FailingReport]) -> Option<String> {
        let longest = failing.iter().min_by_key(|failing| failing.since);
        longest.map(|failing| format!("{}: {}", failing.step, failing.reason))
    }
}

impl StreamReport {
    /// What a leader wrote down of a stream and of its group, in one.
    pub fn told(
        own: Option<&serde_json::Value>,
        group: Option<&serde_json::Value>,
    ) -> Option<Self> {
        let own: Self = serde_json::from_value(own?.clone()).ok()?;
        let group = group.and_then(|group| serde_json::from_value(group.clone()).ok());
        Some(match group {
            Some(group) => own.of_group(&group),
            None => own,
        })
    }

    /// With what is its group's. While the group does not follow, the stream shows the group's
    /// phase; else its own, and never for longer than the group has followed.
    #[must_use]
    pub fn of_group(self, group: &GroupReport) -> Self {
        let own = group.phase == Phase::Streaming;
        let mut failing = group.failing.clone();
        failing.extend(self.failing);
        failing.sort_by_key(|failing| failing.step);
        let (phase, since) = if own {
            (self.phase, self.phase_since.max(group.phase_since))
        } else {
            (group.phase, group.phase_since)
        };
        let (halt_code, halted) = if own {
            (self.halt_code, self.reason)
        } else {
            (group.halt_code.clone(), group.reason.clone().filter(|_| group.halt_code.is_some()))
        };
        Self {
            group: group.name.clone(),
            exact: self.exact && group.exact,
            phase,
            phase_since: since,
            reason: halted.or_else(|| GroupReport::longest(&failing)),
            halt_code,
            leader: group.leader,
            holder: group.holder.clone(),
            epoch: group.epoch,
            position: group.position.clone(),
            last_poll_at: group.last_poll_at,
            last_commit_at: group.last_commit_at,
            history_window_seconds: group.history_window_seconds,
            headroom_seconds: group.headroom_seconds,
            lag_seconds: group.lag_seconds,
            unconfirmed_since: group.unconfirmed_since,
            retrying: failing.iter().map(|failing| failing.attempts).max().unwrap_or_default(),
            failing,
            failures: self.failures + group.failures,
            rewound_at: group.rewound_at,
            ..self
        }
    }
}
