//! One stream of many: a row of a table, in few bytes, since there may be thousands. Pure.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};

use super::card::percent;
use super::html::{escape, figure, link, minutes, seconds, spark};
use super::rates::History;
use crate::model::format::thousands;
use crate::model::phase::Phase;
use crate::status::report::Verdict;
use crate::status::stream_report::StreamReport;
use crate::status::verdict::judge_one;

/// The ends of cells and rows may be left out.
pub const HEAD: &str = "<div class=\"scroll\"><table id=\"table\"><thead><tr><th>stream<th>table\
                        <th>phase<th>lag<th>rows a second<th>last change<th>failures<tbody>";
pub const END: &str = "</table></div>";

/// `place`: in the order of configuration. `rank`: small is bad. `named`: with its group's name.
pub(super) fn row(
    one: &StreamReport,
    place: usize,
    rank: usize,
    history: &History,
    named: bool,
    now: DateTime<Utc>,
) -> String {
    let mut out = format!("<tr id=\"s{place}\"");
    // A calm one has neither.
    if rank < 99 {
        let class = match judge_one(one).0 {
            Verdict::Critical => " class=\"critical\"",
            Verdict::Degraded => " class=\"degraded\"",
            Verdict::Healthy => "",
        };
        let _ = write!(out, " data-rank=\"{rank}\"{class}");
    }
    let _ = write!(out, "><td>{}", link(&one.name));
    if named {
        let _ = write!(out, " <small>{}</small>", escape(&one.group));
    }
    let _ = write!(out, "<td>{}<td>", escape(&one.table));
    phase(&mut out, one, now);
    let lag =
        if one.lag_seconds < 1.0 { "0 s".to_owned() } else { minutes(seconds(one.lag_seconds)) };
    let _ = write!(out, "<td>{lag}<td>");
    spark(&mut out, &history.points(place));
    out.push_str(&figure(history.stream(place).rows.now()));
    let last = one.last_event_at.map_or_else(|| "–".to_owned(), |at| minutes(now - at));
    let _ = write!(out, "<td>{last}<td>{}", thousands(one.failures));
    if one.dead_letters > 0 {
        let _ = write!(out, ", {} set aside", thousands(one.dead_letters));
    }
    out
}

/// The phase, and how far its walk is.
fn phase(out: &mut String, one: &StreamReport, now: DateTime<Utc>) {
    let _ = write!(out, "{}", one.phase);
    if let Some(code) = &one.halt_code {
        let _ = write!(out, " <small>{}</small>", escape(code));
    }
    let Some(walk) = &one.resync else {
        if one.phase != Phase::Parked && !one.drift.is_empty() {
            out.push_str(" <small>drift</small>");
        }
        return;
    };
    let mut told = Vec::new();
    match (walk.queue_place, percent(walk)) {
        (Some(0), _) => told.push("next".to_owned()),
        (Some(place), _) => told.push(format!("after {}", thousands(place))),
        (None, Some(percent)) => told.push(format!("{percent} %")),
        (None, None) => told.push(walk.state.to_string()),
    }
    if let Some(eta) = walk.eta_at.filter(|eta| *eta - now >= TimeDelta::minutes(1)) {
        told.push(format!("{} left", minutes(eta - now)));
    }
    let _ = write!(out, " <small>{}</small>", told.join(", "));
}
