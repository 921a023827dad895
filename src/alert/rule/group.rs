//! What is wrong for all streams of a group at once: told once a group, under its name, or under
//! its stream's if it has only one. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::rule::causes::{Causes, earlier};
use crate::alert::rule::observed::{Of, SeenGroup};
use crate::error::{Code, rules};
use crate::model::format::length_of;
use crate::model::phase::Phase;
use crate::status::StreamReport;

/// For how long after the database went back that is a cause.
const REWOUND: TimeDelta = TimeDelta::minutes(5);

/// How long a group must not have moved, at least, before it counts as standing still.
const STALL_MIN: TimeDelta = TimeDelta::seconds(30);

impl Causes<'_> {
    pub(super) fn of_group(&mut self, now: DateTime<Utc>, group: &SeenGroup<'_>) {
        let of = group.of();
        if let Some(since) = group.unled_since() {
            self.unled(now, of, since);
        }
        let Some(report) = group.report() else { return };
        let halted = report.halt_code.as_deref().and_then(Code::parse);
        if let Some(code) = halted.filter(|_| report.phase != Phase::Parked) {
            let cause = self.add(code, of, report.reason.clone().unwrap_or_default());
            cause.since = Some(earlier(cause.since, report.phase_since));
            cause.lasting = TimeDelta::zero();
            cause.occurrences += report.failures;
            rules::PROBES.clone_into(&mut cause.doing);
        }
        for failing in &group.failing {
            self.of_failing(of, failing, report.failures);
        }
        if let Some(at) = report.rewound_at.filter(|at| now - *at < REWOUND) {
            let at = at.format("%Y-%m-%d %H:%M:%S UTC");
            let what = format!("Postgres was met at an earlier state at {at}");
            self.add(Code::TargetRewound, of, what);
        }
        // Nobody waits for what a person told to stop: how far it is behind is no trouble.
        if group.is_paused() {
            return;
        }
        if let Some(since) = report.unconfirmed_since {
            let at = since.format("%Y-%m-%d %H:%M:%S UTC");
            let said = format!(
                "what its primary writes since {at} is confirmed by no majority of its members"
            );
            self.add(Code::SourceLagging, of, said).since = Some(since);
        }
        self.of_lost_history(group, report);
        self.of_headroom(of, report);
        self.of_movement(now, of, report);
    }

    fn of_headroom(&mut self, of: Of<'_>, report: &StreamReport) {
        let Some(headroom) = report.headroom() else { return };
        let Some(severity) = headroom.severity() else { return };
        let (left, window) = (length_of(headroom.left), length_of(headroom.window));
        let summary = format!("{left} of a window of {window} are left to the position");
        self.add(Code::HistoryExpiring, of, summary).severity = severity;
    }

    /// It follows but does not move.
    fn of_movement(&mut self, now: DateTime<Utc>, of: Of<'_>, report: &StreamReport) {
        let phase = report.phase;
        if !report.leader || !phase.is_at_work() || !report.failing.is_empty() {
            return;
        }
        let polled = report.last_poll_at.unwrap_or(report.phase_since);
        let committed = report.last_commit_at.unwrap_or(report.phase_since);
        let behind = report.lag_seconds > 0.0;
        let moved = report.phase_since.max(if behind { committed } else { polled.max(committed) });
        if now - moved > self.limits.escalate_after.max(STALL_MIN) {
            let what =
                if behind { "nothing committed" } else { "no answer read and nothing committed" };
            let since = moved.format("%Y-%m-%d %H:%M:%S UTC");
            let summary = format!("{what} since {since}, in phase {phase}");
            self.add(Code::Stalled, of, summary).since = Some(moved);
        }
    }

    fn unled(&mut self, now: DateTime<Utc>, of: Of<'_>, since: DateTime<Utc>) {
        if now - since > self.limits.escalate_after.max(STALL_MIN) {
            let summary =
                format!("no process leads it since {}", since.format("%Y-%m-%d %H:%M:%S UTC"));
            self.add(Code::Stalled, of, summary).since = Some(since);
        }
    }
}
