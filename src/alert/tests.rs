mod forging;
mod grouping;
mod repairing;
mod telling;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::channel::backoff::ChannelTrouble;
use crate::alert::channel::message::Voice;
use crate::alert::incident::book::{Book, Pace};
use crate::alert::incident::life::{Ack, Gap, Key, State, Transition};
use crate::alert::rule::observed::{Facts, KnownWalk, Limits, Observed, Seen};
use crate::error::rules::{self, Scope};
use crate::error::{Code, Severity};
use crate::model::drift_kind::DriftKind;
use crate::model::phase::Phase;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::step::Step;
use crate::status::{ComparedReport, DriftReport, FailingReport, ResyncReport, StreamReport};

/// Saturday, 05:29.
fn start() -> DateTime<Utc> {
    "2026-11-21T05:29:00Z".parse().unwrap()
}

fn after(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

fn voice() -> Voice {
    Voice { service: "tidemark".into(), environment: "production".into() }
}

const PACE: Pace = Pace { repeat: TimeDelta::hours(4), keep_firing_for: TimeDelta::seconds(30) };

/// A stream that follows at `now`.
fn stream(now: DateTime<Utc>) -> StreamReport {
    StreamReport {
        phase: Phase::Streaming,
        phase_since: start() - TimeDelta::days(1),
        leader: true,
        last_poll_at: Some(now),
        last_commit_at: Some(now),
        last_event_at: Some(now),
        history_window_seconds: Some(86_400.0),
        headroom_seconds: Some(86_000.0),
        ..StreamReport::new(
            "recommendation",
            "revalidation.recommendation",
            "public.recommendation",
        )
    }
}

fn observed(report: StreamReport) -> Observed {
    let changes_within = [("recommendation".to_owned(), TimeDelta::hours(26))].into();
    Observed {
        streams: vec![Seen { report, fresh: true, unled_since: None }],
        facts: Some(Facts::default()),
        channels: Vec::new(),
        limits: Limits { escalate_after: TimeDelta::minutes(2), changes_within },
    }
}

fn walk(state: ResyncState) -> ResyncReport {
    ResyncReport {
        id: 12,
        reason: Reason::HistoryLost,
        state,
        documents_read: 21_000,
        rows_upserted: 310,
        rows_deleted: 0,
        queue_place: None,
        rows_to_delete: None,
        documents_estimated: Some(50_000),
        held_code: None,
        note: None,
        started_at: start(),
        eta_at: Some(after(250)),
        deadline_at: Some(after(7200)),
    }
}

fn gap() -> Gap {
    Gap {
        resync: 12,
        blind_from: Some("2026-11-20T18:07:00Z".parse().unwrap()),
        blind_until: Some(start()),
        rows_inserted: 41,
        rows_changed: 1_260,
        rows_deleted: 3,
    }
}

fn ended(state: ResyncState) -> KnownWalk {
    KnownWalk {
        stream: "recommendation".into(),
        reason: Reason::HistoryLost,
        state,
        note: None,
        lately: true,
        gap: gap(),
    }
}

/// What is seen at `now` when this is wrong.
fn wrong(code: Code, now: DateTime<Utc>) -> Observed {
    let mut seen = observed(stream(now));
    let long_ago = now - TimeDelta::hours(30);
    let report = &mut seen.streams[0].report;
    let failing = |step| FailingReport {
        step,
        code: code.name().into(),
        since: start(),
        attempts: 9,
        reason: "no answer".into(),
    };
    match code {
        Code::HistoryExpiring => report.headroom_seconds = Some(30_000.0),
        Code::SourceUnreachable | Code::TargetUnreachable | Code::TargetSlow => {
            report.failing = vec![failing(Step::Read)];
        }
        Code::TargetRewound => report.rewound_at = Some(now),
        Code::SourceLagging => report.unconfirmed_since = Some(start()),
        Code::SourceSilent => report.last_event_at = Some(long_ago),
        Code::DeadLetters => {
            seen.facts.as_mut().unwrap().dead_letters = [("recommendation".to_owned(), 2)].into();
        }
        Code::FieldDrift => {
            report.drift = vec![DriftReport {
                field: "admin".into(),
                column: Some("admin".into()),
                kind: DriftKind::Type,
                documents: 2,
                first_seen_at: start(),
                last_seen_at: start(),
                likely_new_name: None,
            }];
        }
        Code::ResyncHeld | Code::ResyncOverBudget => {
            let held = (Some(code.name().to_owned()), Some("it would delete 900 rows".to_owned()));
            report.resync = Some(ResyncReport {
                held_code: held.0,
                note: held.1,
                reason: Reason::Requested,
                ..walk(ResyncState::Held)
            });
        }
        Code::ResyncFailed => report.failing = vec![failing(Step::Walk)],
        Code::DivergenceFound => {
            report.compared = Some(ComparedReport {
                at: start(),
                documents: 9,
                missing: 1,
                extra: 0,
                different: 2,
            });
        }
        Code::CrashLoop => seen.facts.as_mut().unwrap().crashes = 3,
        Code::Stalled => {
            (report.last_poll_at, report.last_commit_at) = (Some(long_ago), Some(long_ago));
        }
        Code::ChannelFailing => {
            let reason = "no answer within 10s".to_owned();
            seen.channels =
                vec![ChannelTrouble { name: "slack", since: start(), refused: false, reason }];
        }
        _ => {
            let is_parked = code == Code::StreamParked;
            report.phase = if is_parked { Phase::Parked } else { Phase::Halted };
            report.phase_since = start();
            (report.halt_code, report.reason) = (Some(code.name().into()), Some("refused".into()));
        }
    }
    seen
}

fn look(book: &mut Book, now: DateTime<Utc>, seen: &Observed) {
    book.step(now, &seen.causes(now), |key| seen.is_blind_to(key));
}

#[test]
fn every_code_opens_in_its_time_with_its_severity_and_resolves_when_its_cause_stays_away() {
    for code in Code::ALL {
        let rule = rules::of(code);
        let (mut book, mut opened) = (Book::new(PACE), None);
        for second in 0..300 {
            look(&mut book, after(second), &wrong(code, after(second)));
            if opened.is_none() && !book.incidents.is_empty() {
                opened = Some(second);
            }
        }
        let expected = rule.lasting(TimeDelta::minutes(2)).num_seconds();
        assert_eq!(opened, Some(expected), "{code} opens after {expected} s");
        let incident = &book.incidents[0];
        let of = (rule.scope == Scope::Stream).then(|| "recommendation".to_owned());
        assert_eq!((book.incidents.len(), &incident.key), (1, &Key { code, stream: of }), "{code}");
        assert_eq!((incident.severity, incident.state), (rule.severity, State::Open), "{code}");
        assert!(!incident.summary.is_empty(), "{code}");
        for second in 300..330 {
            look(&mut book, after(second), &observed(stream(after(second))));
            assert_eq!(book.incidents[0].state, State::Resolving, "{code} is held");
        }
        look(&mut book, after(330), &observed(stream(after(330))));
        let incident = &book.incidents[0];
        assert_eq!(
            (incident.state, incident.resolved_at),
            (State::Resolved, Some(after(330))),
            "{code}"
        );
        assert_eq!(
            (incident.detail.last, incident.detail.revision),
            (Transition::Resolved, 2),
            "{code}"
        );
    }
}

#[test]
fn a_deeper_cause_inhibits_its_symptoms_and_all_streams_of_an_end_are_one_incident() {
    for code in Code::ALL {
        for deeper in rules::of(code).inhibited_by.iter().copied() {
            let mut book = Book::new(PACE);
            for second in 0..300 {
                let now = after(second);
                let (mut seen, deep) = (wrong(code, now), wrong(deeper, now));
                let (both, below) = (&mut seen.streams[0].report, &deep.streams[0].report);
                (both.halt_code, both.reason) = (below.halt_code.clone(), below.reason.clone());
                both.unconfirmed_since = below.unconfirmed_since;
                both.failing.extend(below.failing.clone());
                look(&mut book, now, &seen);
            }
            let open: Vec<Code> = book.incidents.iter().map(|incident| incident.key.code).collect();
            assert_eq!(open, [deeper], "{code} behind {deeper}");
        }
    }
    let mut seen = wrong(Code::TargetUnreachable, after(200));
    let mut other = seen.streams[0].clone();
    other.report.name = "doctor".into();
    seen.streams.push(other);
    let causes = seen.causes(after(200));
    assert_eq!(causes.len(), 1);
    assert!(causes[0].summary.contains("doctor") && causes[0].summary.contains("recommendation"));
}

#[test]
fn a_cause_that_returns_within_half_an_hour_goes_on_in_the_same_thread_and_later_opens_another() {
    let mut book = Book::new(PACE);
    let bad = |now| wrong(Code::TargetFull, now);
    let good = |now| observed(stream(now));
    look(&mut book, start(), &bad(start()));
    for second in [1, 40] {
        look(&mut book, after(second), &good(after(second)));
    }
    assert!(book.incidents[0].is_resolved());
    let tag = book.incidents[0].tag;
    look(&mut book, after(600), &bad(after(600)));
    let again = &book.incidents[0];
    assert_eq!(
        (again.tag, again.state, again.count, again.resolved_at),
        (tag, State::Open, 2, None)
    );
    assert_eq!(again.detail.last, Transition::Reopened);
    for second in [601, 640] {
        look(&mut book, after(second), &good(after(second)));
    }
    look(&mut book, after(640 + 1900), &bad(after(640 + 1900)));
    assert_eq!(
        book.incidents
            .iter()
            .filter(|incident| incident.tag != tag && !incident.is_resolved())
            .count(),
        1
    );
    // A flicker that does not outlast the hold is no end.
    let mut book = Book::new(PACE);
    for second in 0..100 {
        let seen = if second % 20 == 0 { good(after(second)) } else { bad(after(second)) };
        look(&mut book, after(second), &seen);
    }
    assert_eq!((book.incidents.len(), book.incidents[0].detail.revision), (1, 1));
}

#[test]
fn what_cannot_be_seen_stays_as_it_is() {
    let mut book = Book::new(PACE);
    look(&mut book, start(), &wrong(Code::DeadLetters, start()));
    let mut away = observed(stream(after(60)));
    away.facts = None;
    for second in 1..100 {
        look(&mut book, after(second), &away);
    }
    assert_eq!(book.incidents[0].state, State::Open);
    let mut elsewhere = wrong(Code::SourceDropped, start());
    look(&mut book, start(), &elsewhere);
    elsewhere.streams[0] = Seen { report: stream(start()), fresh: false, unled_since: None };
    look(&mut book, after(200), &elsewhere);
    assert!(
        book.incidents.iter().any(|i| i.key.code == Code::SourceDropped && i.state == State::Open)
    );
}

#[test]
fn reminders_keep_their_schedule_until_somebody_is_on_it_and_go_on_when_that_ends() {
    let mut book = Book::new(PACE);
    let (mut reminded, mut seen) = (Vec::new(), 0);
    for minute in 0..60 * 40 {
        let now = after(minute * 60);
        look(&mut book, now, &wrong(Code::SourceDropped, now));
        let incident = &mut book.incidents[0];
        incident.id = Some(7);
        if incident.detail.last == Transition::Reminder && incident.detail.revision > seen {
            reminded.push(minute / 60);
        }
        seen = incident.detail.revision;
        if minute == 60 * 10 {
            book.acknowledge(now, 7, &Ack { by: "Mary".into(), until: after(30 * 3600) });
            assert_eq!(book.incidents[0].state_name(now), "acked");
        }
    }
    assert_eq!(reminded, [4, 8, 30, 34, 38]);
}

#[test]
fn the_worst_it_has_been_is_told_once() {
    let mut book = Book::new(PACE);
    let mut revisions = Vec::new();
    for (second, left) in
        [(0, 30_000.0), (200, 30_000.0), (201, 20_000.0), (202, 30_000.0), (203, 20_000.0)]
    {
        let mut seen = observed(stream(after(second)));
        seen.streams[0].report.headroom_seconds = Some(left);
        look(&mut book, after(second), &seen);
        revisions.push(book.incidents.first().map(|i| (i.severity, i.detail.revision)));
    }
    let (warning, critical) = (Severity::Warning, Severity::Critical);
    assert_eq!(
        revisions[1..],
        [Some((warning, 1)), Some((critical, 2)), Some((warning, 2)), Some((critical, 2))]
    );
}
