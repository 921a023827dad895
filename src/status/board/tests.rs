use std::time::{Duration, Instant};

use super::*;
use crate::error::{Class, Code, Fault};
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::status::stream::Committed;

/// One group of so many streams.
pub fn board(streams: usize) -> Arc<Board> {
    let names = |number: usize| StreamNames {
        name: format!("stream_{number:04}"),
        source: format!("revalidation.collection{number:04}"),
        table: format!("public.table_{number:04}"),
    };
    let main = GroupNames { name: "main".to_owned(), streams: (0..streams).map(names).collect() };
    Board::new("tidemark", "production", &[main], Vec::new())
}

/// The same, following.
pub fn following(streams: usize) -> Arc<Board> {
    let board = board(streams);
    let main = board.group("main").unwrap();
    main.granted(3, "host/1");
    main.entered(Phase::Streaming);
    let time = ClusterTime::new(1_790_000_000 << 32);
    main.placed(&Position { token: ResumeToken::of_text("826A"), cluster_time: time });
    for stream in board.streams() {
        stream.entered(Phase::Streaming);
        stream.level(true);
    }
    board
}

fn commit(board: &Board, stream: &str) {
    let committed = Committed { received: [2, 0, 0, 0], rows_changed: 2, ..Committed::default() };
    board.stream(stream).unwrap().committed(&committed);
}

fn parked(board: &Board, stream: &str) {
    let fault = Fault::new(Class::Halt, Code::SourceDropped, "it was dropped", "");
    board.stream(stream).unwrap().parked(&fault);
}

fn value(text: &str, series: &str) -> Option<f64> {
    let line = |line: &str| line.strip_prefix(&format!("tidemark_{series} ")).map(str::to_owned);
    text.lines().find_map(line)?.parse().ok()
}

#[test]
fn a_thousand_streams_have_series_of_their_own_for_four_things_and_sums_for_the_rest() {
    let board = following(1_000);
    commit(&board, "stream_0001");
    commit(&board, "stream_0002");
    parked(&board, "stream_0007");
    let begun = Instant::now();
    let text = board.metrics_text();
    let (took, bytes) = (begun.elapsed(), text.len());
    assert!(bytes < 400_000, "{bytes} bytes");
    assert!(took < Duration::from_secs(1), "made in {took:?}");
    for (series, expected) in [
        ("position_timestamp_seconds{stream=\"stream_0999\"}", 1_790_000_000.0),
        ("lag_seconds{stream=\"stream_0999\"}", 0.0),
        ("stream_phase{phase=\"streaming\",stream=\"stream_0999\"}", 1.0),
        ("stream_phase{phase=\"parked\",stream=\"stream_0007\"}", 1.0),
        ("errors_total{stream=\"stream_0999\"}", 0.0),
        ("errors_total{stream=\"stream_0007\"}", 1.0),
        ("events_received_total{group=\"main\",operation=\"insert\"}", 4.0),
        ("rows_changed_total{group=\"main\"}", 4.0),
        ("group_streams{group=\"main\",phase=\"streaming\"}", 999.0),
        ("group_streams{group=\"main\",phase=\"parked\"}", 1.0),
        ("parked{code=\"source_dropped\",group=\"main\"}", 1.0),
        ("parked{code=\"target_slow\",group=\"main\"}", 0.0),
        ("group_exact{group=\"main\"}", 0.0),
        ("lease_held{group=\"main\"}", 1.0),
        ("retries_total{group=\"main\",step=\"read\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
    board.stream("stream_0007").unwrap().entered(Phase::Queued);
    let text = board.metrics_text();
    assert_eq!(value(&text, "stream_phase{phase=\"parked\",stream=\"stream_0007\"}"), None);
    assert_eq!(value(&text, "parked{code=\"source_dropped\",group=\"main\"}"), Some(0.0));
}

#[test]
fn up_to_a_hundred_streams_have_every_series_from_the_start() {
    let text = board(100).metrics_text();
    for phase in Phase::ALL {
        let series = format!("stream_phase{{phase=\"{phase}\",stream=\"stream_0099\"}}");
        assert_eq!(value(&text, &series), Some(f64::from(u8::from(phase == Phase::Standby))));
    }
    for series in [
        "events_received_total{operation=\"insert\",stream=\"stream_0099\"}",
        "retries_total{step=\"read\",stream=\"stream_0099\"}",
        "fenced_commits_total{stream=\"stream_0099\"}",
        "lease_held{stream=\"stream_0099\"}",
        "drift_fields{kind=\"type\",stream=\"stream_0099\"}",
        "batch_events_count{stream=\"stream_0099\"}",
        "group_exact{group=\"main\"}",
        "errors_total{stream=\"stream_0099\"}",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
    assert!(text.contains("tidemark_headroom_seconds{stream=\"stream_0099\"} NaN"), "unknown");
    assert!(board(101).metrics_text().contains("rows_changed_total{group=\"main\"} 0"));
}

/// What fails for a group fails for each of its streams; a series of one says so.
#[test]
fn a_groups_failures_count_for_each_of_its_streams_once() {
    let board = following(3);
    let fault = Fault::new(Class::Transient, Code::SourceUnreachable, "the cursor ended", "");
    board.group("main").unwrap().retries(crate::model::step::Step::Read, 1, Duration::ZERO, &fault);
    let text = board.metrics_text();
    for number in 0..3 {
        let series = format!("retries_total{{step=\"read\",stream=\"stream_000{number}\"}}");
        assert_eq!(value(&text, &series), Some(1.0));
        let errors = format!("errors_total{{stream=\"stream_000{number}\"}}");
        assert_eq!(value(&text, &errors), Some(0.0), "it is the group's");
    }
}

#[test]
fn a_streams_report_is_its_own_and_its_groups() {
    let board = following(2);
    parked(&board, "stream_0000");
    let report = |number: usize| board.streams()[number].report();
    assert_eq!(
        (report(0).phase, report(0).halt_code.as_deref()),
        (Phase::Parked, Some("source_dropped"))
    );
    assert_eq!((report(0).exact, report(1).exact), (false, true));
    assert_eq!(
        (report(1).phase, report(1).group.as_str(), report(1).epoch),
        (Phase::Streaming, "main", 3)
    );
    assert!(!board.report().groups[0].exact && board.group("main").unwrap().report().exact);
    let fault = Fault::new(Class::Halt, Code::SourceUnauthorised, "no rights", "");
    board.group("main").unwrap().halted(&fault);
    for number in 0..2 {
        assert_eq!(report(number).phase, Phase::Halted);
        assert_eq!(report(number).halt_code.as_deref(), Some("source_unauthorised"));
    }
    board.group("main").unwrap().lease_ended();
    board.group("main").unwrap().entered(Phase::Standby);
    assert_eq!((report(0).phase, report(0).leader), (Phase::Standby, false));
    assert_eq!(board.unready().last().unwrap(), "group main is led by no one yet");
    board.group("main").unwrap().led_by(Some("host/2".into()), 4, None);
    assert!(!board.unready().iter().any(|reason| reason.contains("led by no one")));
}

#[test]
fn a_report_is_told_again_only_when_something_of_the_stream_itself_has_changed() {
    let board = following(1_000);
    let (last, all) = board.changed_reports(0);
    assert_eq!(all.len(), 1_000);
    let main = board.group("main").unwrap();
    main.polled(None, true, crate::status::Answer::Still);
    main.placed(&Position {
        token: ResumeToken::of_text("826B"),
        cluster_time: ClusterTime::new(1_790_000_001 << 32),
    });
    assert_eq!(board.changed_reports(last), (last, Vec::new()), "that is the group's");
    commit(&board, "stream_0004");
    let (next, changed) = board.changed_reports(last);
    let names: Vec<&str> = changed.iter().map(|report| report.name.as_str()).collect();
    assert_eq!(names, ["stream_0004"]);
    assert_eq!((changed[0].last_poll_at, &changed[0].position), (None, &None), "no volatile times");
    assert_eq!(board.changed_reports(next).1, []);
}
