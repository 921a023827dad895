//! What is told of an incident, and what proves that the data moves.

use chrono::TimeDelta;
use serde_json::json;

use super::{PACE, after, ended, look, observed, start, stream, voice, walk, wrong};
use crate::alert::channel::heartbeat::without_proof;
use crate::alert::channel::message::{reply, root};
use crate::alert::channel::sentry::Sentry;
use crate::alert::incident::book::Book;
use crate::alert::incident::life::{Ack, Delivery, Incident, State, Transition};
use crate::alert::sender::{Notice, for_bot, for_sentry, for_webhook};
use crate::error::{Code, Severity};
use crate::model::phase::Phase;
use crate::model::resync_state::ResyncState;
use crate::settings::{Origin, Settings};
use crate::status::StreamReport;

/// An incident through its life, with what Slack's message and replies look like on the way.
#[test]
fn what_people_read() {
    let mut book = Book::new(PACE);
    let mut told = serde_json::Map::new();
    let mut seen = wrong(Code::HistoryExpiring, start());
    look(&mut book, start(), &seen);
    look(&mut book, after(120), &seen);
    (book.incidents[0].id, book.incidents[0].tag) = (Some(7), uuid::Uuid::nil());
    told.insert("1 open".into(), root(&voice(), &book.incidents[0], after(120)));
    seen.streams[0].report.headroom_seconds = Some(9_000.0);
    look(&mut book, after(600), &seen);
    told.insert("2 worsening".into(), reply(&voice(), &book.incidents[0], 0, after(600)));
    let mut lost = observed(stream(after(9_000)));
    lost.streams[0].report.phase = Phase::Resyncing;
    lost.streams[0].report.resync = Some(walk(ResyncState::Running));
    let mut book = Book::new(PACE);
    look(&mut book, after(60), &lost);
    (book.incidents[0].id, book.incidents[0].tag) = (Some(8), uuid::Uuid::nil());
    told.insert("3 resync at 42 %".into(), root(&voice(), &book.incidents[0], after(60)));
    look(&mut book, after(4 * 3600 + 60), &lost);
    told.insert("4 reminder".into(), reply(&voice(), &book.incidents[0], 0, after(4 * 3600 + 60)));
    let ack = Ack { by: "Mary O'Hara <mary>".into(), until: after(8 * 3600) };
    book.acknowledge(after(4 * 3600 + 300), 8, &ack);
    told.insert(
        "5 acknowledged".into(),
        reply(&voice(), &book.incidents[0], 1, after(4 * 3600 + 300)),
    );
    for second in [5 * 3600, 5 * 3600 + 30] {
        let mut over = observed(stream(after(second)));
        over.facts.as_mut().unwrap().ended = vec![ended(ResyncState::Completed)];
        look(&mut book, after(second), &over);
    }
    told.insert("6 resolved".into(), root(&voice(), &book.incidents[0], after(5 * 3600 + 30)));
    told.insert(
        "7 resolved, reply".into(),
        reply(&voice(), &book.incidents[0], 0, after(5 * 3600 + 30)),
    );
    insta::assert_json_snapshot!(told);
}

#[test]
fn what_sentry_is_sent() {
    let variable = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let variables = vec![
        variable("TIDEMARK__ALERT__SENTRY__DSN", "https://key@sentry.example.org/42"),
        variable("TIDEMARK__ENVIRONMENT", "production"),
    ];
    let settings = Settings::load(&Origin { variables, ..Origin::default() }).unwrap();
    let sentry = Sentry::new(&settings, "ward-7/42").unwrap();
    let mut incident = open_incident();
    (incident.id, incident.tag) = (Some(7), uuid::Uuid::nil());
    let mut event = serde_json::to_value(sentry.event(&incident)).unwrap();
    for changing in ["event_id", "timestamp", "breadcrumbs", "release"] {
        event.as_object_mut().unwrap().remove(changing);
    }
    insta::assert_json_snapshot!(event);
}

fn open_incident() -> Incident {
    let mut book = Book::new(PACE);
    look(&mut book, start(), &wrong(Code::TargetFull, start()));
    book.incidents.remove(0)
}

#[test]
fn a_message_is_edited_once_a_minute_and_replied_to_on_each_transition() {
    let mut incident = open_incident();
    let mut delivery = Delivery::default();
    assert!(matches!(for_bot(&voice(), &incident, &delivery, start()), Some(Notice::Post(_))));
    delivery.told = 1;
    delivery.message = Some(("C1".into(), "1.0".into()));
    incident.count = 5;
    assert_eq!(for_bot(&voice(), &incident, &delivery, after(59)), None);
    assert!(matches!(for_bot(&voice(), &incident, &delivery, after(60)), Some(Notice::Edit(..))));
    (incident.detail.revision, incident.detail.last) = (3, Transition::Acknowledged);
    let Some(Notice::Reply(body, ..)) = for_bot(&voice(), &incident, &delivery, after(1)) else {
        panic!("no reply")
    };
    assert!(body.to_string().contains("1 earlier update could"), "{body}");
    delivery.told = 3;
    assert!(matches!(for_bot(&voice(), &incident, &delivery, after(2)), Some(Notice::Edit(..))));
    delivery.edited_at = Some(after(2));
    assert_eq!(for_bot(&voice(), &incident, &delivery, after(50)), None);
}

#[test]
fn a_webhook_tells_the_opening_and_the_end_and_only_what_the_bot_cannot() {
    let mut incident = open_incident();
    let fresh = Delivery::default();
    let told = Delivery { told: 1, worst: Some(Severity::Critical), ..Delivery::default() };
    let posts = |notice| matches!(notice, Some(Notice::Post(_)));
    assert!(posts(for_webhook(&voice(), &incident, &fresh, None, start())));
    assert_eq!(for_webhook(&voice(), &incident, &told, None, start()), None);
    // The bot is well: nothing from here, whether it has told already or not.
    assert_eq!(for_webhook(&voice(), &incident, &fresh, Some((&fresh, false)), start()), None);
    assert_eq!(
        for_webhook(&voice(), &incident, &fresh, Some((&told, false)), start()),
        Some(Notice::Nothing)
    );
    assert!(posts(for_webhook(&voice(), &incident, &fresh, Some((&fresh, true)), start())));
    (incident.detail.revision, incident.detail.last) = (2, Transition::Reminder);
    assert_eq!(for_webhook(&voice(), &incident, &told, None, start()), Some(Notice::Nothing));
    (incident.detail.revision, incident.state) = (3, State::Resolved);
    assert!(posts(for_webhook(&voice(), &incident, &told, None, start())));
    let ended = Delivery { ended: true, ..told };
    assert_eq!(for_webhook(&voice(), &incident, &ended, None, start()), Some(Notice::Nothing));
}

#[test]
fn sentry_is_told_of_the_opening_and_of_worse_and_of_nothing_else() {
    let mut incident = open_incident();
    incident.detail.worst = Severity::Warning;
    let told = Delivery { told: 1, worst: Some(Severity::Warning), ..Delivery::default() };
    assert_eq!(for_sentry(&incident, &Delivery::default()), Some(Notice::Post(json!(null))));
    assert_eq!(for_sentry(&incident, &told), None);
    incident.detail.revision = 2;
    assert_eq!(for_sentry(&incident, &told), Some(Notice::Nothing));
    incident.detail.worst = Severity::Critical;
    assert_eq!(for_sentry(&incident, &told), Some(Notice::Post(json!(null))));
}

#[test]
fn the_heart_beats_only_on_proof_of_progress() {
    let now = start();
    let proof = |change: &dyn Fn(&mut StreamReport), incidents: &[Incident]| {
        let mut report = stream(now);
        change(&mut report);
        without_proof(now, &[report], incidents, TimeDelta::minutes(1)).is_none()
    };
    let old = Some(now - TimeDelta::minutes(2));
    assert!(proof(&|_| {}, &[]));
    assert!(proof(&|s| s.last_commit_at = old, &[]), "idle and caught up");
    assert!(
        !proof(&|s| (s.last_commit_at, s.lag_seconds) = (old, 5.0), &[]),
        "behind and not committing"
    );
    assert!(!proof(&|s| s.last_poll_at = old, &[]));
    assert!(
        proof(&|s| (s.last_poll_at, s.lag_seconds) = (old, 5.0), &[]),
        "busy with what was read"
    );
    assert!(!proof(&|s| s.phase = Phase::Halted, &[]));
    assert!(!proof(&|s| s.leader = false, &[]), "a process that leads nothing proves nothing");
    let mut incident = open_incident();
    assert!(!proof(&|_| {}, std::slice::from_ref(&incident)));
    incident.ack = Some(Ack { by: "Mary".into(), until: after(60) });
    assert!(proof(&|_| {}, &[incident]));
}
