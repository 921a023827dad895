//! Reports as tables for people. Whatever is not of tidemark's own making passes [`shown`]: a test
//! holds it.

mod explanation;
mod part;

use std::fmt::Write;

use crate::alert::Ack;
use crate::model::format::{FOREVER, thousands};
use crate::model::shown::{shown, shown_whole};
use crate::ops::alert::Tried;
use crate::ops::check::Finding;
use crate::ops::checkpoint::Shown;
use crate::ops::command::Asked;
use crate::ops::compare::Compared;
use crate::ops::init::{Surveyed, size};
use crate::ops::purge::Forgotten;
use crate::ops::resync::{Listed, Preview};
use crate::ops::rewind::Rewind;
use crate::ops::source::{Adoption, Ends};
use crate::state::{Letter, Retired, Verb};
use crate::status::IncidentReport;

pub use explanation::explanation;
pub use part::{part, parts};

pub fn preview(preview: &Preview) -> String {
    let Preview { documents, rows, deletes_without_asking, .. } = preview;
    let rate = match preview.documents_per_second_max {
        0 => "as fast as both ends allow".to_owned(),
        limit => format!("at most {limit} documents a second"),
    };
    let mut out = format!(
        "resync of stream {}: {} → {}\n  reads        about {documents} documents, \
         {rate}\n  compares     with {rows} rows, writes what differs; \
         the table stays readable\n  deletes      rows the source does not have; \
         more than {deletes_without_asking} ask first\n  position     {}\n",
        shown(&preview.stream),
        shown(&preview.source),
        shown(&preview.table),
        shown(&preview.position),
    );
    if let Some(open) = &preview.open {
        let what = if preview.halted {
            "this one would take its place"
        } else {
            "this one would be refused"
        };
        let _ =
            writeln!(out, "  under way    resync {} is {}: {what}", open.id, shown(&open.state));
    }
    out
}

pub fn walks(listed: &[Listed]) -> String {
    let mut out = format!(
        "{:>5} {:<16} {:<20} {:<10} {:<20} {:>10} {:>9} {:>9} {:>9}  BLIND\n",
        "ID", "STREAM", "REASON", "STATE", "STARTED", "READ", "INSERTED", "CHANGED", "DELETED"
    );
    for Listed { walk, asked, approved, is_left, .. } in listed {
        let at = |at: Option<chrono::DateTime<chrono::Utc>>| {
            at.map_or_else(|| "-".to_owned(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
        };
        let blind = if walk.is_snapshot() {
            String::new()
        } else {
            format!("{} to {}", at(walk.blind_from), at(walk.blind_until))
        };
        let _ = writeln!(
            out,
            "{:>5} {:<16} {:<20} {:<10} {:<20} {:>10} {:>9} {:>9} {:>9}  {blind}",
            walk.id,
            shown(&walk.stream),
            shown(&walk.reason),
            if *is_left { "left".to_owned() } else { shown(&walk.state) },
            at(Some(walk.started_at)),
            walk.documents_read,
            walk.rows_inserted,
            walk.rows_changed,
            walk.rows_deleted,
        );
        for (what, command) in [("asked for", asked), ("approved", approved)] {
            if let Some(command) = command {
                let (by, reason) = (command.asked_by(), shown(&command.reason));
                let _ = writeln!(out, "{:>5} {what} by {}: {reason}", "", shown(&by));
            }
        }
        if let Some(note) = &walk.note {
            let _ = writeln!(out, "{:>5} {}", "", shown(note));
        }
        if *is_left {
            let told = "its stream is not configured any more; when it is again, its table is \
                        walked anew";
            let _ = writeln!(out, "{:>5} {told}", "");
        }
    }
    out
}

pub fn checkpoint(stored: &Shown) -> String {
    let none = || "none".to_owned();
    let time = stored.cluster_time.as_ref().map_or_else(none, |at| {
        format!("{}, increment {}", shown(at), stored.increment.unwrap_or_default())
    });
    format!(
        "stream       {}\nsource       {}\noptions      {}\ntoken        {}\n\
         cluster time {time}\nusable       {}\nepoch        {}\nrevision     {}\n\
         phase        {}{}\nupdated      {}\n",
        shown(&stored.stream),
        shown(&stored.source),
        shown(&stored.options),
        stored.token.as_deref().map_or_else(none, shown_whole),
        shown(&stored.usable),
        stored.epoch,
        stored.revision,
        shown(&stored.phase),
        stored.halt_code.as_ref().map_or_else(String::new, |code| format!(" ({})", shown(code))),
        stored.updated_at.format("%Y-%m-%dT%H:%M:%SZ"),
    )
}

pub fn retired(list: &[Retired]) -> String {
    let mut out = format!("{:>5} {:<20} {:<20} WHY\n", "ID", "CLUSTER TIME", "RETIRED");
    for retired in list {
        let time = retired.at().map_or_else(
            || "none".to_owned(),
            |at| at.at().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
        let at = retired.retired_at.format("%Y-%m-%dT%H:%M:%SZ");
        let _ = writeln!(out, "{:>5} {time:<20} {at:<20} {}", retired.id, shown(&retired.why));
    }
    out
}

pub fn rewind(rewind: &Rewind) -> String {
    format!(
        "rewind of stream {}: {}\n  to           {} ({})\n  back         {:.0} s; what follows is \
         applied again, which is harmless\n",
        shown(&rewind.stream),
        shown(&rewind.meant),
        shown(&rewind.cluster_time),
        shown(&rewind.token),
        rewind.back_seconds
    )
}

pub fn adoption(adoption: &Adoption) -> String {
    let ends = |ends: &Ends| {
        let told = |id: &Option<String>| id.as_deref().map_or_else(|| "not told".to_owned(), shown);
        format!(
            "{}, replica set {}, collection {}",
            shown(&ends.owner),
            told(&ends.cluster),
            told(&ends.collection)
        )
    };
    format!(
        "adoption of {} by stream {}, about {} documents\n  bound to     {}\n  here         {}\n  \
         the stored position is retired, and the table is repaired from this source by a resync\n",
        shown(&adoption.source),
        shown(&adoption.stream),
        adoption.documents,
        adoption.bound.as_ref().map_or_else(|| "nothing".to_owned(), ends),
        ends(&adoption.here),
    )
}

pub fn compared(compared: &Compared) -> String {
    let Compared { documents, rows, missing, extra, different, .. } = compared;
    let mut out = format!(
        "stream {}: {documents} documents compared with {rows} rows in {:.1} s\n  missing    \
         {missing}\n  extra      {}\n  different  {different}\n",
        shown(&compared.stream),
        compared.seconds,
        extra.map_or_else(|| "not looked for in a sample".to_owned(), |extra| extra.to_string()),
    );
    for (kind, ids) in [
        ("missing", &compared.missing_ids),
        ("extra", &compared.extra_ids),
        ("different", &compared.different_ids),
    ] {
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(|id| shown(id)).collect();
            let _ = writeln!(out, "  {kind}, for example: {}", ids.join(" "));
        }
    }
    if compared.undecided > 0 {
        let _ = writeln!(out, "  {} documents change too often to be told", compared.undecided);
    }
    if let Some(note) = &compared.note {
        let _ = writeln!(out, "  {}", shown(note));
    }
    out
}

pub fn incidents(list: &[IncidentReport]) -> String {
    let mut out = format!(
        "{:>5} {:<9} {:<9} {:<22} {:<16} {:<20} {:>6}  OWNER\n",
        "ID", "STATE", "SEVERITY", "CODE", "STREAM", "OPENED", "COUNT"
    );
    for incident in list {
        let IncidentReport { id, count, .. } = incident;
        let (state, severity, code) =
            (shown(&incident.state), incident.severity, shown(&incident.code));
        let stream = shown(incident.stream.as_deref().unwrap_or("-"));
        let opened = incident.opened_at.format("%Y-%m-%dT%H:%M:%SZ");
        let owner = shown(incident.acked_by.as_deref().unwrap_or("-"));
        let _ = writeln!(
            out,
            "{id:>5} {state:<9} {severity:<9} {code:<22} {stream:<16} {opened:<20} {count:>6}  \
             {owner}"
        );
        let _ = writeln!(out, "{:>5} {}", "", shown(&incident.summary));
        if let Some(action) = incident.action.as_ref().filter(|_| incident.resolved_at.is_none()) {
            let _ = writeln!(out, "{:>5} → {}", "", shown(action));
        }
    }
    out
}

pub fn letters(list: &[Letter]) -> String {
    let mut out = format!(
        "{:>6} {:<16} {:<10} {:<26} {:<20} {:<10} ERROR\n",
        "ID", "STREAM", "OPERATION", "DOCUMENT", "AT", "RESOLVED"
    );
    for Letter { id, stream, document_id, operation, error, at, resolution, .. } in list {
        let (stream, operation, error) = (shown(stream), shown(operation), shown(error));
        let document = shown(document_id.as_deref().unwrap_or("-"));
        let at = at.format("%Y-%m-%dT%H:%M:%SZ");
        let resolution = shown(resolution.as_deref().unwrap_or("-"));
        let _ = writeln!(
            out,
            "{id:>6} {stream:<16} {operation:<10} {document:<26} {at:<20} {resolution:<10} {error}"
        );
    }
    out
}

pub fn findings(findings: &[Finding]) -> String {
    let mut out = String::new();
    let width = findings
        .iter()
        .map(|finding| shown(&finding.what).chars().count())
        .max()
        .unwrap_or_default();
    for finding in findings {
        let mark = if finding.ok { "ok    " } else { "FAILED" };
        let _ =
            writeln!(out, "{mark} {:<width$}  {}", shown(&finding.what), shown(&finding.detail));
        if !finding.remedy.is_empty() {
            let _ = writeln!(out, "       {:<width$}  → {}", "", shown(&finding.remedy));
        }
    }
    out
}

/// What a database holds; what can be followed is numbered.
pub fn collections(list: &[Surveyed]) -> String {
    let mut out = format!("{:>4} {:<40} {:>14} {:>10}\n", "", "COLLECTION", "DOCUMENTS", "SIZE");
    let mut number = 0;
    for one in list {
        let told = |told: Option<String>| told.unwrap_or_else(|| "-".to_owned());
        let (name, documents) = (shown(&one.name), told(one.documents.map(thousands)));
        let (bytes, why) = (told(one.bytes.map(size)), one.obstacle.as_deref().map(shown));
        let place = if why.is_none() {
            number += 1;
            number.to_string()
        } else {
            String::new()
        };
        let why = why.map_or_else(String::new, |why| format!("  {why}"));
        let _ = writeln!(out, "{place:>4} {name:<40} {documents:>14} {bytes:>10}{why}");
    }
    out
}

pub fn tried(channels: &[Tried]) -> String {
    let mut out = String::new();
    for one in channels {
        let mark = if one.ok { "ok    " } else { "FAILED" };
        let _ = writeln!(out, "{mark} {:<14} {}", one.channel, shown(&one.detail));
    }
    if channels.is_empty() {
        out.push_str(
            "no channel is configured: name one under [alert]; `tidemark alert test` tries it\n",
        );
    }
    out
}

pub fn forgettable(over: &[Forgotten]) -> String {
    let mut out = format!("{:<20} {:>9}\n", "TABLE", "OVER");
    for Forgotten { table, rows } in over {
        let _ = writeln!(out, "{table:<20} {rows:>9}");
    }
    out
}

pub fn asked(asked: &Asked) -> String {
    let command = asked.command;
    match (&asked.outcome, &asked.result) {
        // Each process has said its own.
        (Some(_), Some(result)) if asked.is_of_all() => {
            let lines: Vec<String> =
                result.lines().map(|line| format!("  {}\n", shown(line))).collect();
            format!("command {command}:\n{}", lines.concat())
        }
        (Some(_), Some(result)) => format!("command {command}: {}\n", shown(result)),
        (None, Some(told)) if asked.verb == Verb::ResyncPart => {
            let on_the_way = "`tidemark resync list --parts` shows how far it is";
            format!("command {command} goes on: {}; {on_the_way}\n", shown(told))
        }
        (_, Some(why)) => {
            format!("command {command} is not obeyed yet, and is tried again: {}\n", shown(why))
        }
        (_, None) if asked.stream.is_empty() => {
            format!("command {command} is recorded; it is obeyed as soon as a daemon runs\n")
        }
        (_, None) => {
            let stream = shown(&asked.stream);
            format!(
                "command {command} is recorded; it is obeyed as soon as a daemon leads stream \
                 {stream}\n"
            )
        }
    }
}

pub fn acked(incident: i64, ack: &Ack) -> String {
    let until = ack.until.format("%Y-%m-%d %H:%M:%S UTC").to_string();
    let until = if ack.until >= FOREVER { "it is over" } else { &until };
    format!("incident {incident}: {} is on it until {until}\n", shown(&ack.by))
}

/// Names and values, one a line; what is nested, indented.
pub fn fields(value: &serde_json::Value) -> String {
    let mut out = String::new();
    write_fields(&mut out, value, 0);
    out
}

fn write_fields(out: &mut String, value: &serde_json::Value, depth: usize) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let name = format!("{:depth$}{}", "", shown_whole(name));
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Object(_) => {
                let _ = writeln!(out, "{name}");
                write_fields(out, value, depth + 2);
            }
            serde_json::Value::String(text) => {
                let _ = writeln!(out, "{name:<20} {}", shown_whole(text));
            }
            other => {
                let _ = writeln!(out, "{name:<20} {}", shown_whole(&other.to_string()));
            }
        }
    }
}
