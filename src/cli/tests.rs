mod sample_explanation;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{render, status};
use crate::alert::Ack;
use crate::model::shown::is_obeyed;
use crate::ops::alert::Tried;
use crate::ops::check::Finding;
use crate::ops::checkpoint::Shown;
use crate::ops::command::Asked;
use crate::ops::compare::Compared;
use crate::ops::init::Surveyed;
use crate::ops::resync::{Listed, Preview};
use crate::ops::resync_part::{PartBy, PartPreview};
use crate::ops::rewind::Rewind;
use crate::ops::source::{Adoption, Ends};
use crate::state::{Command, Outcome, PartListed, Retired, Verb, WalkRow};
use crate::status::Report;

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn walk(text: &str) -> WalkRow {
    let t = || text.to_owned();
    WalkRow {
        id: 1,
        stream: t(),
        reason: t(),
        state: t(),
        walk_class: 0,
        walk_after: None,
        documents_read: 1,
        documents_estimated: Some(1),
        rows_inserted: 1,
        rows_changed: 1,
        rows_deleted: 1,
        rows_to_delete: Some(1),
        start_time: None,
        blind_from: Some(at()),
        blind_until: None,
        sample_ids: vec![t()],
        held_code: Some(t()),
        note: Some(t()),
        approved_at: None,
        rows_approved: None,
        deadline_at: None,
        collection_uuid: None,
        by_content: false,
        seconds_left: None,
        walked_since: None,
        read_until: None,
        started_at: at(),
        ended_at: Some(at()),
    }
}

/// A report with this text in every field that holds one.
fn report(text: &str) -> Report {
    let mute = json!({
        "code": text, "stream": text, "until": at(), "by": text, "reason": text,
    });
    let incident = json!({
        "id": 1, "code": text, "stream": text, "severity": "critical", "state": text,
        "opened_at": at(), "resolved_at": null,
        "count": 1, "acked_by": text, "acked_until": at(),
        "summary": text, "doing": text, "action": text, "muted": mute,
    });
    let drift = |likely: Option<&str>| {
        json!({ "field": text, "column": likely.map(|_| "column"), "kind": "unknown",
            "documents": 1, "first_seen_at": at(),
                "last_seen_at": at(), "likely_new_name": likely })
    };
    let resync = json!({
        "id": 1, "reason": "requested", "state": "held",
        "documents_read": 1, "rows_upserted": 1, "rows_deleted": 1,
        "rows_to_delete": 1, "documents_estimated": 1, "held_code": text, "note": text,
        "started_at": at(),
        "eta_at": null, "deadline_at": null,
    });
    let mut stream =
        serde_json::to_value(crate::status::StreamReport::new(text, text, text)).unwrap();
    let fields = json!({
        "phase": "streaming", "halt_code": text, "reason": text, "holder": text, "resync": resync,
        "position": { "resume_token": text, "cluster_time": text, "increment": 1 },
        "dead_letters_by_code": { "slow": 1 }, "drift": [drift(None), drift(Some(text))],
        "failing": [{ "step": "read", "code": text, "since": at(), "attempts": 1, "reason": text }],
    });
    stream.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "service": text, "version": text, "environment": text,
        "verdict": "critical", "action": text,
        "streams": [stream], "incidents": [incident], "mutes": [mute],
        "channels": [{ "name": text, "pending": 1, "failing": text }],
    }))
    .unwrap()
}

/// What every printer makes of reports with this text in every field.
fn printed(text: &str) -> Vec<String> {
    [of_streams(text), of_parts(text), of_people(text)].concat()
}

fn detail(text: &str) -> String {
    let Report { streams, incidents, .. } = report(text);
    status::detail(&status::OneStream { stream: &streams[0], incidents }, at())
}

fn of_streams(text: &str) -> Vec<String> {
    let t = || text.to_owned();
    let ends = || Ends { owner: t(), cluster: Some(t()), collection: Some(t()) };
    vec![
        status::overview(&report(text), false, at()),
        detail(text),
        render::preview(&Preview {
            stream: t(),
            source: t(),
            table: t(),
            documents: 1,
            rows: 1,
            position: t(),
            deletes_without_asking: 1,
            documents_per_second_max: 0,
            open: Some(walk(text)),
            halted: false,
        }),
        render::walks(&[listed(text)]),
        render::checkpoint(&Shown {
            stream: t(),
            group: t(),
            source: t(),
            options: t(),
            token: Some(t()),
            cluster_time: Some(t()),
            increment: Some(1),
            usable: t(),
            epoch: 1,
            revision: 1,
            phase: t(),
            halt_code: Some(t()),
            updated_at: at(),
        }),
        render::retired(&[retired(text)]),
        render::rewind(&Rewind {
            stream: t(),
            meant: t(),
            token: t(),
            cluster_time: t(),
            back_seconds: 1.0,
            arguments: Value::Null,
        }),
        render::adoption(&Adoption {
            stream: t(),
            source: t(),
            bound: Some(ends()),
            here: ends(),
            documents: 1,
            arguments: Value::Null,
        }),
        render::compared(&Compared {
            stream: t(),
            missing_ids: vec![t()],
            extra_ids: vec![t()],
            different_ids: vec![t()],
            note: Some(t()),
            ..Compared::default()
        }),
    ]
}

fn of_parts(text: &str) -> Vec<String> {
    let t = || text.to_owned();
    vec![
        render::part(&PartPreview {
            stream: t(),
            source: t(),
            table: t(),
            by: PartBy::Ids,
            is_filtered: true,
            named: 4,
            documents: 2,
            rows_to_insert: 1,
            rows_to_change: 1,
            rows_to_delete: 1,
            versions_to_end: 1,
            unknown: 1,
            deletes_without_asking: 99,
            open: Some(walk(text)),
            ids: vec![t()],
        }),
        render::parts(&[part_listed(text)]),
    ]
}

fn retired(text: &str) -> Retired {
    let t = || text.to_owned();
    Retired {
        id: 1,
        source: t(),
        options: t(),
        resume_token: None,
        token: Some(t()),
        cluster_time: None,
        why: t(),
        cluster: Some(t()),
        collection_uuid: None,
        retired_at: at(),
    }
}

fn part_listed(text: &str) -> PartListed {
    let t = || text.to_owned();
    PartListed {
        command: 1,
        stream: t(),
        actor: t(),
        db_user: Some(t()),
        db_address: Some(t()),
        reason: t(),
        at: at(),
        outcome: Some(t()),
        result: Some(t()),
        documents: 4,
        done: 4,
        rows_written: 2,
        rows_deleted: 1,
        set_aside: 0,
    }
}

fn listed(text: &str) -> Listed {
    Listed {
        walk: walk(text),
        gap: None,
        is_left: false,
        asked: Some(command(text)),
        approved: Some(command(text)),
    }
}

fn command(text: &str) -> Command {
    let t = || text.to_owned();
    Command {
        id: 1,
        verb: t(),
        stream: t(),
        arguments: Value::Null,
        actor: t(),
        db_user: Some(t()),
        db_address: Some(t()),
        reason: t(),
        at: at(),
        done_at: None,
        outcome: Some(Outcome::Done),
        result: Some(t()),
        attempts: 1,
    }
}

fn of_people(text: &str) -> Vec<String> {
    let t = || text.to_owned();
    let asked = |outcome: Option<Outcome>, result: Option<String>| Asked {
        command: 1,
        verb: Verb::Resync,
        stream: t(),
        actor: t(),
        db_user: Some(t()),
        db_address: Some(t()),
        outcome,
        result,
        unanswered: vec![t()],
    };
    let nested: Value =
        json!({ text: text, "list": [text, { text: text }], "object": { text: { text: text } } });
    vec![
        render::letters(&[sample_explanation::letter(text)]),
        render::explanation(&sample_explanation::whole(text)),
        render::explanation(&sample_explanation::empty(text)),
        render::findings(&[Finding {
            what: t(),
            ok: false,
            detail: t(),
            remedy: format!("do {text}"),
            down: false,
            too_old: false,
        }]),
        render::collections(&[Surveyed {
            name: t(),
            kind: "view",
            documents: Some(1),
            bytes: None,
            obstacle: Some(t()),
        }]),
        render::tried(&[Tried { channel: "slack", ok: false, detail: t() }]),
        render::asked(&asked(Some(Outcome::Failed), Some(t()))),
        render::asked(&asked(None, Some(t()))),
        render::asked(&asked(None, None)),
        render::acked(1, &Ack { by: t(), until: at() }),
        render::fields(&nested),
    ]
}

/// What is not known is told in words, and a short time is no part of an hour.
#[test]
fn no_table_has_a_question_mark_or_hours_of_which_nothing_is_left() {
    for text in printed("x") {
        assert!(!text.contains('?') && !text.contains("0.0 h"), "{text}");
    }
}

/// Of a thousand a screen is shown, the worst first; the others are counted.
#[test]
fn the_status_of_a_thousand_streams_is_a_screen_and_says_what_is_wrong_first() {
    let mut whole = report("x");
    let calm = crate::status::StreamReport {
        phase: crate::model::phase::Phase::Streaming,
        ..crate::status::StreamReport::new("", "db.c", "public.t")
    };
    whole.incidents.clear();
    whole.mutes.clear();
    whole.streams = (0..1_000)
        .map(|place| crate::status::StreamReport {
            name: format!("stream_{place:04}"),
            ..calm.clone()
        })
        .collect();
    whole.streams[900].phase = crate::model::phase::Phase::Parked;
    whole.streams[900].reason = Some("its table was dropped".to_owned());
    let text = status::overview(&whole, false, at());
    assert_eq!(text.lines().count(), 18, "{text}");
    let first = text.lines().skip_while(|line| !line.starts_with("STREAM")).nth(1).unwrap();
    assert!(first.starts_with("stream_0900 ") && first.contains(" parked "), "{text}");
    assert!(text.ends_with("… and 988 streaming: --all shows them, --stream NAME all of one\n"));
    let all = status::overview(&whole, true, at());
    assert!(all.lines().count() > 1_000 && !all.contains("--all"));
}

fn texts() -> impl Strategy<Value = String> {
    let hostile =
        "\u{1b}\u{9b}\u{7f}\r\n\t\u{8}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{85}\u{e0041}";
    let hostile = prop::sample::select(hostile.chars().collect::<Vec<char>>());
    prop::collection::vec(prop_oneof![hostile, any::<char>()], 0..40)
        .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_printer_lets_through_what_a_terminal_obeys_nor_a_line_that_is_not_its_own(
        text in texts(),
    ) {
        for (hostile, plain) in printed(&text).iter().zip(printed("x")) {
            let is_hostile = |c: &char| *c != '\n' && is_obeyed(*c);
            let obeyed: Vec<char> = hostile.chars().filter(is_hostile).collect();
            prop_assert!(obeyed.is_empty(), "{obeyed:?} in {hostile}");
            prop_assert_eq!(hostile.lines().count(), plain.lines().count(), "{}", hostile);
        }
    }
}
