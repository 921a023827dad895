//! The page an operator opens, rendered here so that it reads without JavaScript. Pure: a report
//! in, HTML out. Everything that comes from outside is escaped; there is no document's content in a
//! report to begin with.

use std::fmt::Write;

use chrono::{DateTime, TimeDelta, Utc};

use super::rates::Rates;
use crate::model::format::{FOREVER, length, thousands};
use crate::model::history_window::Headroom;
use crate::model::phase::Phase;
use crate::model::reason::Reason;
use crate::model::shown::shown;
use crate::status::board::About;
use crate::status::report::{IncidentReport, Report};
use crate::status::stream_report::{ResyncReport, StreamReport};

pub const STYLE: &str = include_str!("page.css");
pub const SCRIPT: &str = include_str!("page.js");

/// The whole document, around what changes.
pub fn document(report: &Report, body: &str, now: DateTime<Utc>) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{} · {} {}</title><link \
         rel=\"stylesheet\" href=\"page.css\"><link rel=\"icon\" href=\"data:,\"><noscript><meta \
         http-equiv=\"refresh\" content=\"5\"></noscript><script src=\"page.js\" \
         defer></script></head><body><main id=\"live\">{}</main><p class=\"small\">as of <span \
         id=\"as-of\">{}</span></p><p id=\"link\" role=\"status\"></p></body></html>",
        report.verdict.name(),
        escape(&report.service),
        escape(&report.environment),
        body,
        at(now),
    )
}

/// What changes. When it was rendered is no change.
pub fn body(report: &Report, rates: &[Rates], about: &About, now: DateTime<Utc>) -> String {
    let mut out = String::with_capacity(8 << 10);
    head(&mut out, report);
    if !report.incidents.is_empty() {
        out.push_str(
            "<section aria-labelledby=\"incidents\"><h2 id=\"incidents\">Open incidents</h2>",
        );
        for open in &report.incidents {
            incident(&mut out, open, now);
        }
        out.push_str("</section>");
    }
    out.push_str("<section aria-labelledby=\"streams\"><h2 id=\"streams\">Streams</h2>");
    let none = Rates::default();
    for (place, one) in report.streams.iter().enumerate() {
        stream(&mut out, one, rates.get(place).unwrap_or(&none), now);
    }
    out.push_str("</section>");
    foot(&mut out, report, about);
    out
}

fn head(out: &mut String, report: &Report) {
    let verdict = report.verdict.name();
    let _ = write!(
        out,
        "<header class=\"{verdict}\"><h1>{}</h1><p class=\"where\">{} {} · {}</p><p \
         class=\"action\">{}</p></header>",
        match verdict {
            "healthy" => "Healthy",
            "degraded" => "Degraded",
            _ => "Critical",
        },
        escape(&report.service),
        escape(&report.version),
        escape(&report.environment),
        match &report.action {
            Some(action) => format!("<strong>To do:</strong> {}", escape(action)),
            None if verdict == "healthy" =>
                "Every stream follows its source. There is nothing to do.".to_owned(),
            None => "There is nothing to do: this ends by itself.".to_owned(),
        },
    );
}

fn incident(out: &mut String, open: &IncidentReport, now: DateTime<Utc>) {
    let stream =
        open.stream.as_ref().map_or_else(String::new, |stream| format!("{}: ", escape(stream)));
    let owner = match (&open.acked_by, open.acked_until) {
        (Some(by), Some(until)) if until >= FOREVER => {
            format!("{} is on it until it is over", escape(by))
        }
        (Some(by), Some(until)) => format!("{} is on it until {}", escape(by), at(until)),
        _ => "nobody is on it".to_owned(),
    };
    let _ = write!(
        out,
        "<article class=\"incident {0}\"><h3>{stream}<code>{1}</code></h3><p>{2}</p><p>{3}{4}</p>\
         <p class=\"small\">incident {5} · {0} · open for {6} · met {7} · {owner}</p></article>",
        open.severity,
        escape(&open.code),
        escape(&open.summary),
        escape(&open.doing),
        open.action.as_ref().map_or_else(String::new, |action| format!(
            " <strong>You:</strong> {}",
            escape(action)
        )),
        open.id,
        length(now - open.opened_at),
        if open.count == 1 {
            "once".to_owned()
        } else {
            format!("{} times", thousands(open.count))
        },
    );
}

fn stream(out: &mut String, one: &StreamReport, rates: &Rates, now: DateTime<Utc>) {
    let state = if one.phase == Phase::Halted {
        "critical"
    } else if one.retrying > 0 || one.resync.is_some() {
        "degraded"
    } else {
        "plain"
    };
    let led = match (&one.holder, one.leader) {
        (_, true) => format!("led here, epoch {}", one.epoch),
        (Some(holder), false) => format!("led by {}, epoch {}", escape(holder), one.epoch),
        (None, false) => "led by nobody".to_owned(),
    };
    let _ = write!(
        out,
        "<article class=\"stream {state}\"><h3>{}</h3><p class=\"small\">{} → {} · {led}</p>\
         <p class=\"phase\"><b>{}</b>{} for {}</p>",
        escape(&one.name),
        escape(&one.source),
        escape(&one.table),
        one.phase,
        one.halt_code
            .as_ref()
            .map_or_else(String::new, |code| format!(" (<code>{}</code>)", escape(code))),
        length(now - one.phase_since),
    );
    if let Some(reason) = &one.reason {
        let _ = write!(out, "<p class=\"reason\">{}</p>", escape(reason));
    }
    if let Some(walk) = &one.resync {
        resync(out, walk, now);
    }
    headroom(out, one, now);
    out.push_str("<div class=\"charts\">");
    chart(out, "events a second", rates.events.iter().copied());
    chart(out, "rows a second", rates.rows.iter().copied());
    chart(out, "lag in seconds", rates.lag.iter().copied());
    out.push_str("</div>");
    figures(out, one, now);
    out.push_str("</article>");
}

/// How much of the source's history is left to the position, as a bar, with when it would run out.
fn headroom(out: &mut String, one: &StreamReport, now: DateTime<Utc>) {
    let Some(headroom) = one.headroom() else {
        out.push_str("<p class=\"bar\">headroom unknown: the source does not tell</p>");
        return;
    };
    let whole = |seconds: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of an oplog's length")]
        let seconds = seconds as i64;
        TimeDelta::seconds(seconds)
    };
    let (Headroom { left, window }, share) = (headroom, headroom.share());
    let _ = write!(
        out,
        "<p class=\"bar\"><label>headroom <meter min=\"0\" max=\"1\" low=\"{}\" high=\"{}\" \
         optimum=\"1\" value=\"{share:.3}\">{:.0} %</meter></label> {} of {}; without another \
         commit it runs out {}</p>",
        Headroom::CRITICAL,
        Headroom::WARNING,
        share * 100.0,
        length(whole(left)),
        length(whole(window)),
        at(now + whole(left)),
    );
}

fn resync(out: &mut String, walk: &ResyncReport, now: DateTime<Utc>) {
    let percent = walk
        .documents_estimated
        .filter(|all| *all > 0)
        .map(|all| (walk.documents_read.saturating_mul(100) / all).min(100));
    let bar = percent.map_or_else(String::new, |percent| {
        format!("<progress max=\"100\" value=\"{percent}\">{percent} %</progress> {percent} % · ")
    });
    let all = walk.documents_estimated.map_or_else(|| "?".to_owned(), thousands);
    let left = walk
        .eta_at
        .filter(|eta| *eta > now)
        .map_or_else(String::new, |eta| format!(" · {} left", length(eta - now)));
    let _ = write!(
        out,
        "<p class=\"bar\">{} {} ({}): {bar}{} of {all} documents · {} rows written · {} \
         deleted{left}{}</p>",
        if walk.reason == Reason::FirstSnapshot { "snapshot" } else { "resync" },
        walk.id,
        walk.state,
        thousands(walk.documents_read),
        thousands(walk.rows_upserted),
        thousands(walk.rows_deleted),
        walk.note.as_ref().map_or_else(String::new, |note| format!(" · {}", escape(note))),
    );
}

fn figures(out: &mut String, one: &StreamReport, now: DateTime<Utc>) {
    let ago = |at: Option<DateTime<Utc>>| {
        at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", length(now - at)))
    };
    let letters: Vec<String> = one
        .dead_letters_by_code
        .iter()
        .map(|(code, number)| format!("{} {code}", thousands(*number)))
        .collect();
    let letters = if letters.is_empty() { "0".to_owned() } else { letters.join(", ") };
    let drift: Vec<String> = one.drift.iter().map(|drift| escape(&drift.to_string())).collect();
    let compared = one.compared.as_ref().map(|c| {
        let found = if c.differences() == 0 {
            "equal".to_owned()
        } else {
            format!("{} differ", c.differences())
        };
        format!("{found}, {} documents, {} ago", thousands(c.documents), length(now - c.at))
    });
    let rows = [
        ("lag", format!("{:.1} s", one.lag_seconds)),
        ("last poll", ago(one.last_poll_at)),
        ("last commit", ago(one.last_commit_at)),
        ("last event", ago(one.last_event_at)),
        (
            "position",
            one.position.as_ref().map_or_else(|| "none".to_owned(), |p| escape(&p.cluster_time)),
        ),
        ("events", thousands(one.events_received)),
        ("rows changed", thousands(one.rows_changed)),
        ("rows left alone", thousands(one.rows_unchanged)),
        ("dead letters", letters),
        ("drift", if drift.is_empty() { "none".to_owned() } else { drift.join("; ") }),
        ("compared", compared.unwrap_or_else(|| "not scheduled, or not yet".to_owned())),
    ];
    out.push_str("<dl>");
    for (name, value) in rows {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>");
}

/// A line over the last five minutes, with its numbers in words for who cannot see it.
fn chart(out: &mut String, what: &str, values: impl Iterator<Item = f64> + Clone) {
    let most = values.clone().fold(0.0, f64::max);
    let last = values.clone().last().unwrap_or_default();
    // The newest value stands at the right.
    let empty = 150 - values.clone().count().min(150);
    let scale = if most > 0.0 { 28.0 / most } else { 0.0 };
    let mut points = String::new();
    for (place, value) in values.enumerate() {
        let _ = write!(points, "{},{:.1} ", empty + place, 30.0 - value * scale);
    }
    let _ = write!(
        out,
        "<figure><svg role=\"img\" viewBox=\"0 0 150 32\" preserveAspectRatio=\"none\" \
         aria-label=\"{what} over the last five minutes: now {last:.1}, most {most:.1}\"><polyline \
         points=\"{}\"/></svg><figcaption>{what}: {last:.1} <span class=\"small\">most \
         {most:.1}</span></figcaption></figure>",
        points.trim_end(),
    );
}

fn foot(out: &mut String, report: &Report, about: &About) {
    out.push_str("<footer><details><summary>Configuration and channels</summary><dl>");
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
}

fn at(time: DateTime<Utc>) -> String {
    format!(
        "<time datetime=\"{}\">{}</time>",
        time.format("%Y-%m-%dT%H:%M:%SZ"),
        time.format("%Y-%m-%d %H:%M:%S UTC")
    )
}

fn escape(text: &str) -> String {
    shown(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::report::Verdict;
    use crate::status::verdict::tests::stream as healthy;

    #[test]
    fn what_comes_from_outside_is_escaped_and_the_page_loads_nothing_from_elsewhere() {
        let mut one = healthy();
        one.reason = Some("<script>alert(1)</script> \"x\" & y".to_owned());
        one.holder = Some("<b>".to_owned());
        one.leader = false;
        let report = Report {
            service: "<i>".to_owned(),
            version: "1".to_owned(),
            environment: "\"e\"".to_owned(),
            verdict: Verdict::Degraded,
            action: Some("<u>".to_owned()),
            groups: Vec::new(),
            streams: vec![one],
            incidents: Vec::new(),
            channels: Vec::new(),
        };
        let now = Utc::now();
        let html =
            document(&report, &body(&report, &[], &vec![("batch", "<s>".to_owned())], now), now);
        for tag in ["<script>", "<b>x", "<i>", "<u>", "<s>", "<b><"] {
            assert!(!html.contains(tag), "{tag} in {html}");
        }
        assert!(
            !html.contains("http://") && !html.contains("https://") && !html.contains(" style=")
        );
        assert!(html.contains("&lt;script&gt;alert(1)") && html.contains("<meter"));
    }
}
