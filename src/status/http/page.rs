//! The page an operator opens, rendered here so that it reads without JavaScript. Pure: a report
//! in, HTML out. Everything that comes from outside is escaped; there is no document's content in a
//! report to begin with.
//!
//! A few streams are shown whole. Of many, what is wrong is shown first, and each is one row of a
//! table, in few bytes; the rest of it is on its own page.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::card;
use super::html::{Document, chart, escape, link};
use super::rates::History;
use super::row;
use crate::model::format::{length, thousands};
use crate::model::phase::Phase;
use crate::status::board::About;
use crate::status::concern::{Concern, Rank, SharedGroups, rank, worst_first};
use crate::status::group_report::GroupReport;
use crate::status::report::{IncidentReport, Report, Verdict};
use crate::status::stream_report::StreamReport;
use crate::status::verdict::judge_one;

pub const STYLE: &str = include_str!("page.css");
pub const SCRIPT: &str = include_str!("page.js");

/// More streams are shown as a table.
const CARDS_MAX: usize = 8;

/// So many streams are shown before the table.
const FIRST_MAX: usize = 12;

/// The page in parts, each an element with an `id`, so that only what has changed is sent again.
#[derive(Debug, Default)]
pub(super) struct Page {
    title: String,
    top: String,
    /// In the order of configuration.
    streams: Vec<Part>,
    foot: String,
    is_table: bool,
}

#[derive(Debug)]
struct Part {
    rank: usize,
    html: String,
}

impl Page {
    /// When it was rendered is no change.
    pub fn new(report: &Report, history: &History, about: &About, now: DateTime<Utc>) -> Self {
        let is_table = report.streams.len() > CARDS_MAX;
        let streams = report.streams.iter().enumerate().map(|(place, one)| {
            let rank = number(rank(one, None));
            let html = if is_table {
                row::row(one, place, rank, history, report.groups.len() > 1, now)
            } else {
                stream(report, place, one, history, now)
            };
            Part { rank, html }
        });
        Self {
            title: format!("{} · {} {}", report.verdict.name(), report.service, report.environment),
            streams: streams.collect(),
            top: top(report, history, is_table, now),
            foot: foot(report, about),
            is_table,
        }
    }

    /// The whole document, around what changes.
    pub fn document(&self, now: DateTime<Utc>) -> String {
        let refresh = if self.is_table { 30 } else { 5 };
        let (title, body) = (self.title.as_str(), self.body());
        Document { title, root: "", live: "events", refresh, body: &body }.html(now)
    }

    /// What changes. In a table the worst come first.
    pub fn body(&self) -> String {
        let mut out = String::with_capacity(self.top.len() + self.streams.len() * 300);
        out.push_str(&self.top);
        out.push_str("<section aria-labelledby=\"streams\"><h2 id=\"streams\">Streams</h2>");
        let mut streams: Vec<&Part> = self.streams.iter().collect();
        if self.is_table {
            streams.sort_by_key(|part| part.rank);
            out.push_str(row::HEAD);
        }
        for part in streams {
            out.push_str(&part.html);
        }
        if self.is_table {
            out.push_str(row::END);
        }
        out.push_str("</section>");
        out.push_str(&self.foot);
        out
    }

    /// Each part with its `id`, always in one order.
    pub fn parts(&self) -> impl Iterator<Item = (String, &str)> {
        let ends = [("top", &self.top), ("foot", &self.foot)];
        let ends = ends.into_iter().map(|(id, html)| (id.to_owned(), html.as_str()));
        let streams = self.streams.iter().enumerate();
        ends.chain(streams.map(|(place, part)| (format!("s{place}"), part.html.as_str())))
    }
}

/// Small is bad.
const fn number(rank: Option<Rank>) -> usize {
    match rank {
        Some((std::cmp::Reverse(verdict), concern)) => {
            (Verdict::Critical as usize - verdict as usize) * 20 + concern as usize
        }
        None => 99,
    }
}

fn top(report: &Report, history: &History, is_table: bool, now: DateTime<Utc>) -> String {
    let mut out = String::with_capacity(8 << 10);
    out.push_str("<div id=\"top\">");
    head(&mut out, report);
    incidents(&mut out, &report.incidents, now);
    out.push_str("<section aria-labelledby=\"groups\"><h2 id=\"groups\">Groups</h2>");
    for (place, one) in report.groups.iter().enumerate() {
        group(&mut out, one, report, is_table.then(|| history.group(place)), now);
    }
    out.push_str("</section>");
    if is_table {
        first(&mut out, report, now);
    }
    out.push_str("</div>");
    out
}

fn head(out: &mut String, report: &Report) {
    let verdict = report.verdict.name();
    let walks = report.streams.iter().filter(|one| one.resync.is_some()).count();
    let _ = write!(
        out,
        "<header class=\"{verdict}\"><h1>{}</h1><p class=\"where\">{} {} · {}</p><p \
         class=\"action\">{}</p></header>",
        match report.verdict {
            Verdict::Healthy => "Healthy",
            Verdict::Degraded => "Degraded",
            Verdict::Critical => "Critical",
        },
        escape(&report.service),
        escape(&report.version),
        escape(&report.environment),
        match &report.action {
            Some(action) => format!("<strong>To do:</strong> {}", escape(action)),
            None if report.verdict == Verdict::Healthy && walks > 0 => format!(
                "Every stream follows its source; {} being filled or repaired meanwhile. There \
                 is nothing to do.",
                match walks {
                    1 => "one table is".to_owned(),
                    more => format!("{} tables are", thousands(crate::model::count(more))),
                }
            ),
            None if report.verdict == Verdict::Healthy =>
                "Every stream follows its source. There is nothing to do.".to_owned(),
            None => "There is nothing to do: this ends by itself.".to_owned(),
        },
    );
}

fn incidents(out: &mut String, incidents: &[IncidentReport], now: DateTime<Utc>) {
    if incidents.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"incidents\"><h2 id=\"incidents\">Open incidents</h2>");
    for open in incidents {
        card::incident(out, open, now);
    }
    out.push_str("</section>");
}

/// `988 streaming, 10 queued, 2 parked`: those of most streams first.
fn phases<'a>(streams: impl Iterator<Item = &'a StreamReport>) -> String {
    let mut counts: BTreeMap<Phase, u64> = BTreeMap::new();
    streams.for_each(|one| *counts.entry(one.phase).or_default() += 1);
    let mut counts: Vec<(Phase, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts = counts.iter().map(|(phase, count)| format!("{} {phase}", thousands(*count)));
    counts.collect::<Vec<_>>().join(", ")
}

/// What is one for all streams of a group. `drawn`: its rates and lag, where they are not drawn
/// with each stream.
fn group(
    out: &mut String,
    one: &GroupReport,
    report: &Report,
    drawn: Option<(&super::rates::Rates, &super::rates::Series)>,
    now: DateTime<Utc>,
) {
    let streams = || report.streams.iter().filter(|stream| stream.group == one.name);
    let verdict = judge_one(&one.as_stream()).0;
    let number = crate::model::count(streams().count());
    let _ = write!(
        out,
        "<article class=\"group {}\"><h3>{}</h3><p class=\"small\">{} · {} {}: {}</p><p \
         class=\"phase\"><b>{}</b> for {} · lag {:.1} s · {}</p>",
        card::class(verdict, false),
        escape(&one.name),
        card::led(one.leader, one.holder.as_deref(), one.epoch),
        thousands(number),
        if number == 1 { "stream" } else { "streams" },
        phases(streams()),
        one.phase,
        length(now - one.phase_since),
        one.lag_seconds,
        exact(one, streams().filter(|stream| !stream.exact).count()),
    );
    if let Some(reason) = &one.reason {
        let _ = write!(out, "<p class=\"reason\">{}</p>", escape(reason));
    }
    if let Some((rates, lag)) = drawn {
        card::headroom(out, one.headroom(), now);
        out.push_str("<div class=\"charts\">");
        chart(out, "events a second", &rates.events);
        chart(out, "rows a second", &rates.rows);
        chart(out, "lag in seconds", lag);
        out.push_str("</div>");
    }
    out.push_str("</article>");
}

/// Whether the group's tables show the source at one time, and at which.
fn exact(one: &GroupReport, others: usize) -> String {
    let Some(position) = &one.position else { return "no position yet".to_owned() };
    let time = escape(&position.cluster_time);
    if one.exact {
        return format!("exact: all tables show the source at {time}");
    }
    let why = match others {
        0 => "it is catching up".to_owned(),
        1 => "one table shows another time".to_owned(),
        more => format!("{} tables show other times", thousands(crate::model::count(more))),
    };
    format!("not exact: {why}; position {time}")
}

/// What is wrong with single streams, worst first, then what goes on with them.
fn first(out: &mut String, report: &Report, now: DateTime<Utc>) {
    let shared = SharedGroups::new(&report.groups, &report.streams);
    let told = worst_first(&report.streams, &shared);
    let told: Vec<&StreamReport> = told
        .into_iter()
        .filter(|(rank, _)| rank.is_some_and(|(_, concern)| concern != Concern::Queued))
        .map(|(_, one)| one)
        .collect();
    let queued = report.streams.iter().filter(|one| one.phase == Phase::Queued);
    let ends = queued.clone().filter_map(|one| one.resync.as_ref()?.eta_at).max();
    let queued = queued.count();
    if told.is_empty() && queued == 0 {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"first\"><h2 id=\"first\">What is wrong, and what is under \
         way</h2>",
    );
    for one in told.iter().take(FIRST_MAX) {
        let (verdict, sentence) = judge_one(one);
        let _ = write!(
            out,
            "<article class=\"first {}\"><h3>{}</h3>",
            card::class(verdict, one.resync.is_some()),
            link(&one.name)
        );
        card::phase(out, one, now);
        if let Some(sentence) = sentence {
            // The name and the phase stand above it.
            let said = format!("stream {} is {}: ", one.name, one.phase);
            let sentence = sentence.strip_prefix(&said).unwrap_or(&sentence);
            let _ = write!(out, "<p class=\"reason\">{}</p>", escape(sentence));
        }
        if let Some(walk) = &one.resync {
            card::resync(out, walk, now);
        }
        if !one.drift.is_empty() {
            let drift: Vec<String> = one.drift.iter().map(|d| escape(&d.to_string())).collect();
            let _ = write!(out, "<p class=\"reason\">drift: {}</p>", drift.join("; "));
        }
        out.push_str("</article>");
    }
    if let Some(more) = told.len().checked_sub(FIRST_MAX).filter(|more| *more > 0) {
        let more = thousands(crate::model::count(more));
        let _ = write!(out, "<p>… and {more} more, first in the table below.</p>");
    }
    if queued > 0 {
        let number = thousands(crate::model::count(queued));
        let left = ends.filter(|end| *end > now).map(|end| length(end - now));
        let left = left.map_or_else(String::new, |left| format!(", about {left} for all"));
        let _ = write!(out, "<p>{number} queued: their tables wait for their turn{left}.</p>");
    }
    out.push_str("</section>");
}

/// One of a few streams, whole.
fn stream(
    report: &Report,
    place: usize,
    one: &StreamReport,
    history: &History,
    now: DateTime<Utc>,
) -> String {
    let moves = one.resync.is_some();
    let mut out = format!(
        "<article id=\"s{place}\" class=\"stream {}\"><h3>{}</h3><p class=\"small\">{} → {} · \
         {}</p>",
        card::class(judge_one(one).0, moves),
        link(&one.name),
        escape(&one.source),
        escape(&one.table),
        card::led(one.leader, one.holder.as_deref(), one.epoch),
    );
    let group = report.groups.iter().position(|group| group.name == one.group);
    let lag = history.group(group.unwrap_or(usize::MAX)).1;
    card::stream(&mut out, one, (history.stream(place), lag), now);
    out.push_str("</article>");
    out
}

fn foot(report: &Report, about: &About) -> String {
    let mut out = String::from(
        "<footer id=\"foot\"><details><summary>Configuration and channels</summary><dl>",
    );
    for (name, value) in about {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(value));
    }
    for channel in &report.channels {
        let state = channel
            .failing
            .as_ref()
            .map_or_else(|| "well".to_owned(), |why| format!("failing: {}", escape(why)));
        let _ = write!(
            out,
            "<div><dt>{}</dt><dd>{state}, {} pending</dd></div>",
            escape(&channel.name),
            channel.pending
        );
    }
    out.push_str("</dl></details></footer>");
    out
}

#[cfg(test)]
mod tests;
