use chrono::TimeDelta;

use super::*;
use crate::error::{Class, Code, Fault};
use crate::model::history_window::HistoryWindow;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::resync_state::ResyncState;
use crate::status::Committed;
use crate::status::board::tests::following;
use crate::status::http::rates::{Rates, Sampler, Series};
use crate::status::stream_report::ResyncReport;
use crate::status::verdict::tests::{stream as healthy, walk};

fn page(report: &Report, now: DateTime<Utc>) -> String {
    let about = vec![("batch", "<s>".to_owned())];
    Sampler::default().read(|history| Page::new(report, history, &about, now)).document(now)
}

fn report(streams: Vec<StreamReport>) -> Report {
    Report {
        service: "<i>".to_owned(),
        version: "1".to_owned(),
        environment: "\"e\"".to_owned(),
        verdict: Verdict::Degraded,
        action: Some("<u>".to_owned()),
        groups: vec![GroupReport::new("main")],
        streams,
        incidents: Vec::new(),
        mutes: Vec::new(),
        channels: Vec::new(),
    }
}

/// A stream with this text in every field that a page shows.
fn hostile(text: &str) -> StreamReport {
    let mut one = healthy();
    one.reason = Some(text.to_owned());
    one.holder = Some(text.to_owned());
    (one.name, one.table, one.source) = (text.to_owned(), text.to_owned(), text.to_owned());
    one.halt_code = Some(text.to_owned());
    one.group = "main".to_owned();
    one.retrying = 1;
    one.leader = false;
    one
}

#[test]
fn what_comes_from_outside_is_escaped_and_the_page_loads_nothing_from_elsewhere() {
    let text = "<script>alert(1)</script> \"x\" & y";
    let now = Utc::now();
    let few = page(&report(vec![hostile(text)]), now);
    let many = page(&report(vec![hostile(text); CARDS_MAX + 1]), now);
    let (none, still) = (Rates::default(), Series::default());
    let detail = super::super::detail::document(&hostile(text), &[], (&none, &still), now);
    for html in [&few, &many, &detail] {
        for tag in ["<script>", "<i>", "<u>", "<s>", "\"x\""] {
            assert!(!html.contains(tag), "{tag} in {html}");
        }
        for load in ["http://", "https://", " style=", "onclick"] {
            assert!(!html.contains(load), "{load} in {html}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)"));
        assert!(html.contains("stream/%3Cscript") || *html == detail);
    }
    assert!(few.contains("<meter") && detail.contains("<meter") && many.contains("<table"));
}

/// Of so many streams: some are busy, some are wrong, some wait.
fn lived_in(streams: usize) -> (std::sync::Arc<crate::status::Board>, Sampler) {
    let board = following(streams);
    let sampler = Sampler::default();
    board.source_answers(true);
    board.target_answers(true);
    let main = board.group("main").unwrap();
    let now = ClusterTime::new(u64::try_from(Utc::now().timestamp()).unwrap() << 32);
    main.placed(&Position { token: ResumeToken::of_text("826A"), cluster_time: now });
    main.history_window(HistoryWindow { now, window_seconds: Some(86_400.0) });
    for second in 0..150_u64 {
        for (place, stream) in (0_u64..).zip(board.streams()) {
            // One in three writes at some time.
            let busy = place % 3 == 0 && (second / 10 + place) % 7 < 4;
            let rows = if busy { (second * (place + 7)) % 200 * (place % 5 + 1) } else { 0 };
            let last_event = (place % 3 == 0).then(|| {
                let ago = TimeDelta::seconds(i64::try_from(place).unwrap() * 41 + 7);
                ClusterTime::new(u64::try_from((Utc::now() - ago).timestamp()).unwrap() << 32)
            });
            stream.committed(&Committed {
                received: [rows, 0, 0, 0],
                rows_changed: rows,
                last_event,
                ..Committed::default()
            });
        }
        sampler.sample(&board);
    }
    (board, sampler)
}

fn trouble(board: &crate::status::Board) {
    let streams = board.streams();
    let fault = |code, message| Fault::new(Class::Halt, code, message, "");
    streams[418].parked(&fault(Code::SourceDropped, "revalidation.collection0418 was dropped"));
    let lock = "public.table_0101 is locked by process 4711 (psql, since 10:14)";
    streams[101].parked(&fault(Code::StreamParked, lock));
    let now = Utc::now();
    for (place, stream) in streams.iter().enumerate().skip(700).take(250) {
        let read = if place < 702 { 21_000 } else { 0 };
        stream.walking(Some(ResyncReport {
            id: i64::try_from(place).unwrap(),
            documents_read: read,
            rows_upserted: read / 60,
            documents_estimated: Some(50_000),
            eta_at: (place < 702).then(|| now + TimeDelta::seconds(250)),
            state: ResyncState::Running,
            ..walk()
        }));
        stream.level(false);
        if place < 702 {
            stream.entered(Phase::Resyncing);
        } else {
            stream.queued(place - 702);
            stream.entered(Phase::Queued);
        }
    }
}

/// `TIDEMARK_PAGES=FOLDER` keeps the pages, to be looked at.
fn keep(name: &str, html: &str) {
    if let Some(folder) = std::env::var_os("TIDEMARK_PAGES") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("page.css"), STYLE).unwrap();
        std::fs::write(folder.join("page.js"), SCRIPT).unwrap();
        std::fs::write(folder.join(name), html).unwrap();
    }
}

fn rendered(board: &crate::status::Board, sampler: &Sampler) -> String {
    rendered_as(&board.overview(), sampler)
}

fn rendered_as(report: &Report, sampler: &Sampler) -> String {
    let now = Utc::now();
    let about = vec![("batch", "2000 events, 8 MiB".to_owned())];
    sampler.read(|history| Page::new(report, history, &about, now)).document(now)
}

#[test]
fn a_thousand_streams_are_a_page_of_less_than_300_kb_that_says_what_is_wrong_first() {
    let (board, sampler) = lived_in(1_000);
    let calm = rendered(&board, &sampler);
    keep("thousand-calm.html", &calm);
    trouble(&board);
    let begun = std::time::Instant::now();
    let html = rendered(&board, &sampler);
    println!("{} bytes calm, {} bytes in trouble, {:?}", calm.len(), html.len(), begun.elapsed());
    keep("thousand.html", &html);
    assert!(html.len() < 300_000, "{} bytes", html.len());
    assert!(calm.contains("1,000 streams: 1,000 streaming") && !calm.contains("id=\"first\""));
    assert!(html.contains("748 streaming, 248 queued, 2 resyncing, 2 parked"), "counts");
    let (_, first) = html.split_once("id=\"first\"").unwrap();
    let (first, table) = first.split_once("<tbody>").unwrap();
    let places = |text: &str, names: [&str; 4]| names.map(|name| text.find(name).expect(name));
    for text in [first, table] {
        let names = ["stream_0418", "stream_0101", "stream_0700", "stream_0701"];
        assert!(places(text, names).is_sorted(), "worst first");
    }
    assert!(first.contains("248 queued: their tables wait for their turn"), "{first}");
    assert!(!first.contains("stream_0702") && !first.contains("stream_0000"));
    for part in ["42 %", "after 12", "<small>source_dropped</small>", "<path d="] {
        assert!(table.contains(part), "{part}");
    }
    assert_eq!(table.matches("<tr id=").count(), 1_000);
    let mut report = board.overview();
    for one in &mut report.streams {
        one.name = format!("{}_{}", "long".repeat(7), one.name);
        one.table = format!("public.{}", one.name);
    }
    let html = rendered_as(&report, &sampler);
    println!("{} bytes with names of forty letters", html.len());
    assert!(html.len() < 300_000, "{} bytes", html.len());
}

#[test]
fn two_streams_are_shown_whole() {
    let (board, sampler) = lived_in(2);
    let html = rendered(&board, &sampler);
    keep("two.html", &html);
    assert_eq!(html.matches("<figure>").count(), 6, "three charts each");
    assert!(html.contains("2 streams: 2 streaming") && html.contains("exact: all tables show"));
    assert!(!html.contains("<table"));
}

#[test]
fn a_halted_group_is_told_of_once_and_its_streams_come_first_in_the_table() {
    let board = following(20);
    let fault = Fault::new(Class::Halt, Code::SourceUnauthorised, "no rights", "");
    board.group("main").unwrap().halted(&fault);
    let html = rendered(&board, &Sampler::default());
    let (top, table) = html.split_once("<tbody>").unwrap();
    assert!(top.contains("group main is halted: no rights") && !top.contains("stream_00"), "{top}");
    assert_eq!(table.matches("class=\"critical\"").count(), 20);
}

#[test]
fn a_streams_own_page_has_all_of_it() {
    let (board, sampler) = lived_in(1_000);
    trouble(&board);
    for (name, parts) in [
        ("stream_0418", ["is parked", "source_dropped", "<figure>", "../page.css"]),
        ("stream_0800", ["after 98 others", "about 50,000 documents", "left", "resync 800"]),
    ] {
        let (report, incidents) = board.detail(name).unwrap();
        let place = name[7..].parse().unwrap();
        let html = sampler.read(|history| {
            let drawn = (history.stream(place), history.group(0).1);
            super::super::detail::document(&report, &incidents, drawn, Utc::now())
        });
        keep(&format!("{name}.html"), &html.replace("../page", "page"));
        for part in parts {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }
    assert!(board.detail("another").is_none());
}
