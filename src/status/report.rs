//! The shape of `GET /status`: docs/reference.md, "HTTP". Times are RFC 3339 in UTC, durations
//! seconds.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::group_report::GroupReport;
use super::stream_report::{StreamReport, millis, optional_millis};
use crate::error::Severity;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Healthy,
    Degraded,
    Critical,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }

    /// What trouble of this severity comes to.
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Healthy,
            Severity::Warning => Self::Degraded,
            Severity::Critical => Self::Critical,
        }
    }

    /// The exit code of `tidemark status`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded => 1,
            Self::Critical => 2,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub service: String,
    pub version: String,
    pub environment: String,
    pub verdict: Verdict,
    /// What a person must do now, in one sentence.
    pub action: Option<String>,
    #[serde(default)]
    pub groups: Vec<GroupReport>,
    pub streams: Vec<StreamReport>,
    /// Those that are open.
    pub incidents: Vec<IncidentReport>,
    /// What is not told now, though it is recorded and shown.
    #[serde(default)]
    pub mutes: Vec<MuteReport>,
    /// Where notices go.
    #[serde(default)]
    pub channels: Vec<ChannelReport>,
}

/// A place that incidents are told to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelReport {
    pub name: String,
    /// Incidents of which it has not been told everything.
    pub pending: u64,
    /// Why it does not take notices.
    pub failing: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentReport {
    pub id: i64,
    pub code: String,
    pub stream: Option<String>,
    pub severity: Severity,
    /// `open`, `acked`, `resolving` or `resolved`.
    pub state: String,
    #[serde(serialize_with = "millis")]
    pub opened_at: DateTime<Utc>,
    #[serde(serialize_with = "optional_millis")]
    pub resolved_at: Option<DateTime<Utc>>,
    pub count: u64,
    pub acked_by: Option<String>,
    #[serde(serialize_with = "optional_millis")]
    pub acked_until: Option<DateTime<Utc>>,
    pub summary: String,
    /// What tidemark does about it.
    pub doing: String,
    /// What a person must do; `null` if nothing.
    pub action: Option<String>,
    /// Why it is not told now; `null` if it is.
    #[serde(default)]
    pub muted: Option<MuteReport>,
}

/// What is not told: as a person said, or in a window of maintenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteReport {
    /// `null`: of every code.
    pub code: Option<String>,
    /// `null`: of every stream, and what is of none.
    pub stream: Option<String>,
    #[serde(serialize_with = "millis")]
    pub until: DateTime<Utc>,
    /// Who looks after it meanwhile, or `alert.maintenance`.
    pub by: String,
    /// Why, or the window's name.
    pub reason: String,
}
