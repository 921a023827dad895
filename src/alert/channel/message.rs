//! What people read: an incident as Slack's blocks and as plain lines. Pure. No ids of documents,
//! no secrets: only what the rules and the status say, which hold neither.
//!
//! Slack's markup is made here and nowhere else: every text put into it is escaped by itself, so
//! that none forges a link, a mention or a line; and Slack is told to look for none in what is
//! left.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::incident::life::{Ack, Gap, Incident, Progress, Transition};
use crate::error::{Severity, rules};
use crate::model::format::{FOREVER, length, thousands};
use crate::model::shown::shown;

/// Slack's limits, in characters: a header, a section, a context, and what a line of notification
/// can show.
const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const CONTEXT_MAX: usize = 2000;
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
    let header = cut(&shown(&format!("{mark} {title}{ended}")), HEADER_MAX);
    let fallback = cut(
        &format!("{mark} [{}] {title}{ended}: {}", voice.environment, incident.summary),
        FALLBACK_MAX,
    );
    let body =
        if incident.is_resolved() { resolved_lines(incident) } else { open_lines(incident, now) };
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
    let mut text = said(incident, now, Form::Markup);
    if skipped > 0 {
        let updates = if skipped == 1 { "update" } else { "updates" };
        let _ = write!(
            text,
            "\n_{skipped} earlier {updates} could not be delivered; this is the state now._"
        );
    }
    let loud = matches!(
        incident.detail.last,
        Transition::Worsened | Transition::Reminder | Transition::Reopened
    );
    let plain = said(incident, now, Form::Plain).replace('\n', " ");
    let fallback = format!("{} {}: {plain}", mark(incident), title(incident));
    json!({
        "text": escape(&cut(&fallback, FALLBACK_MAX)),
        "blocks": [section(&text), context(voice, incident, now)],
        "reply_broadcast": loud,
        "metadata": metadata(incident, incident.detail.revision),
    })
}

/// How a message is written.
#[derive(Clone, Copy)]
enum Form {
    /// As Slack's blocks take it.
    Markup,
    /// As a line of notification, still to be escaped.
    Plain,
}

impl Form {
    fn text(self, text: &str) -> String {
        match self {
            Self::Markup => escape(text),
            Self::Plain => text.to_owned(),
        }
    }

    fn time(self, at: DateTime<Utc>) -> String {
        match self {
            Self::Markup => time(at),
            Self::Plain => at.format("%Y-%m-%d %H:%M UTC").to_string(),
        }
    }

    fn who(self, ack: &Ack) -> String {
        self.text(&name(&ack.by))
    }

    fn until(self, ack: &Ack) -> String {
        if ack.until >= FOREVER { "it is over".to_owned() } else { self.time(ack.until) }
    }
}

fn said(incident: &Incident, now: DateTime<Utc>, form: Form) -> String {
    let summary = form.text(&incident.summary);
    match incident.detail.last {
        Transition::Opened => format!("Opened: {summary}"),
        Transition::Worsened => format!("Worse: {} now. {summary}", incident.severity.name()),
        Transition::Acknowledged => match incident.acked(now) {
            Some(ack) => format!("{} is on it until {}.", form.who(ack), form.until(ack)),
            None => "Acknowledged.".to_owned(),
        },
        Transition::Reminder => format!(
            "Still open after {} and nobody is on it. {} `tidemark incident ack {} --by NAME \
             --until TIME`",
            length(now - incident.opened_at),
            form.text(incident.detail.action.as_deref().unwrap_or("Nothing to do but know.")),
            number(incident),
        ),
        Transition::Reopened => format!("Back again: {summary}"),
        Transition::Resolved => format!("Resolved. {}", ending(incident, form)),
    }
}

/// `recommendation: history lost`, or the code's words alone where no stream is meant.
pub fn title(incident: &Incident) -> String {
    if let Some(title) = &incident.detail.title {
        return title.clone();
    }
    let rule = rules::of(incident.key.code);
    incident
        .key
        .stream
        .as_ref()
        .map_or_else(|| rule.title.to_owned(), |stream| format!("{stream}: {}", rule.title))
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
    let mut lines =
        format!("*What* {}\n*Since* {}", escape(&incident.summary), time(incident.detail.since));
    let _ = write!(lines, "\n*Data* {}", escape(rule.means));
    let _ = write!(lines, "\n*tidemark* {}", escape(&incident.detail.doing));
    if let Some(progress) = &incident.detail.progress {
        let _ = write!(lines, "\n{}", filling(progress, now));
    }
    let you = incident
        .detail
        .action
        .as_deref()
        .unwrap_or("Nothing to do: this ends by itself, and will say so here.");
    let _ = write!(lines, "\n*You* {}", escape(you));
    if let Some(ack) = incident.acked(now) {
        let form = Form::Markup;
        let _ = write!(lines, "\n*On it* {} until {}", form.who(ack), form.until(ack));
    }
    lines
}

fn resolved_lines(incident: &Incident) -> String {
    format!("*What* {}\n*Ended* {}", escape(&incident.summary), ending(incident, Form::Markup))
}

/// How long it lasted, and what its repair wrote.
///
/// Which of it was missed cannot be told: a document says nothing of when it changed.
fn ending(incident: &Incident, form: Form) -> String {
    let until = incident.resolved_at.unwrap_or(incident.detail.changed_at);
    let lasted = length(until - incident.detail.since.min(incident.opened_at));
    let mut text = format!("It lasted {lasted}, until {}.", form.time(until));
    if let Some(gap) = &incident.detail.gap {
        let _ = write!(text, "\n{}", gap_report(gap, form));
    }
    text
}

fn gap_report(gap: &Gap, form: Form) -> String {
    let Gap { resync, rows_inserted, rows_changed, rows_deleted, .. } = gap;
    let at = |at: Option<DateTime<Utc>>| {
        at.map_or_else(|| "an unknown time".to_owned(), |at| form.time(at))
    };
    format!(
        "Blind between {} and {}. Resync {resync} wrote what the table lacked: {} rows inserted, \
         {} changed, {} deleted; changes made while it walked may be among them. Samples: \
         `tidemark resync list`.",
        at(gap.blind_from),
        at(gap.blind_until),
        thousands(rows_inserted.unsigned_abs()),
        thousands(rows_changed.unsigned_abs()),
        thousands(rows_deleted.unsigned_abs()),
    )
}

/// `▓▓░░ 42 % · 21,000 of 50,000 documents · 310 rows written · 3 min left`
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
    let times = if incident.count == 1 {
        String::new()
    } else {
        format!(" · met {} times", thousands(incident.count))
    };
    let text = format!(
        "incident {} · {} · {} · {} · `{}`{times}",
        number(incident),
        incident.state_name(now),
        escape(&name(&voice.environment)),
        escape(&name(&voice.service)),
        incident.key.code,
    );
    json!({ "type": "context", "elements": [mrkdwn(&cut_markup(&text, CONTEXT_MAX))] })
}

fn number(incident: &Incident) -> String {
    incident.id.map_or_else(|| format!("({})", incident.tag.simple()), |id| id.to_string())
}

/// What a machine can tell a message by.
fn metadata(incident: &Incident, transition: u32) -> Value {
    json!({
        "event_type": "tidemark_incident",
        "event_payload": {
            "incident": incident.tag,
            "transition": transition,
            "code": incident.key.code.name(),
        },
    })
}

/// The same for the same message sent twice, so that the receiver may tell.
pub fn message_id(incident: &Incident, transition: u32) -> Uuid {
    Uuid::new_v5(&incident.tag, &transition.to_be_bytes())
}

pub(super) fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(&cut_markup(text, SECTION_MAX)) })
}

/// `verbatim`: addresses, names and mentions in the text stay text.
fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// In the reader's own time zone, with UTC where that cannot be shown.
fn time(at: DateTime<Utc>) -> String {
    let stamp = at.timestamp();
    format!("<!date^{stamp}^{{date_short_pretty}} {{time}}|{}>", at.format("%Y-%m-%d %H:%M UTC"))
}

/// What others wrote, with Slack's three special characters escaped.
pub(super) fn escape(text: &str) -> String {
    shown(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A name among words of ours: nothing in it sets off code, emphasis or the parts of a link.
pub(super) fn name(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '`' | '*' | '_' | '~' | '|') { ' ' } else { c }).collect()
}

fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(characters - 1).collect();
    short.push('…');
    short
}

/// The same, and no escape or date is cut in two.
fn cut_markup(text: &str, characters: usize) -> String {
    let mut short = cut(text, characters);
    if short.len() < text.len() {
        for (begin, end) in [('&', ';'), ('<', '>')] {
            if let Some(at) = short.rfind(begin).filter(|at| !short[*at..].contains(end)) {
                short.truncate(at);
                short.push('…');
            }
        }
    }
    short
}
