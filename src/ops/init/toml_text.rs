//! The proposal as a commented configuration. Holds no secret, and nothing that a document holds.

use std::fmt::Write;

use super::proposal::{ChildProposal, ColumnProposal, StreamProposal};
use crate::model::format::{percent, thousands};
use crate::model::shown::{is_obeyed, shown};
use crate::settings::Settings;

/// What editors complete a configuration by, beside it.
pub const SCHEMA_FILE: &str = "tidemark.schema.json";

/// The whole of a new configuration that follows `database`. `aside` says of each collection that
/// is not followed why.
pub fn whole(
    settings: &Settings,
    database: &str,
    streams: &[StreamProposal],
    aside: &[(String, String)],
) -> String {
    let is_alone = streams.iter().any(|stream| !stream.doc);
    let mut out = head(settings, database, is_alone);
    for stream in streams {
        out.push_str(&block(stream));
    }
    if !aside.is_empty() {
        out.push_str("\n# Not followed:\n");
        for (name, why) in aside {
            let _ = writeln!(out, "#   {}: {why}", shown(name));
        }
    }
    out
}

fn head(settings: &Settings, database: &str, is_alone: bool) -> String {
    let source = &settings.source;
    let rest = if is_alone {
        "With doc = false, what has no column is lost."
    } else {
        "Whatever has no column is in the column doc."
    };
    let insecure = |insecure: bool| if insecure { "insecure = true\n" } else { "" };
    format!(
        "#:schema ./{SCHEMA_FILE}\n\
         # Proposed by `tidemark init` from a sample of each collection. Correct names and types \
         now: later on\n# tidemark only adds columns. `tidemark check` proves it, `tidemark run` \
         follows. Every key there is, with its\n# meaning: config/default.toml. A ! is something \
         to look at. {rest}\n\nenvironment = {}\n\n\
         [source]\n# uri is a secret: set TIDEMARK__SOURCE__URI, or TIDEMARK__SOURCE__URI_FILE to \
         a file that holds it\ndatabase = {}\n{}\n[target]\n# url is a secret: set \
         TIDEMARK__TARGET__URL, or TIDEMARK__TARGET__URL_FILE\nschema = {}\n{}",
        text(&settings.environment),
        text(database),
        insecure(source.insecure),
        text(&settings.target.schema),
        insecure(settings.target.insecure),
    )
}

/// One stream.
pub fn block(stream: &StreamProposal) -> String {
    let (documents, bytes) = (thousands(stream.documents), size(stream.bytes));
    let mut out = format!(
        "\n[[stream]]  # about {documents} documents, {bytes}; {} looked at\n",
        thousands(stream.sampled)
    );
    push_notes(&mut out, &stream.notes);
    let named = [("name", &stream.name), ("collection", &stream.collection)];
    for (key, value) in named.into_iter().chain([("table", &stream.table)]) {
        let _ = writeln!(out, "{key} = {}", text(value));
    }
    if !stream.doc {
        out.push_str("doc = false\n");
    }
    push_columns(&mut out, &stream.columns, stream.sampled);
    for child in &stream.children {
        push_child(&mut out, child, stream.sampled);
    }
    out
}

/// The table of an array's elements.
fn push_child(out: &mut String, child: &ChildProposal, sampled: u64) {
    let present = percent_of(child.present, sampled);
    let elements = thousands(child.elements);
    let _ = writeln!(out, "\n[[stream.child]]  # {present}; {elements} elements looked at");
    push_notes(out, &child.notes);
    let _ = writeln!(out, "table = {}\nfield = {}", text(&child.table), text(&child.field));
    push_columns(out, &child.columns, child.documents);
}

fn push_notes(out: &mut String, notes: &[String]) {
    for note in notes {
        let _ = writeln!(out, "# {note}");
    }
}

/// Columns, each with in how many of the `rows` it has a value.
fn push_columns(out: &mut String, columns: &[ColumnProposal], rows: u64) {
    if columns.is_empty() {
        return;
    }
    out.push_str("column = [\n");
    let lines: Vec<String> = columns.iter().map(column).collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default().min(96);
    for (line, column) in lines.iter().zip(columns) {
        let present = percent_of(column.present, rows);
        let told: Vec<&str> =
            std::iter::once(&*present).chain(column.notes.iter().map(String::as_str)).collect();
        let _ = writeln!(out, "{line:<width$}  # {}", told.join("; "));
    }
    out.push_str("]\n");
}

fn percent_of(part: u64, whole: u64) -> String {
    format!("in {}", percent(part, whole))
}

fn column(column: &ColumnProposal) -> String {
    let required = if column.required { ", required = true" } else { "" };
    let zone = column.zone.map(|zone| format!(", zone = {}", text(zone))).unwrap_or_default();
    format!(
        "  {{ name = {}, field = {}, type = {}{zone}{required} }},",
        text(&column.name),
        text(&column.field),
        text(column.kind)
    )
}

/// A TOML basic string; what a terminal or an editor would obey is escaped.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_obeyed(c) => {
                let code = u32::from(c);
                let _ = if code > 0xffff {
                    write!(out, "\\U{code:08X}")
                } else {
                    write!(out, "\\u{code:04X}")
                };
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `512 B`, `3.4 MiB`.
pub fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} B"),
        |(shift, name)| {
            let tenths = (bytes * 10) >> shift;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        },
    )
}
