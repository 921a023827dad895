//! One cause is one incident, however many streams it befalls.

use super::*;

const STREAMS: usize = 200;

/// A group of so many streams, all well at `now`.
fn group(now: DateTime<Utc>) -> Observed {
    let mut seen = observed(stream(now));
    let one = seen.streams.remove(0);
    seen.streams = (0..STREAMS)
        .map(|number| {
            let mut one = one.clone();
            one.report.name = format!("s{number:03}");
            one.report.group = "main".to_owned();
            one
        })
        .collect();
    seen
}

/// The codes, and whose they are, that are open after five minutes of this.
fn open(change: impl Fn(&mut StreamReport, DateTime<Utc>)) -> Vec<(Code, Option<String>)> {
    let mut book = Book::new(PACE);
    for second in [0, 60, 130, 300] {
        let now = after(second);
        let mut seen = group(now);
        for one in &mut seen.streams {
            change(&mut one.report, now);
        }
        look(&mut book, now, &seen);
    }
    book.incidents.into_iter().map(|i| (i.key.code, i.key.stream)).collect()
}

#[test]
fn what_befalls_the_group_is_one_incident_of_it() {
    let failing = |code: Code| FailingReport {
        step: Step::Read,
        code: code.name().into(),
        since: start(),
        attempts: 9,
        reason: "no answer".into(),
    };
    let main = || Some("main".to_owned());
    let halted = |code: Code| {
        open(move |report, _| {
            (report.phase, report.phase_since) = (Phase::Halted, start());
            (report.halt_code, report.reason) = (Some(code.name().into()), Some("no".into()));
        })
    };
    for code in [Code::SourceUnreachable, Code::TargetUnreachable] {
        assert_eq!(open(|report, _| report.failing = vec![failing(code)]), [(code, None)]);
    }
    for code in [Code::SourceUnauthorised, Code::SourceMisconfigured, Code::TargetFull] {
        assert_eq!(halted(code), [(code, None)]);
    }
    for code in [Code::SourceForeign, Code::HistoryLost, Code::Stalled] {
        assert_eq!(halted(code), [(code, main())]);
    }
    let slow = open(|report, _| report.failing = vec![failing(Code::TargetSlow)]);
    assert_eq!(slow, [(Code::TargetSlow, main())]);
    let expiring = open(|report, _| report.headroom_seconds = Some(30_000.0));
    assert_eq!(expiring, [(Code::HistoryExpiring, main())]);
    let lagging = open(|report, _| report.unconfirmed_since = Some(start()));
    assert_eq!(lagging, [(Code::SourceLagging, None)]);
    let still = open(|report, now| {
        let long_ago = now - TimeDelta::hours(1);
        (report.last_poll_at, report.last_commit_at) = (Some(long_ago), Some(long_ago));
    });
    assert_eq!(still, [(Code::Stalled, main())]);
    let rewound = open(|report, now| report.rewound_at = Some(now));
    assert_eq!(rewound, [(Code::TargetRewound, None)]);
}

#[test]
fn what_befalls_one_stream_is_an_incident_of_it_and_its_group_explains_it() {
    let parked = |code: Code| {
        open(move |report, _| {
            if report.name == "s007" {
                (report.phase, report.phase_since) = (Phase::Parked, start());
                (report.halt_code, report.reason) = (Some(code.name().into()), Some("no".into()));
            }
        })
    };
    let seventh = || Some("s007".to_owned());
    for code in [Code::SourceDropped, Code::TargetSchemaMismatch, Code::StreamParked] {
        assert_eq!(parked(code), [(code, seventh())]);
    }
    let failing = |step, code: Code| FailingReport {
        step,
        code: code.name().into(),
        since: start(),
        attempts: 9,
        reason: "no answer".into(),
    };
    let walking = open(|report, _| {
        if report.name == "s007" {
            report.failing.push(failing(Step::Walk, Code::SourceUnreachable));
        }
    });
    assert_eq!(walking, [(Code::ResyncFailed, seventh())]);
    let both = open(|report, _| {
        report.failing = vec![failing(Step::Read, Code::SourceUnreachable)];
        if report.name == "s007" {
            report.failing.push(failing(Step::Walk, Code::SourceUnreachable));
        }
    });
    assert_eq!(both, [(Code::SourceUnreachable, None)]);
    // The group's own cause explains what is wrong with one of its streams.
    let expired = open(|report, _| {
        (report.phase, report.phase_since) = (Phase::Halted, start());
        (report.halt_code, report.reason) = (Some("source_foreign".into()), Some("no".into()));
        if report.name == "s007" {
            report.failing = vec![failing(Step::Walk, Code::SourceUnreachable)];
        }
    });
    assert_eq!(expired, [(Code::SourceForeign, Some("main".to_owned()))]);
}

#[test]
fn a_parked_stream_becomes_critical_after_an_hour_and_is_told_so_once() {
    let mut book = Book::new(PACE);
    let mut told = Vec::new();
    for minute in 0..120 {
        let now = after(minute * 60);
        let mut seen = group(now);
        let report = &mut seen.streams[7].report;
        (report.phase, report.phase_since) = (Phase::Parked, start());
        report.halt_code = Some(Code::TargetSlow.name().to_owned());
        report.reason = Some("the table is locked".into());
        look(&mut book, now, &seen);
        let incident = &book.incidents[0];
        told.push((incident.severity, incident.detail.last));
    }
    assert_eq!(book.incidents.len(), 1);
    assert_eq!(book.incidents[0].key.code, Code::TargetSlow);
    assert_eq!(told[59], (Severity::Warning, Transition::Opened));
    assert_eq!(told[60], (Severity::Critical, Transition::Worsened));
    assert_eq!(book.incidents[0].detail.revision, 2);
}

/// The story of a group that lost its history: two tables at a time are repaired, the others wait.
#[test]
fn history_that_a_group_lost_is_one_incident_until_its_last_table_is_repaired() {
    let mut book = Book::new(PACE);
    let walk_of = |number: usize| ResyncReport {
        id: i64::try_from(number).unwrap(),
        documents_read: 10,
        documents_estimated: Some(100),
        ..walk(ResyncState::Running)
    };
    let ended_of = |number: usize, lately| KnownWalk {
        stream: format!("s{number:03}"),
        lately,
        gap: Gap { resync: i64::try_from(number).unwrap(), ..gap() },
        ..ended(ResyncState::Completed)
    };
    let minutes = i64::try_from(STREAMS).unwrap() / 2;
    for minute in 0..=minutes + 1 {
        let now = after(minute * 60);
        let done = usize::try_from(minute * 2).unwrap().min(STREAMS);
        let mut seen = group(now);
        for number in done..STREAMS {
            seen.streams[number].report.phase = Phase::Queued;
            seen.streams[number].report.resync = Some(walk_of(number));
        }
        let lately = |number| number + 20 > done;
        seen.facts.as_mut().unwrap().ended =
            (0..done).map(|number| ended_of(number, lately(number))).collect();
        look(&mut book, now, &seen);
        assert_eq!(book.incidents.len(), 1, "minute {minute}");
        let incident = &book.incidents[0];
        assert_eq!(
            (incident.key.code, incident.key.stream.as_deref()),
            (Code::HistoryLost, Some("main"))
        );
        let is_open = incident.state == State::Open;
        assert_eq!(is_open, minute < minutes, "minute {minute}: {:?}", incident.state);
    }
    let incident = &book.incidents[0];
    assert_eq!((incident.state, incident.detail.revision), (State::Resolved, 2));
    let repaired = incident.detail.gap.clone().unwrap();
    assert_eq!((repaired.rows_inserted, repaired.rows_deleted), (200 * 41, 200 * 3));
}

#[test]
fn a_repair_that_a_group_still_needs_is_said_by_name() {
    let mut seen = group(after(60));
    let failed = KnownWalk { stream: "s003".into(), ..ended(ResyncState::Failed) };
    let goes_on = KnownWalk { stream: "s004".into(), ..ended(ResyncState::Running) };
    seen.facts.as_mut().unwrap().unrepaired = vec![failed, goes_on];
    let causes = seen.causes(after(60));
    let [cause] = causes.as_slice() else { panic!("{causes:?}") };
    assert_eq!(cause.key, Key { code: Code::HistoryLost, stream: Some("main".into()) });
    assert!(cause.summary.ends_with("to be repaired: s004; ended without completing: s003"));
    assert!(cause.action.as_ref().unwrap().contains("tidemark resync s003 "), "{cause:?}");
}

#[test]
fn another_group_and_its_streams_are_told_apart() {
    let now = after(300);
    let mut seen = group(now);
    for (number, one) in seen.streams.iter_mut().enumerate() {
        if number % 2 == 0 {
            one.report.group = "other".into();
            one.report.headroom_seconds = Some(30_000.0);
        }
    }
    let causes = seen.causes(now);
    let [cause] = causes.as_slice() else { panic!("{} causes", causes.len()) };
    assert_eq!(cause.key, Key { code: Code::HistoryExpiring, stream: Some("other".into()) });
    // What cannot be seen stays as it is: of a group, when none of its streams is seen.
    seen.streams.iter_mut().filter(|one| one.report.group == "other").for_each(|one| {
        one.fresh = false;
    });
    assert!(seen.is_blind_to(&cause.key));
    seen.streams[0].fresh = true;
    assert!(!seen.is_blind_to(&cause.key));
}
