//! What every stream is doing, for people: what is wrong first, and of many no more than a screen.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Write as _;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;

use super::console::{complain, failed, show, state};
use super::mute::mutes;
use super::render;
use crate::alert::Store;
use crate::model::format::{length, length_of, thousands};
use crate::model::phase::Phase;
use crate::model::shown::shown;
use crate::ops;
use crate::postgres::Target;
use crate::settings::Settings;
use crate::status::{
    GroupReport, IncidentReport, Report, ResyncReport, SharedGroups, StreamReport, Verdict, judge,
    worst_first,
};

/// More streams than these are told in one line.
const ROWS_MAX: usize = 12;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Show it anew every two seconds
    #[arg(long)]
    watch: bool,
    /// Show every stream, however many there are
    #[arg(long)]
    all: bool,
    /// Show all that is known of one stream
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    stream: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn status(settings: &Settings, args: &StatusArgs) -> u8 {
    if let Some(Err(slip)) = args.stream.as_ref().map(|name| ops::resync::stream(settings, name)) {
        return failed(slip);
    }
    // Nothing is written: what a standby has is told while no host takes writes.
    let target = match Target::new(settings) {
        Ok(target) => target.for_reading(),
        Err(fault) => return failed(fault),
    };
    let state = state(settings, &target);
    let store = Store::new(settings, &target);
    loop {
        let report = match ops::status::status(settings, &state, &store).await {
            Ok(report) => report,
            Err(fault) => return failed(fault),
        };
        let code = tell(&report, args);
        if target.is_read_only() {
            complain("no host of target.url takes writes: this is what a standby has");
        }
        if !args.watch {
            return code;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Prints it; the exit code it comes to.
fn tell(report: &Report, args: &StatusArgs) -> u8 {
    if args.watch && !args.json {
        let _ = std::io::stdout().write_all(b"\x1b[2J\x1b[H");
    }
    let Some(name) = &args.stream else {
        show(args.json, report, |report| overview(report, args.all, Utc::now()));
        return report.verdict.exit_code();
    };
    let Some(one) = report.streams.iter().find(|stream| stream.name == *name) else { return 0 };
    let mut incidents = report.incidents.clone();
    incidents.retain(|incident| incident.stream.as_ref() == Some(name));
    let one = OneStream { stream: one, incidents };
    show(args.json, &one, |one| detail(one, Utc::now()));
    one.judge().0.exit_code()
}

/// A stream, with the incidents that are open of it.
#[derive(Debug, Serialize)]
pub(super) struct OneStream<'a> {
    #[serde(flatten)]
    pub stream: &'a StreamReport,
    pub incidents: Vec<IncidentReport>,
}

impl OneStream<'_> {
    /// What it is told to be, and what a person must do about it. One that nobody leads is not
    /// followed, whatever was last said of it.
    fn judge(&self) -> (Verdict, Option<String>) {
        let one = self.stream;
        match judge(&[], std::slice::from_ref(one), &self.incidents, &[]) {
            (verdict, _) if !one.leader && verdict < Verdict::Critical => {
                let to_do = format!("nobody follows stream {}: start tidemark", one.name);
                (Verdict::Critical, Some(to_do))
            }
            judged => judged,
        }
    }
}

/// The report: the verdict, groups, streams, incidents.
pub(super) fn overview(report: &Report, all: bool, now: DateTime<Utc>) -> String {
    let mut out = format!(
        "{} {}: {}\n",
        shown(&report.service),
        shown(&report.environment),
        report.verdict.name()
    );
    if let Some(action) = &report.action {
        let _ = writeln!(out, "to do: {}", shown(action));
    }
    groups(&mut out, report);
    let ranked = worst_first(&report.streams, &SharedGroups::new(&[], &[]));
    let limit = if all { ranked.len() } else { ROWS_MAX };
    let width = ranked.iter().take(limit).map(|(_, one)| shown(&one.name).chars().count());
    let width = width.max().unwrap_or_default().clamp(20, 40);
    let _ = writeln!(
        out,
        "\n{:<width$} {:<13} {:>8} {:>10} {:>12} {:>12} {:>12}  POSITION",
        "STREAM", "PHASE", "LAG", "HEADROOM", "EVENTS", "WRITTEN", "CHANGED"
    );
    for (_, one) in ranked.iter().take(limit) {
        row(&mut out, one, width, now);
    }
    let mut left: BTreeMap<Phase, u64> = BTreeMap::new();
    for (_, one) in ranked.iter().skip(limit) {
        *left.entry(one.phase).or_default() += 1;
    }
    if !left.is_empty() {
        let mut left: Vec<(Phase, u64)> = left.into_iter().collect();
        left.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        let left = left.iter().map(|(phase, number)| format!("{} {phase}", thousands(*number)));
        let left = left.collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "… and {left}: --all shows them, --stream NAME all of one");
    }
    if !report.incidents.is_empty() {
        let _ = write!(out, "\n{}", render::incidents(&report.incidents));
    }
    if !report.mutes.is_empty() {
        let _ = write!(out, "\n{}", mutes(&report.mutes));
    }
    out
}

fn groups(out: &mut String, report: &Report) {
    if report.groups.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{:<20} {:<13} {:>8} {:>10} {:>12} {:>12}  POSITION",
        "GROUP", "PHASE", "LAG", "HEADROOM", "STREAMS", "EXACT"
    );
    for group in &report.groups {
        let streams = report.streams.iter().filter(|one| one.group == group.name).count();
        let GroupReport { name, phase, lag_seconds, headroom_seconds, exact, position, .. } = group;
        let position = position.as_ref().map(|position| position.cluster_time.as_str());
        let _ = writeln!(
            out,
            "{:<20} {phase:<13} {:>8} {:>10} {streams:>12} {:>12}  {}",
            shown(name),
            lag(*lag_seconds),
            headroom(*headroom_seconds),
            if *exact { "yes" } else { "no" },
            position.map_or_else(|| "none".to_owned(), shown),
        );
        if let Some(reason) = &group.reason {
            let _ = writeln!(out, "{:<20} {}", "", shown(reason));
        }
    }
}

fn lag(seconds: f64) -> String {
    format!("{seconds:.0} s")
}

fn headroom(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "unknown".to_owned(), length_of)
}

fn ago(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| length(now - at))
}

fn row(out: &mut String, one: &StreamReport, width: usize, now: DateTime<Utc>) {
    let position = one.position.as_ref().map(|position| position.cluster_time.as_str());
    let _ = writeln!(
        out,
        "{:<width$} {:<13} {:>8} {:>10} {:>12} {:>12} {:>12}  {}",
        shown(&one.name),
        one.phase,
        lag(one.lag_seconds),
        headroom(one.headroom_seconds),
        one.events_applied,
        one.rows_changed,
        ago(one.last_event_at, now),
        position.map_or_else(|| "none".to_owned(), shown),
    );
    for line in notes(one, now) {
        let _ = writeln!(out, "{:<width$} {line}", "");
    }
}

/// What is to be said of a stream beside its figures.
fn notes(one: &StreamReport, now: DateTime<Utc>) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(one.resync.as_ref().map(|of| walk(of, now)));
    notes.extend(one.reason.as_deref().map(shown));
    notes.extend(one.drift.iter().map(|drift| {
        let since = drift.first_seen_at.format("%Y-%m-%d %H:%M UTC");
        format!("drift: {}, since {since}", shown(&drift.to_string()))
    }));
    notes
}

/// How far a walk is, or how many have their turn before it.
fn walk(walk: &ResyncReport, now: DateTime<Utc>) -> String {
    let all =
        walk.documents_estimated.map_or_else(|| "an unknown number".to_owned(), |n| n.to_string());
    let left = walk.eta_at.map(|eta| eta - now).filter(|left| *left > TimeDelta::zero());
    let left = left.map_or_else(String::new, |left| format!(", {} left", length(left)));
    let ResyncReport { reason, id, state, .. } = walk;
    if let Some(place) = walk.queue_place {
        return format!("{reason} {id} waits for its turn, after {place} others{left}");
    }
    format!(
        "{reason} {id} {state}: {} of {all} documents read, {} rows written, {} deleted{left}",
        walk.documents_read, walk.rows_upserted, walk.rows_deleted
    )
}

/// All that is known of one stream.
pub(super) fn detail(of: &OneStream<'_>, now: DateTime<Utc>) -> String {
    let ((verdict, action), one) = (of.judge(), of.stream);
    let mut out = format!("stream {}: {}\n", shown(&one.name), verdict.name());
    if let Some(action) = action {
        let _ = writeln!(out, "to do: {}", shown(&action));
    }
    let code = one.halt_code.as_deref().map_or_else(String::new, |c| format!(" ({})", shown(c)));
    let ago = |at: Option<DateTime<Utc>>| match ago(at, now).as_str() {
        "never" => "never".to_owned(),
        told => format!("{told} ago"),
    };
    let letters = one.dead_letters_by_code.iter();
    let letters: Vec<String> = letters.map(|(code, number)| format!("{number} {code}")).collect();
    let compared = one.compared.as_ref().map(|found| {
        format!(
            "{} documents {}, {} differ",
            found.documents,
            ago(Some(found.at)),
            found.differences()
        )
    });
    let holder = match (one.leader, one.holder.as_deref()) {
        (true, Some(holder)) => format!("{}, epoch {}", shown(holder), one.epoch),
        (true, None) => format!("epoch {}", one.epoch),
        (false, _) => "nobody".to_owned(),
    };
    let position = one.position.as_ref().map_or_else(
        || "none".to_owned(),
        |position| {
            format!("{}, token {}", shown(&position.cluster_time), shown(&position.resume_token))
        },
    );
    let rows = [
        ("source", shown(&one.source)),
        ("table", shown(&one.table)),
        ("group", shown(&one.group)),
        ("phase", format!("{}{code} for {}", one.phase, length(now - one.phase_since))),
        ("led by", holder),
        ("exact", if one.exact { "yes" } else { "no" }.to_owned()),
        ("position", position),
        ("lag", lag(one.lag_seconds)),
        ("headroom", headroom(one.headroom_seconds)),
        ("last poll", ago(one.last_poll_at)),
        ("last commit", ago(one.last_commit_at)),
        ("last event", ago(one.last_event_at)),
        ("events", format!("{} received, {} applied", one.events_received, one.events_applied)),
        ("rows", format!("{} changed, {} left alone", one.rows_changed, one.rows_unchanged)),
        ("failures", one.failures.to_string()),
        ("set aside", if letters.is_empty() { "0".to_owned() } else { letters.join(", ") }),
        ("compared", compared.unwrap_or_else(|| "not scheduled, or not yet".to_owned())),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "  {name:<12} {value}");
    }
    for note in notes(one, now) {
        let _ = writeln!(out, "  {note}");
    }
    if !of.incidents.is_empty() {
        let _ = write!(out, "\n{}", render::incidents(&of.incidents));
    }
    out
}
