//! What is wrong now, told from what is seen. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::incident::life::{Cause, Key};
use crate::alert::rule::loss::{lost_by, why};
use crate::alert::rule::observed::{Facts, KnownWalk, Limits, Observed};
use crate::error::Code;
use crate::error::rules::{self, Scope};
use crate::model::drift_kind::DriftKind;
use crate::model::phase::Phase;
use crate::model::shown::shown;
use crate::status::{ComparedReport, DriftReport, REMEMBERED, StreamReport};

/// How many processes must have ended within ten minutes without saying so for it to be a crash
/// loop.
pub const CRASHES: u64 = 3;

impl Observed {
    /// What is wrong at `now`.
    pub fn causes(&self, now: DateTime<Utc>) -> Vec<Cause> {
        let mut found = Causes { limits: &self.limits, causes: Vec::new() };
        for seen in &self.streams {
            if let Some(since) = seen.unled_since {
                found.unled(now, &seen.report, since);
            }
            if seen.fresh {
                found.of_stream(now, &seen.report);
            }
        }
        if let Some(facts) = &self.facts {
            found.of_facts(facts);
            // A stream that is configured nowhere any more has nothing to be repaired.
            let followed =
                |walk: &&KnownWalk| self.streams.iter().any(|seen| seen.report.name == walk.stream);
            for walk in facts.unrepaired.iter().filter(followed) {
                found.of_unrepaired(walk);
            }
        }
        for channel in &self.channels {
            let lasting =
                if channel.refused { TimeDelta::zero() } else { self.limits.escalate_after };
            let summary = format!("{}: {}", channel.name, channel.reason);
            let cause = found.add(Code::ChannelFailing, None, summary);
            (cause.since, cause.lasting) = (Some(channel.since), lasting);
        }
        found.inhibit()
    }

    /// Whether it cannot be seen now if this cause is there, because Postgres, which knows, is
    /// away, or because nobody leads the stream.
    pub fn is_blind_to(&self, key: &Key) -> bool {
        let of_facts = matches!(
            key.code,
            Code::DeadLetters
                | Code::ResyncFailed
                | Code::CrashLoop
                | Code::HistoryLost
                | Code::SourceDropped
        );
        let stream = |name: &str| self.streams.iter().find(|seen| seen.report.name == name);
        match &key.stream {
            _ if of_facts && self.facts.is_none() => true,
            Some(name) => stream(name).is_some_and(|seen| !seen.fresh),
            None if rules::of(key.code).scope == Scope::End => {
                self.streams.iter().all(|seen| !seen.fresh)
            }
            None => false,
        }
    }
}

pub(super) struct Causes<'a> {
    limits: &'a Limits,
    pub(super) causes: Vec<Cause>,
}

impl Causes<'_> {
    /// Adds a cause as its rule says. A cause of an end is one for all streams that meet it.
    pub(super) fn add(&mut self, code: Code, stream: Option<&str>, summary: String) -> &mut Cause {
        let rule = rules::of(code);
        let summary = match (rule.scope, stream) {
            (Scope::End, Some(stream)) => format!("{stream}: {summary}"),
            _ => summary,
        };
        // It may hold the name of a field, or a server's words.
        let summary = shown(&summary);
        let key =
            Key { code, stream: stream.filter(|_| rule.scope == Scope::Stream).map(str::to_owned) };
        let at = if let Some(at) = self.causes.iter().position(|cause| cause.key == key) {
            if let Some(known) = self.causes.get_mut(at).filter(|_| rule.scope != Scope::Stream) {
                known.summary = format!("{}; {summary}", known.summary);
            }
            at
        } else {
            self.causes.push(Cause {
                key,
                severity: rule.severity,
                since: None,
                lasting: rule.lasting(self.limits.escalate_after),
                summary,
                action: Some(rule.to_do(stream, None)),
                doing: rule.doing.to_owned(),
                occurrences: 0,
                progress: None,
                resync: None,
                over: None,
                inhibited: false,
            });
            self.causes.len() - 1
        };
        #[expect(clippy::indexing_slicing, reason = "just found or pushed")]
        &mut self.causes[at]
    }

    fn of_stream(&mut self, now: DateTime<Utc>, stream: &StreamReport) {
        let name = Some(stream.name.as_str());
        let halted = stream.halt_code.as_deref().and_then(Code::parse);
        if let Some(code) = halted {
            let cause = self.add(code, name, stream.reason.clone().unwrap_or_default());
            cause.since = Some(earlier(cause.since, stream.phase_since));
            cause.lasting = TimeDelta::zero();
            cause.occurrences += stream.failures;
            rules::PROBES.clone_into(&mut cause.doing);
        }
        for failing in &stream.failing {
            let code = if failing.step.is_of_walk() {
                Some(Code::ResyncFailed)
            } else {
                Code::parse(&failing.code)
            };
            let summary = format!("{}: {}", failing.step, failing.reason);
            let escalate_after = self.limits.escalate_after;
            let cause = self.add(code.unwrap_or(Code::Stalled), name, summary);
            if cause.since.is_none() {
                // A failing step is tried again by itself, so whatever its code it becomes an
                // incident no sooner than `retry.escalate_after`.
                cause.lasting = cause.lasting.max(escalate_after);
            }
            cause.since = Some(earlier(cause.since, failing.since));
            cause.occurrences += stream.failures;
        }
        if let Some(walk) = &stream.resync {
            self.of_walk(now, stream, walk);
        }
        if let Some(at) = stream.rewound_at.filter(|at| now - *at < REWOUND) {
            let at = at.format("%Y-%m-%d %H:%M:%S UTC");
            let what = format!("Postgres was met at an earlier state at {at}");
            self.add(Code::TargetRewound, name, what);
        }
        if let Some(since) = stream.unconfirmed_since {
            let at = since.format("%Y-%m-%d %H:%M:%S UTC");
            let said = format!(
                "what its primary writes since {at} is confirmed by no majority of its members"
            );
            self.add(Code::SourceLagging, name, said).since = Some(since);
        }
        self.of_headroom(stream);
        self.of_movement(now, stream);
        self.of_content(now, stream);
    }

    fn of_headroom(&mut self, stream: &StreamReport) {
        let Some(headroom) = stream.headroom() else { return };
        let Some(severity) = headroom.severity() else { return };
        let (left_hours, window_hours) = (headroom.left / 3600.0, headroom.window / 3600.0);
        let summary = format!(
            "{left_hours:.1} h of a window of {window_hours:.1} h are left to the position"
        );
        self.add(Code::HistoryExpiring, Some(&stream.name), summary).severity = severity;
    }

    /// Streams that follow but do not move, or whose source does not.
    fn of_movement(&mut self, now: DateTime<Utc>, stream: &StreamReport) {
        let phase = stream.phase;
        if !stream.leader || !phase.is_at_work() || !stream.failing.is_empty() {
            return;
        }
        let polled = stream.last_poll_at.unwrap_or(stream.phase_since);
        let committed = stream.last_commit_at.unwrap_or(stream.phase_since);
        let behind = stream.lag_seconds > 0.0;
        let moved = stream.phase_since.max(if behind { committed } else { polled.max(committed) });
        if now - moved > self.limits.escalate_after.max(STALL_MIN) {
            let what =
                if behind { "nothing committed" } else { "no answer read and nothing committed" };
            let since = moved.format("%Y-%m-%d %H:%M:%S UTC");
            self.add(
                Code::Stalled,
                Some(&stream.name),
                format!("{what} since {since}, in phase {phase}"),
            )
            .since = Some(moved);
        }
        let quiet_since = stream.last_event_at.unwrap_or(stream.phase_since);
        let within = self.limits.changes_within.get(&stream.name);
        if let Some(within) =
            within.filter(|within| phase == Phase::Streaming && now - quiet_since > **within)
        {
            let text = humantime::format_duration(within.to_std().unwrap_or_default());
            let since = quiet_since.format("%Y-%m-%d %H:%M:%S UTC");
            let summary =
                format!("no change since {since}; at least one is expected within {text}");
            self.add(Code::SourceSilent, Some(&stream.name), summary).since = Some(quiet_since);
        }
    }

    fn of_content(&mut self, now: DateTime<Utc>, stream: &StreamReport) {
        // An idle stream forgets nothing by itself.
        let lately = |drift: &&DriftReport| {
            let since = if drift.kind == DriftKind::Unknown {
                drift.first_seen_at
            } else {
                drift.last_seen_at
            };
            now - since <= REMEMBERED
        };
        let drift: Vec<String> =
            stream.drift.iter().filter(lately).map(ToString::to_string).collect();
        if !drift.is_empty() {
            self.add(Code::FieldDrift, Some(&stream.name), drift.join(", "));
        }
        let differences = stream.compared.as_ref().map_or(0, ComparedReport::differences);
        if let Some(ComparedReport { at, documents, missing, extra, different, .. }) =
            stream.compared.as_ref().filter(|_| differences > 0)
        {
            let found = format!("{missing} missing, {extra} extra, {different} different");
            let at = at.format("%Y-%m-%d %H:%M UTC");
            let summary = format!("comparison of {documents} documents at {at}: {found}");
            self.add(Code::DivergenceFound, Some(&stream.name), summary);
        }
    }

    fn unled(&mut self, now: DateTime<Utc>, stream: &StreamReport, since: DateTime<Utc>) {
        if now - since > self.limits.escalate_after.max(STALL_MIN) {
            let summary =
                format!("no process leads it since {}", since.format("%Y-%m-%d %H:%M:%S UTC"));
            self.add(Code::Stalled, Some(&stream.name), summary).since = Some(since);
        }
    }

    fn of_facts(&mut self, facts: &Facts) {
        for (stream, number) in facts.dead_letters.iter().filter(|(_, number)| **number > 0) {
            let events = if *number == 1 { "event is" } else { "events are" };
            self.add(Code::DeadLetters, Some(stream), format!("{number} {events} set aside"))
                .occurrences = *number;
        }
        for walk in &facts.failed {
            let note = walk.note.as_deref().unwrap_or("it was replaced by another");
            let cause = self.add(
                Code::ResyncFailed,
                Some(&walk.stream),
                format!("resync {}: {note}", walk.gap.resync),
            );
            cause.lasting = TimeDelta::zero();
        }
        for walk in &facts.ended {
            let Some(code) = lost_by(walk.reason) else { continue };
            if self.causes.iter().any(|cause| {
                cause.key.code == code && cause.key.stream.as_ref() == Some(&walk.stream)
            }) {
                continue;
            }
            let asked = !walk.reason.is_automatic();
            let cause = self.add(code, Some(&walk.stream), why(walk.reason).to_owned());
            cause.action = None;
            cause.resync = Some(walk.gap.resync);
            cause.over = Some(walk.gap.clone());
            cause.lasting = if asked { TimeDelta::MAX } else { TimeDelta::zero() };
        }
        if facts.crashes >= CRASHES {
            let summary = format!(
                "{} processes ended without being told to, within ten minutes",
                facts.crashes
            );
            self.add(Code::CrashLoop, None, summary).occurrences = facts.crashes;
        }
    }

    /// Marks what a deeper cause explains: of the same stream, or of an end that it shares.
    fn inhibit(mut self) -> Vec<Cause> {
        let deep: Vec<Key> = self
            .causes
            .iter()
            .filter(|c| c.over.is_none())
            .map(|cause| cause.key.clone())
            .collect();
        for cause in &mut self.causes {
            let explains = |deeper: &Key| {
                let same = deeper.stream.is_none() || deeper.stream == cause.key.stream;
                same && rules::of(cause.key.code).inhibited_by.contains(&deeper.code)
            };
            cause.inhibited = deep.iter().any(explains);
        }
        self.causes
    }
}

/// For how long after the database went back that is a cause.
const REWOUND: TimeDelta = TimeDelta::minutes(5);

/// How long a stream must not have moved, at least, before it counts as standing still.
const STALL_MIN: TimeDelta = TimeDelta::seconds(30);

fn earlier(known: Option<DateTime<Utc>>, at: DateTime<Utc>) -> DateTime<Utc> {
    known.map_or(at, |known| known.min(at))
}
