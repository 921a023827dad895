//! What is wrong now, told from what is seen. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::incident::life::{Cause, Key};
use crate::alert::rule::observed::{Facts, Limits, Observed, Of, SeenGroup};
use crate::error::rules::{self, Rule, Scope};
use crate::error::{Code, Severity};
use crate::model::drift_kind::DriftKind;
use crate::model::phase::Phase;
use crate::model::shown::shown;
use crate::status::{ComparedReport, DriftReport, FailingReport, REMEMBERED, StreamReport};

/// How many processes must have ended within ten minutes without saying so for it to be a crash
/// loop.
pub const CRASHES: u64 = 3;

impl Observed {
    /// What is wrong at `now`.
    pub fn causes(&self, now: DateTime<Utc>) -> Vec<Cause> {
        let groups = self.groups();
        let mut found = Causes::new(&self.limits, &groups);
        for group in &groups {
            found.of_group(now, group);
            for seen in group.streams.iter().filter(|seen| seen.fresh) {
                found.of_stream(now, group, &seen.report);
            }
        }
        if let Some(facts) = &self.facts {
            found.of_facts(facts);
            found.of_repairs(&groups, facts);
        }
        for channel in &self.channels {
            let lasting =
                if channel.refused { TimeDelta::zero() } else { self.limits.escalate_after };
            let summary = format!("{}: {}", channel.name, channel.reason);
            let cause = found.add(Code::ChannelFailing, Of::Process, summary);
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
        let is_seen = |name: &str| {
            let stream = self.streams.iter().find(|seen| seen.report.name == name);
            stream.map(|seen| seen.fresh).or_else(|| {
                let groups = self.groups();
                let group = groups.iter().find(|group| group.is(name))?;
                Some(group.streams.iter().any(|seen| seen.fresh))
            })
        };
        match &key.stream {
            _ if of_facts && self.facts.is_none() => true,
            Some(name) => is_seen(name) == Some(false),
            None if rules::of(key.code).scope == Scope::End => {
                self.streams.iter().all(|seen| !seen.fresh)
            }
            None => false,
        }
    }
}

pub(super) struct Causes<'a> {
    pub(super) limits: &'a Limits,
    /// What each stream's group is called in incidents.
    pub(super) groups: BTreeMap<&'a str, Of<'a>>,
    pub(super) found: Vec<Cause>,
}

impl<'a> Causes<'a> {
    fn new(limits: &'a Limits, groups: &[SeenGroup<'a>]) -> Self {
        let mut names = BTreeMap::new();
        for group in groups {
            let of = group.of();
            names.extend(group.streams.iter().map(|seen| (seen.report.name.as_str(), of)));
        }
        Self { limits, groups: names, found: Vec::new() }
    }

    /// Adds a cause as its rule says. A cause of an end is one for all groups that meet it.
    pub(super) fn add(&mut self, code: Code, of: Of<'_>, summary: String) -> &mut Cause {
        let rule = rules::of(code);
        let summary = match (rule.scope, of.name()) {
            (Scope::End, Some(name)) => format!("{name}: {summary}"),
            _ => summary,
        };
        // It may hold the name of a field, or a server's words.
        let summary = shown(&summary);
        let stream = of.name().filter(|_| rule.scope == Scope::Stream);
        let key = Key { code, stream: stream.map(str::to_owned) };
        let at = if let Some(at) = self.found.iter().position(|cause| cause.key == key) {
            let known = self.found.get_mut(at).filter(|_| rule.scope != Scope::Stream);
            if let Some(known) = known.filter(|known| known.summary.len() < SUMMARY_MAX) {
                known.summary = format!("{}; {summary}", known.summary);
            }
            at
        } else {
            self.found.push(Cause {
                key,
                severity: rule.severity,
                since: None,
                lasting: rule.lasting(self.limits.escalate_after),
                summary,
                action: Some(to_do(rule, of)),
                doing: rule.doing.to_owned(),
                occurrences: 0,
                progress: None,
                resync: None,
                over: None,
                inhibited: false,
            });
            self.found.len() - 1
        };
        #[expect(clippy::indexing_slicing, reason = "just found or pushed")]
        &mut self.found[at]
    }

    /// Adds what a failing step is a cause of.
    pub(super) fn of_failing(&mut self, of: Of<'_>, failing: &FailingReport, failures: u64) {
        let code = if failing.step.is_of_walk() {
            Some(Code::ResyncFailed)
        } else {
            Code::parse(&failing.code)
        };
        let summary = format!("{}: {}", failing.step, failing.reason);
        let escalate_after = self.limits.escalate_after;
        let cause = self.add(code.unwrap_or(Code::Stalled), of, summary);
        if cause.since.is_none() {
            // A failing step is tried again by itself, so whatever its code it becomes an incident
            // no sooner than `retry.escalate_after`.
            cause.lasting = cause.lasting.max(escalate_after);
        }
        cause.since = Some(earlier(cause.since, failing.since));
        cause.occurrences += failures;
    }

    /// What is wrong with a stream alone.
    fn of_stream(&mut self, now: DateTime<Utc>, group: &SeenGroup<'_>, stream: &StreamReport) {
        let of = Of::Stream(&stream.name);
        if stream.phase == Phase::Parked {
            let code = stream.halt_code.as_deref().and_then(Code::parse);
            let reason = stream.reason.clone().unwrap_or_default();
            let code = code.unwrap_or(Code::StreamParked);
            let cause = self.add(code, of, reason);
            cause.since = Some(earlier(cause.since, stream.phase_since));
            cause.occurrences += stream.failures;
            // That another group has not let it go passes by itself, and costs no resync.
            if code != Code::StreamParked {
                cause.lasting = TimeDelta::zero();
                rules::PARKED.clone_into(&mut cause.doing);
            }
            if now - stream.phase_since >= PARKED_CRITICAL {
                cause.severity = Severity::Critical;
            }
        }
        for failing in stream.failing.iter().filter(|failing| !group.failing.contains(failing)) {
            self.of_failing(of, failing, stream.failures);
        }
        if let Some(walk) = &stream.resync {
            self.of_walk(now, group, stream, walk);
        }
        self.of_silence(now, stream);
        self.of_content(now, stream);
    }

    /// A stream whose source is silent for longer than it should be.
    fn of_silence(&mut self, now: DateTime<Utc>, stream: &StreamReport) {
        let quiet_since = stream.last_event_at.unwrap_or(stream.phase_since);
        let is_heard = stream.leader && stream.failing.is_empty();
        let within = self.limits.changes_within.get(&stream.name);
        if let Some(within) = within.filter(|within| {
            is_heard && stream.phase == Phase::Streaming && now - quiet_since > **within
        }) {
            let text = humantime::format_duration(within.to_std().unwrap_or_default());
            let since = quiet_since.format("%Y-%m-%d %H:%M:%S UTC");
            let summary =
                format!("no change since {since}; at least one is expected within {text}");
            let cause = self.add(Code::SourceSilent, Of::Stream(&stream.name), summary);
            cause.since = Some(quiet_since);
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
            self.add(Code::FieldDrift, Of::Stream(&stream.name), drift.join(", "));
        }
        let differences = stream.compared.as_ref().map_or(0, ComparedReport::differences);
        if let Some(ComparedReport { at, documents, missing, extra, different, .. }) =
            stream.compared.as_ref().filter(|_| differences > 0)
        {
            let found = format!("{missing} missing, {extra} extra, {different} different");
            let at = at.format("%Y-%m-%d %H:%M UTC");
            let summary = format!("comparison of {documents} documents at {at}: {found}");
            self.add(Code::DivergenceFound, Of::Stream(&stream.name), summary);
        }
    }

    fn of_facts(&mut self, facts: &Facts) {
        for (stream, number) in facts.dead_letters.iter().filter(|(_, number)| **number > 0) {
            let events = if *number == 1 { "event is" } else { "events are" };
            self.add(
                Code::DeadLetters,
                Of::Stream(stream),
                format!("{number} {events} set aside"),
            )
            .occurrences = *number;
        }
        for walk in &facts.failed {
            let note = walk.note.as_deref().unwrap_or("it was replaced by another");
            let cause = self.add(
                Code::ResyncFailed,
                Of::Stream(&walk.stream),
                format!("resync {}: {note}", walk.gap.resync),
            );
            cause.lasting = TimeDelta::zero();
        }
        if facts.crashes >= CRASHES {
            let summary = format!(
                "{} processes ended without being told to, within ten minutes",
                facts.crashes
            );
            self.add(Code::CrashLoop, Of::Process, summary).occurrences = facts.crashes;
        }
    }

    /// Whether there is such a cause already.
    pub(super) fn has(&self, code: Code, of: Of<'_>) -> bool {
        let is_it =
            |cause: &Cause| cause.key.code == code && cause.key.stream.as_deref() == of.name();
        self.found.iter().any(is_it)
    }

    /// Marks what a deeper cause explains: of the same stream, of its group, or of an end that it
    /// shares.
    fn inhibit(mut self) -> Vec<Cause> {
        let deep: Vec<Key> =
            self.found.iter().filter(|c| c.over.is_none()).map(|cause| cause.key.clone()).collect();
        for cause in &mut self.found {
            let stream = cause.key.stream.as_deref();
            let group = stream.and_then(|stream| self.groups.get(stream)?.name());
            let explains = |deeper: &Key| {
                let whose = deeper.stream.as_deref();
                let same = whose.is_none() || whose == stream || whose == group;
                same && rules::of(cause.key.code).inhibited_by.contains(&deeper.code)
            };
            cause.inhibited = deep.iter().any(explains);
        }
        self.found
    }
}

/// What a person must do: of a group, for each of its streams.
fn to_do(rule: &Rule, of: Of<'_>) -> String {
    match of {
        Of::Stream(name) => rule.to_do(Some(name), None),
        // A source is adopted by a whole group.
        Of::Group(name) if rule.code == Code::SourceForeign => rule.to_do(Some(name), None),
        Of::Group(_) | Of::Process => rule.to_do(None, None),
    }
}

/// A stream that has been parked for so long is critical, whatever its cause: its table falls
/// behind.
pub const PARKED_CRITICAL: TimeDelta = TimeDelta::hours(1);

/// The groups that meet a cause of an end are named until its summary is this long.
const SUMMARY_MAX: usize = 300;

pub(super) fn earlier(known: Option<DateTime<Utc>>, at: DateTime<Utc>) -> DateTime<Utc> {
    known.map_or(at, |known| known.min(at))
}
