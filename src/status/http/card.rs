//! All that is known of one stream, for people; and an incident. Pure.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::html::{at, chart, escape, seconds};
use super::rates::{Rates, Series};
use crate::model::format::{FOREVER, length, thousands};
use crate::model::history_window::Headroom;
use crate::model::reason::Reason;
use crate::status::report::{IncidentReport, Verdict};
use crate::status::stream_report::{ResyncReport, StreamReport};

pub(super) fn incident(out: &mut String, open: &IncidentReport, now: DateTime<Utc>) {
    let stream =
        open.stream.as_ref().map_or_else(String::new, |stream| format!("{}: ", escape(stream)));
    let owner = match (&open.acked_by, open.acked_until) {
        (Some(by), Some(until)) if until >= FOREVER => {
            format!("{} is on it until it is over", escape(by))
        }
        (Some(by), Some(until)) => format!("{} is on it until {}", escape(by), at(until)),
        _ => "nobody is on it".to_owned(),
    };
    let muted = open.muted.as_ref().map_or_else(String::new, |mute| {
        format!(" · not told until {} ({})", at(mute.until), escape(&mute.by))
    });
    let _ = write!(
        out,
        "<article class=\"incident {0}\"><h3>{stream}<code>{1}</code></h3><p>{2}</p><p>{3}{4}</p>\
         <p class=\"small\">incident {5} · {0} · open for {6} · met {7} · {owner}{muted}</p>\
         </article>",
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

/// Who leads.
pub(super) fn led(leader: bool, holder: Option<&str>, epoch: i64) -> String {
    match (holder, leader) {
        (_, true) => format!("led here, epoch {epoch}"),
        (Some(holder), false) => format!("led by {}, epoch {epoch}", escape(holder)),
        (None, false) => "led by nobody".to_owned(),
    }
}

/// A class of the style sheet: how bad it is, where it is.
pub(super) const fn class(verdict: Verdict, moves: bool) -> &'static str {
    match verdict {
        Verdict::Critical => "critical",
        Verdict::Degraded => "degraded",
        Verdict::Healthy if moves => "moving",
        Verdict::Healthy => "plain",
    }
}

/// The phase, why it is so, and for how long.
pub(super) fn phase(out: &mut String, one: &StreamReport, now: DateTime<Utc>) {
    let _ = write!(
        out,
        "<p class=\"phase\"><b>{}</b>{} for {}</p>",
        one.phase,
        one.halt_code
            .as_ref()
            .map_or_else(String::new, |code| format!(" (<code>{}</code>)", escape(code))),
        length(now - one.phase_since),
    );
}

/// Everything below its heading.
pub(super) fn stream(
    out: &mut String,
    one: &StreamReport,
    (rates, lag): (&Rates, &Series),
    now: DateTime<Utc>,
) {
    phase(out, one, now);
    if let Some(reason) = &one.reason {
        let _ = write!(out, "<p class=\"reason\">{}</p>", escape(reason));
    }
    if let Some(walk) = &one.resync {
        resync(out, walk, now);
    }
    headroom(out, one.headroom(), now);
    out.push_str("<div class=\"charts\">");
    chart(out, "events a second", &rates.events);
    chart(out, "rows a second", &rates.rows);
    chart(out, "lag in seconds", lag);
    out.push_str("</div>");
    figures(out, one, now);
}

/// How much of the source's history is left to the position, as a bar, with when it would run out.
pub(super) fn headroom(out: &mut String, headroom: Option<Headroom>, now: DateTime<Utc>) {
    let Some(headroom) = headroom else {
        out.push_str("<p class=\"bar\">headroom unknown: the source does not tell</p>");
        return;
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
        length(seconds(left)),
        length(seconds(window)),
        at(now + seconds(left)),
    );
}

/// How far a walk is, in percent, where that can be known.
pub(super) fn percent(walk: &ResyncReport) -> Option<u64> {
    let all = walk.documents_estimated.filter(|all| *all > 0)?;
    Some((walk.documents_read.saturating_mul(100) / all).min(100))
}

/// A walk: how far it is, or its place among those that wait, and when it is over.
pub(super) fn resync(out: &mut String, walk: &ResyncReport, now: DateTime<Utc>) {
    let bar = percent(walk).map_or_else(String::new, |percent| {
        format!("<progress max=\"100\" value=\"{percent}\">{percent} %</progress> {percent} % · ")
    });
    let all = walk.documents_estimated.map_or_else(|| "an unknown number".to_owned(), thousands);
    let left = walk
        .eta_at
        .filter(|eta| *eta > now)
        .map_or_else(String::new, |eta| format!(" · {} left", length(eta - now)));
    let what = if walk.reason == Reason::FirstSnapshot { "snapshot" } else { "resync" };
    let _ = write!(out, "<p class=\"bar\">{what} {} ", walk.id);
    if let Some(place) = walk.queue_place {
        let _ =
            write!(out, "waits for its turn, {} · about {all} documents{left}</p>", after(place));
        return;
    }
    let _ = write!(
        out,
        "({}): {bar}{} of {all} documents · {} rows written · {} deleted{left}{}</p>",
        walk.state,
        thousands(walk.documents_read),
        thousands(walk.rows_upserted),
        thousands(walk.rows_deleted),
        walk.note.as_ref().map_or_else(String::new, |note| format!(" · {}", escape(note))),
    );
}

/// A place in the queue, in words.
fn after(place: u64) -> String {
    match place {
        0 => "as the next".to_owned(),
        1 => "after one other".to_owned(),
        others => format!("after {} others", thousands(others)),
    }
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
        ("failures", thousands(one.failures)),
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
