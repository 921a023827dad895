//! Incidents of lost history, while their repairs begin, wait and end.

use super::*;

#[test]
fn a_resync_too_quick_to_be_seen_is_told_with_what_it_repaired_once() {
    let mut book = Book::new(PACE);
    for second in 0..500 {
        let mut seen = observed(stream(after(second)));
        seen.facts.as_mut().unwrap().ended = vec![ended(ResyncState::Completed)];
        look(&mut book, after(second), &seen);
    }
    assert_eq!(book.incidents.len(), 1);
    let incident = &book.incidents[0];
    assert_eq!((incident.state, incident.detail.revision), (State::Resolved, 2));
    assert_eq!(incident.detail.gap, Some(gap()));
}

#[test]
fn a_resync_that_a_person_asked_for_opens_no_incident_when_it_is_over() {
    for reason in [Reason::Requested, Reason::SourceAdopted, Reason::stored("of a newer release")] {
        let mut book = Book::new(PACE);
        for second in 0..60 {
            let mut seen = observed(stream(after(second)));
            let walk = KnownWalk { reason, ..ended(ResyncState::Completed) };
            seen.facts.as_mut().unwrap().ended = vec![walk];
            look(&mut book, after(second), &seen);
        }
        assert!(book.incidents.is_empty(), "{reason}: {:?}", book.incidents);
    }
}

#[test]
fn a_walk_that_waits_is_nobodys_trouble_where_nothing_was_lost_but_one_that_failed_is() {
    for reason in [Reason::Paused, Reason::MappingChanged, Reason::Parked, Reason::Rejoined] {
        let mut book = Book::new(PACE);
        for (from, state) in [(0, ResyncState::Running), (60, ResyncState::Failed)] {
            let mut seen = observed(stream(after(from)));
            let walk = KnownWalk { reason, ..ended(state) };
            seen.facts.as_mut().unwrap().unrepaired = vec![walk];
            for second in from..from + 60 {
                look(&mut book, after(second), &seen);
            }
            let is_trouble = usize::from(state == ResyncState::Failed);
            assert_eq!(book.incidents.len(), is_trouble, "{reason} {state}");
        }
    }
}

#[test]
fn only_a_completed_resync_ends_what_it_was_to_repair() {
    for (reason, code) in [
        (Reason::HistoryLost, Code::HistoryLost),
        (Reason::CollectionRecreated, Code::SourceDropped),
    ] {
        let mut book = Book::new(PACE);
        let mut running = observed(stream(start()));
        running.streams[0].report.resync =
            Some(ResyncReport { reason, ..walk(ResyncState::Running) });
        look(&mut book, start(), &running);
        for (from, state) in
            [(1, ResyncState::Cancelled), (100, ResyncState::Failed), (200, ResyncState::Running)]
        {
            let mut seen = observed(stream(after(from)));
            let walk = KnownWalk { reason, ..ended(state) };
            seen.facts.as_mut().unwrap().unrepaired = vec![walk];
            for second in from..from + 99 {
                look(&mut book, after(second), &seen);
            }
            let incident = &book.incidents[0];
            assert_eq!(
                (book.incidents.len(), incident.key.code, incident.state),
                (1, code, State::Open)
            );
            assert_eq!(incident.detail.action.is_some(), state != ResyncState::Running, "{state}");
            assert!(incident.detail.gap.is_none(), "{state}: nothing is repaired");
        }
        let mut seen = observed(stream(after(300)));
        let walk = KnownWalk { reason, ..ended(ResyncState::Completed) };
        seen.facts.as_mut().unwrap().ended = vec![walk];
        for second in 300..340 {
            look(&mut book, after(second), &seen);
        }
        assert_eq!(
            (book.incidents[0].state, &book.incidents[0].detail.gap),
            (State::Resolved, &Some(gap()))
        );
    }
}

#[test]
fn what_a_person_asked_for_opens_nothing_but_holds_open_what_made_them_ask() {
    let mut book = Book::new(PACE);
    let mut asked = observed(stream(start()));
    asked.streams[0].report.resync =
        Some(ResyncReport { reason: Reason::Requested, ..walk(ResyncState::Running) });
    look(&mut book, start(), &asked);
    assert!(book.incidents.is_empty());
    look(&mut book, start(), &wrong(Code::HistoryLost, start()));
    for second in 1..100 {
        look(&mut book, after(second), &asked);
    }
    assert_eq!((book.incidents.len(), book.incidents[0].state), (1, State::Open));
}

#[test]
fn a_resync_past_its_deadline_is_flagged_from_outside() {
    let mut book = Book::new(PACE);
    let mut seen = observed(stream(after(7300)));
    seen.streams[0].report.resync = Some(walk(ResyncState::Running));
    look(&mut book, after(7300), &seen);
    assert!(book.incidents.iter().any(|incident| incident.key.code == Code::ResyncOverBudget));
}
