//! The page of one stream: all that is known of it. Pure.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::card;
use super::html::{Document, escape};
use super::rates::{Rates, Series};
use crate::model::format::{length, thousands};
use crate::status::report::IncidentReport;
use crate::status::stream_report::StreamReport;
use crate::status::verdict::judge_one;

pub(super) fn document(
    one: &StreamReport,
    incidents: &[IncidentReport],
    drawn: (&Rates, &Series),
    now: DateTime<Utc>,
) -> String {
    let (verdict, sentence) = judge_one(one);
    let mut body = format!(
        "<nav><a href=\"../\">← All streams</a></nav><header class=\"{}\"><h1>{}</h1><p \
         class=\"where\">{} → {} · group {} · {}</p><p class=\"action\">{}</p></header>",
        verdict.name(),
        escape(&one.name),
        escape(&one.source),
        escape(&one.table),
        escape(&one.group),
        card::led(one.leader, one.holder.as_deref(), one.epoch),
        sentence.map_or_else(
            || "There is nothing to do.".to_owned(),
            |sentence| format!("<strong>To do:</strong> {}", escape(&sentence))
        ),
    );
    for open in incidents {
        card::incident(&mut body, open, now);
    }
    let class = card::class(verdict, one.resync.is_some());
    let _ = write!(body, "<article class=\"stream {class}\">");
    card::stream(&mut body, one, drawn, now);
    body.push_str("</article>");
    failing(&mut body, one, now);
    fields(&mut body, one);
    let title = format!("{} · {}", one.phase, one.name);
    Document { title: &title, root: "../", live: "poll", refresh: 5, body: &body }.html(now)
}

fn failing(out: &mut String, one: &StreamReport, now: DateTime<Utc>) {
    if one.failing.is_empty() {
        return;
    }
    out.push_str("<h2>Steps that are tried again</h2><dl>");
    for step in &one.failing {
        let _ = write!(
            out,
            "<div><dt>{} · <code>{}</code></dt><dd>{}; attempt {} in {}</dd></div>",
            step.step,
            escape(&step.code),
            escape(&step.reason),
            thousands(step.attempts),
            length(now - step.since),
        );
    }
    out.push_str("</dl>");
}

/// Which columns read which fields, and what no column reads.
fn fields(out: &mut String, one: &StreamReport) {
    let fields = &one.fields;
    let words = |words: &[String]| {
        let words: Vec<String> =
            words.iter().map(|word| format!("<code>{}</code>", escape(word))).collect();
        if words.is_empty() { "none".to_owned() } else { words.join(" ") }
    };
    let exact = if one.exact {
        "yes: the table is the source at the position"
    } else {
        "no: it is being filled or repaired, set aside, or catching up"
    };
    out.push_str("<h2>Table</h2><dl class=\"wide\">");
    for (name, value) in [
        ("exact", exact.to_owned()),
        ("columns, and the fields they read", words(&fields.columns)),
        ("fields that no column reads", words(&fields.unmapped)),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    out.push_str("</dl>");
}
