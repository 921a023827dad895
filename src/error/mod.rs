//! The classes of failure and the codes of incidents: the two lists every other module sorts its
//! errors into; and the one table of what each code means and what a person does ([`rules`]).
//!
//! An error is classified once, where it arises (`source::classify`, `postgres::classify`);
//! wrappers delegate. What is done about it is a function of the class alone.

pub mod rules;

use std::fmt;

pub use crate::model::severity::Severity;
use crate::model::shown::shown;
use crate::model::vocabulary::vocabulary;

vocabulary! {
    /// What kind of trouble an error is, and so what is done about it.
    pub enum Class {
        /// The world: the same may work later. Back off and try again.
        Transient = "transient",
        /// Not in any table: treated as transient under a deadline (`retry.escalate_after`), then
        /// as [`Class::Halt`].
        Unknown = "unknown",
        /// The position is unusable.
        HistoryLost = "history_lost",
        /// One event or row is bad: set aside whole, go on.
        Record = "record",
        /// Another writer is right: stop without writing.
        Fenced = "fenced",
        /// The database is at an earlier commit than the one this writer made last: give up what is
        /// in memory and take up what the database says.
        Rewound = "rewound",
        /// A person must act: stop applying, stay observable, probe slowly, go on once it is
        /// mended.
        Halt = "halt",
        /// An invariant of ours broke: the stream that met it stops, and no other.
        Bug = "bug",
    }
}

impl Class {
    /// Whether the same step may be tried again as it is.
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Transient | Self::Unknown)
    }
}

vocabulary! {
    /// What an incident is about: a heading in `docs/runbook.md`, the fingerprint in Sentry.
    pub enum Code {
        HistoryLost = "history_lost",
        HistoryExpiring = "history_expiring",
        SourceUnreachable = "source_unreachable",
        SourceUnauthorised = "source_unauthorised",
        SourceMisconfigured = "source_misconfigured",
        SourceDropped = "source_dropped",
        SourceForeign = "source_foreign",
        SourceSilent = "source_silent",
        SourceLagging = "source_lagging",
        TargetUnreachable = "target_unreachable",
        TargetFull = "target_full",
        TargetSchemaMismatch = "target_schema_mismatch",
        TargetUnauthorised = "target_unauthorised",
        TargetRewound = "target_rewound",
        TargetSlow = "target_slow",
        DeadLetters = "dead_letters",
        DeadLetterRate = "dead_letter_rate",
        FieldDrift = "field_drift",
        ResyncHeld = "resync_held",
        ResyncOverBudget = "resync_over_budget",
        ResyncFailed = "resync_failed",
        DivergenceFound = "divergence_found",
        CrashLoop = "crash_loop",
        StreamParked = "stream_parked",
        Stalled = "stalled",
        ChannelFailing = "channel_failing",
    }
}

/// A classified failure, ready to be acted on, shown and counted. Holds no secret and no document
/// content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub class: Class,
    /// What it is an incident of, if it lasts.
    pub code: Code,
    /// One lower-case clause.
    pub message: String,
    /// What a person can do about it; empty where nothing is needed.
    pub hint: &'static str,
}

impl Fault {
    /// A message may hold a server's words: it is one line of bounded length that a terminal only
    /// shows.
    pub fn new(class: Class, code: Code, message: impl AsRef<str>, hint: &'static str) -> Self {
        Self { class, code, message: shown(message.as_ref()), hint }
    }

    /// The group's row is of another grant, or of none.
    pub fn fenced(group: &str) -> Self {
        let message = format!("group {group} is not held under this grant any more");
        Self::new(Class::Fenced, Code::Stalled, message, "")
    }

    /// Postgres is at an earlier commit than `made`, the one this writer made last.
    pub fn rewound(stored: i64, made: i64) -> Self {
        let message =
            format!("postgres went back: it is at revision {stored}, {made} had been committed");
        let hint = "find out why: a promoted standby that lagged, a crash, a restored backup";
        Self::new(Class::Rewound, Code::TargetRewound, message, hint)
    }

    /// The message names the place it was made at.
    #[track_caller]
    pub fn bug(message: impl fmt::Display) -> Self {
        let at = std::panic::Location::caller();
        let message = format!("{message} ({}:{})", at.file(), at.line());
        let hint = "this is a bug in tidemark: please report it with the log";
        Self::new(Class::Bug, Code::Stalled, message, hint)
    }
}

/// Why a server's certificate was not accepted, from the text of an error that says so: a driver
/// hands on no more.
pub fn refused_certificate(text: &str) -> Option<&str> {
    let (_, why) = text.split_once("invalid peer certificate: ")?;
    let why =
        why.split([',', ';', '}', '\n']).next().map(str::trim).filter(|why| !why.is_empty())?;
    Some(match why {
        "UnknownIssuer" => {
            "it is signed by none of the authorities that are trusted (UnknownIssuer)"
        }
        // One of them has the signer's name, and another key.
        "BadSignature" => "it is signed by none of the authorities that are trusted (BadSignature)",
        "CaUsedAsEndEntity" => "it is an authority's own, or signed by itself (CaUsedAsEndEntity)",
        why if why.starts_with("certificate expired") => "certificate expired",
        why => why,
    })
}

/// Why a host does not answer, from the text of an error: a driver hands on no more. Nothing of the
/// text is repeated.
pub fn why_away(text: &str) -> &'static str {
    const WORDS: [(&str, &str); 8] = [
        ("refused", "refused"),
        ("lookup address", "no such name"),
        ("not known", "no such name"),
        ("DNS resolution", "no such name"),
        ("timed out", "timed out"),
        ("unreachable", "no way there"),
        ("reset", "broken off"),
        ("end of file", "broken off"),
    ];
    let said = WORDS.iter().find(|(word, _)| text.contains(word));
    said.map_or("no answer", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_is_not_accepted_is_told_from_a_server_that_is_away() {
        let topology = "Server selection timeout: No available servers. Topology: { Type: \
                        ReplicaSetNoPrimary, Servers: [ { Address: db:1, Type: Unknown, Error: \
                        Kind: I/O error: invalid peer certificate: UnknownIssuer, labels: {} } ] }";
        assert_eq!(
            refused_certificate(topology),
            Some("it is signed by none of the authorities that are trusted (UnknownIssuer)")
        );
        let named = "invalid peer certificate: certificate not valid for name \"db\"; certificate \
                     is only valid for x";
        assert_eq!(refused_certificate(named), Some("certificate not valid for name \"db\""));
        assert_eq!(refused_certificate("connection refused"), None);
        let name = "failed to lookup address information: Name or service not known";
        assert_eq!(
            (why_away(name), why_away("Connection refused (os error 111)")),
            ("no such name", "refused")
        );
    }
}
