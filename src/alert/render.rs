//! What people read: an incident as Slack's blocks and as plain lines. Pure. No ids of documents, no secrets: only
//! what the rules and the status say, which hold neither.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::incident::{Gap, Incident, Progress, Severity, Transition};
use super::rules;
use crate::model::words::{length, thousands};

/// Slack's limits, in characters: a header, a section, and what a line of notification can show.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const FALLBACK_MAX: usize = 300;

/// Who speaks.
#[derive(Debug, Clone)]
pub struct Voice {
    pub service: String,
    pub environment: String,
}

/// The root message, as it should look now.
pub fn root(voice: &Voice, incident: &Incident, now: DateTime<Utc>) -> Value {
    let title = title(incident);
    let mark = mark(incident);
    let ended = if incident.is_resolved() { " – resolved" } else { "" };
    let header = cut(&format!("{mark} {title}{ended}"), HEADER_MAX);
    let fallback = cut(&format!("{mark} [{}] {title}{ended}: {}", voice.environment, incident.summary), FALLBACK_MAX);
    let body = if incident.is_resolved() { resolved_lines(incident) } else { open_lines(incident, now) };
    json!({
        "text": escape(&fallback),
        "blocks": [
            { "type": "header", "text": { "type": "plain_text", "text": header, "emoji": true } },
            section(&body),
            context(voice, incident, now),
        ],
        "metadata": metadata(incident, 0),
    })
}

/// A reply in the thread, on the last transition; `skipped` transitions before it were not told.
pub fn reply(voice: &Voice, incident: &Incident, skipped: u32, now: DateTime<Utc>) -> Value {
    let said = match incident.detail.last {
        Transition::Opened => format!("Opened: {}", incident.summary),
        Transition::Worsened => format!("Worse: {} now. {}", incident.severity.name(), incident.summary),
        Transition::Acknowledged => match incident.acked(now) {
            Some(ack) => format!("{} is on it until {}.", ack.by, time(ack.until)),
            None => "Acknowledged.".to_owned(),
        },
        Transition::Reminder => format!(
            "Still open after {} and nobody is on it. {} `tidemark incident ack {} --by NAME --until TIME`",
            length(now - incident.opened_at),
            incident.detail.action.as_deref().unwrap_or("Nothing to do but know."),
            number(incident),
        ),
        Transition::Reopened => format!("Back again: {}", incident.summary),
        Transition::Resolved => format!("Resolved. {}", ending(incident)),
    };
    let mut text = escape_but_times(&said);
    if skipped > 0 {
        let updates = if skipped == 1 { "update" } else { "updates" };
        let _ = write!(text, "\n_{skipped} earlier {updates} could not be delivered; this is the state now._");
    }
    let loud = matches!(incident.detail.last, Transition::Worsened | Transition::Reminder | Transition::Reopened);
    let fallback = format!("{} {}: {}", mark(incident), title(incident), plain(&said));
    json!({
        "text": escape(&cut(&fallback, FALLBACK_MAX)),
        "blocks": [section(&text), context(voice, incident, now)],
        "reply_broadcast": loud,
        "metadata": metadata(incident, incident.detail.revision),
    })
}

/// `recommendation: history lost`, or the code's words alone where no stream is meant.
pub fn title(incident: &Incident) -> String {
    if let Some(title) = &incident.detail.title {
        return title.clone();
    }
    let rule = rules::of(incident.key.code);
    incident.key.stream.as_ref().map_or_else(|| rule.title.to_owned(), |stream| format!("{stream}: {}", rule.title))
}

const fn mark(incident: &Incident) -> &'static str {
    match (incident.is_resolved(), incident.severity) {
        (true, _) => "🟢",
        (_, Severity::Critical) => "🔴",
        (_, Severity::Warning) => "🟠",
        (_, Severity::Info) => "🔵",
    }
}

fn open_lines(incident: &Incident, now: DateTime<Utc>) -> String {
    let rule = rules::of(incident.key.code);
    let mut lines = format!("*What* {}\n*Since* {}", escape(&incident.summary), time(incident.detail.since));
    let _ = write!(lines, "\n*Data* {}", escape(rule.means));
    let _ = write!(lines, "\n*tidemark* {}", escape(&incident.detail.doing));
    if let Some(progress) = &incident.detail.progress {
        let _ = write!(lines, "\n{}", filling(progress, now));
    }
    let you = incident.detail.action.as_deref().unwrap_or("Nothing to do: this ends by itself, and will say so here.");
    let _ = write!(lines, "\n*You* {}", escape(you));
    if let Some(ack) = incident.acked(now) {
        let _ = write!(lines, "\n*On it* {} until {}", escape(&ack.by), time(ack.until));
    }
    lines
}

fn resolved_lines(incident: &Incident) -> String {
    format!("*What* {}\n*Ended* {}", escape(&incident.summary), escape_but_times(&ending(incident)))
}

/// How long it lasted, and what its repair wrote.
///
/// Which of it was missed cannot be told: a document says nothing of when it changed.
fn ending(incident: &Incident) -> String {
    let until = incident.resolved_at.unwrap_or(incident.detail.changed_at);
    let lasted = length(until - incident.detail.since.min(incident.opened_at));
    let mut text = format!("It lasted {lasted}, until {}.", time(until));
    if let Some(gap) = &incident.detail.gap {
        let _ = write!(text, "\n{}", gap_report(gap));
    }
    text
}

fn gap_report(gap: &Gap) -> String {
    let Gap { resync, rows_inserted, rows_changed, rows_deleted, .. } = gap;
    let at = |at: Option<DateTime<Utc>>| at.map_or_else(|| "an unknown time".to_owned(), time);
    format!(
        "Blind between {} and {}. Resync {resync} wrote what the table lacked: {} rows inserted, {} changed, {} deleted; \
         changes made while it walked may be among them. Samples: `tidemark resync list`.",
        at(gap.blind_from),
        at(gap.blind_until),
        thousands(rows_inserted.unsigned_abs()),
        thousands(rows_changed.unsigned_abs()),
        thousands(rows_deleted.unsigned_abs()),
    )
}

/// `▓▓▓▓░░░░░░ 42 % · 21,000 of 50,000 documents · 310 rows written · 3 min left`
fn filling(progress: &Progress, now: DateTime<Utc>) -> String {
    let read = progress.documents_read;
    let mut text = match progress.documents_estimated.filter(|all| *all > 0) {
        Some(all) => {
            let percent = (read.saturating_mul(100) / all).min(100);
            let full = usize::try_from(percent / 10).unwrap_or_default();
            let bar = format!("{}{}", "▓".repeat(full), "░".repeat(10 - full.min(10)));
            format!("{bar} {percent} % · {} of {} documents", thousands(read), thousands(all))
        }
        None => format!("{} documents", thousands(read)),
    };
    let _ = write!(text, " · {} rows written", thousands(progress.rows_written));
    if progress.rows_deleted > 0 {
        let _ = write!(text, " · {} deleted", thousands(progress.rows_deleted));
    }
    if let Some(eta) = progress.eta_at.filter(|eta| *eta > now) {
        let _ = write!(text, " · {} left", length(eta - now));
    }
    text
}

fn context(voice: &Voice, incident: &Incident, now: DateTime<Utc>) -> Value {
    let times =
        if incident.count == 1 { String::new() } else { format!(" · met {} times", thousands(incident.count)) };
    let text = format!(
        "incident {} · {} · {} · {} · `{}`{times}",
        number(incident),
        incident.state_name(now),
        escape(&voice.environment),
        escape(&voice.service),
        incident.key.code,
    );
    json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": text }] })
}

fn number(incident: &Incident) -> String {
    incident.id.map_or_else(|| format!("({})", incident.tag.simple()), |id| id.to_string())
}

/// What a machine can tell a message by.
fn metadata(incident: &Incident, transition: u32) -> Value {
    json!({
        "event_type": "tidemark_incident",
        "event_payload": { "incident": incident.tag, "transition": transition, "code": incident.key.code.name() },
    })
}

/// The same for the same message sent twice, so that the receiver may tell.
pub fn message_id(incident: &Incident, transition: u32) -> Uuid {
    Uuid::new_v5(&incident.tag, &transition.to_be_bytes())
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(text, SECTION_MAX) } })
}

/// In the reader's own time zone, with UTC where that cannot be shown.
fn time(at: DateTime<Utc>) -> String {
    let stamp = at.timestamp();
    format!("<!date^{stamp}^{{date_short_pretty}} {{time}}|{}>", at.format("%Y-%m-%d %H:%M UTC"))
}

/// Plain text of what [`time`] made.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!date^") {
        out.push_str(before);
        let (inside, left) = after.split_once('>').unwrap_or((after, ""));
        out.push_str(inside.rsplit_once('|').map_or(inside, |(_, shown)| shown));
        rest = left;
    }
    out.push_str(rest);
    out.replace('\n', " ")
}

/// Escapes all but the dates that [`time`] made.
fn escape_but_times(text: &str) -> String {
    escape(text).replace("&lt;!date^", "<!date^").replace(" UTC&gt;", " UTC>")
}

/// Slack's three special characters.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters - 1).collect();
    short.push('…');
    short
}
