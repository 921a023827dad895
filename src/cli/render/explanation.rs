//! What is printed of a document and its row.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use crate::model::fitting::Fitting;
use crate::model::format::thousands;
use crate::model::shown::{shown, shown_whole};
use crate::ops::explain::{ChildRows, ColumnExplained, Explanation};

/// A document, its row, and each column with why it is what it is.
pub fn explanation(explained: &Explanation) -> String {
    let mut out = format!(
        "{} of stream {}: {} → {}\n",
        shown(&explained.id),
        shown(&explained.stream),
        shown(&explained.source),
        shown(&explained.table),
    );
    let _ = writeln!(out, "  document     {}", document(explained));
    let _ = writeln!(out, "  row          {}", row(explained));
    if let Some(doc) = explained.row.as_ref().and_then(|row| row.doc.as_ref()) {
        let _ = writeln!(out, "  doc          {}", shown_whole(doc));
    }
    let position = explained.position.map_or_else(|| "none".to_owned(), second);
    let _ = writeln!(out, "  position     {position}, of group {}", shown(&explained.group));
    let (standing, told) = (explained.standing, shown(&explained.told));
    let _ = writeln!(out, "  stands       {standing}: {told}");
    for letter in &explained.letters {
        let (at, error) = (second(letter.at), shown(&letter.error));
        let _ = writeln!(out, "  dead letter  {} of {at}: {error}", letter.id);
    }
    if let Some(walk) = &explained.walk {
        let (reason, state) = (shown(&walk.reason), shown(&walk.state));
        let _ = writeln!(out, "  walk         {} ({reason}) is {state}", walk.id);
    }
    if let Some(why) = &explained.parked {
        let _ = writeln!(out, "  parked       {}", shown(why));
    }
    if let Some(how) = &explained.paused {
        let _ = writeln!(out, "  paused       {}", shown(how));
    }
    if let Some(kept) = &explained.history {
        let at = |at: Option<DateTime<Utc>>| at.map_or_else(|| "-".to_owned(), second);
        let _ = writeln!(
            out,
            "  history      {} versions in {}, from {} to {}",
            kept.versions,
            shown(&kept.table),
            at(kept.first_at),
            at(kept.last_at),
        );
    }
    for ChildRows { table, field, rows, elements, is_same } in &explained.children {
        let same = if *is_same { "the same" } else { "not the same" };
        let (table, field) = (shown(table), shown(field));
        let _ = writeln!(
            out,
            "  child        {table} holds {rows}, {field} of the document {elements}: {same}"
        );
    }
    columns(&mut out, &explained.columns);
    out
}

fn second(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn document(explained: &Explanation) -> String {
    let Some(document) = &explained.document else {
        return "the source has none".to_owned();
    };
    let size = thousands(crate::model::count(document.bytes));
    let (fields, at) = (document.fields, second(document.read_at));
    let why = document
        .unwritable
        .as_deref()
        .map_or_else(String::new, |why| format!("; no row can be made of it: {}", shown(why)));
    format!("{size} bytes, {fields} fields, read at {at}{why}")
}

fn row(explained: &Explanation) -> String {
    let Some(row) = &explained.row else { return "the table has none".to_owned() };
    let changed = row.changed_at.map_or_else(|| "at no known time".to_owned(), second);
    let time = row.cluster_time.as_deref().map_or_else(String::new, |time| format!(" ({time})"));
    let applied = row.applied_at.map_or_else(|| "-".to_owned(), second);
    let yes = |is: Option<bool>, yes: &'static str, no: &'static str| match is {
        Some(true) => yes,
        Some(false) => no,
        None => "not compared",
    };
    format!(
        "changed {changed}{}, applied {applied}; doc {}; _hash {}",
        shown(&time),
        yes(row.doc_is_same, "is the document", "is another"),
        yes(row.hash_fits, "fits", "does not fit"),
    )
}

fn columns(out: &mut String, columns: &[ColumnExplained]) {
    if columns.is_empty() {
        return;
    }
    let names = columns.iter().map(|column| shown(&column.name).chars().count());
    let fields = columns.iter().map(|column| shown(taken(column)).chars().count());
    let width = names.max().unwrap_or_default().max(6);
    let wide = fields.max().unwrap_or_default().max(5);
    let _ = writeln!(
        out,
        "\n{:<width$} {:<24} {:<wide$} {:<20} {:<6} WHY",
        "COLUMN", "TYPE", "FIELD", "DOCUMENT", "ROW"
    );
    for column in columns {
        let found = match (column.found, column.bytes) {
            (Some(found), Some(bytes)) => format!("{found}, {bytes} B"),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            out,
            "{:<width$} {:<24} {:<wide$} {found:<20} {:<6} {}",
            shown(&column.name),
            column.kind,
            shown(taken(column)),
            held(column),
            why(column) + &made_of_it(column),
        );
        for (what, value) in [("document", &column.value), ("row", &column.row_value)] {
            if let Some(value) = value {
                let _ = writeln!(out, "{:<width$}   {what}: {}", "", shown_whole(value));
            }
        }
    }
}

fn taken(column: &ColumnExplained) -> &str {
    column.field.as_deref().unwrap_or("-")
}

/// How the row's column stands to the document's field.
const fn held(column: &ColumnExplained) -> &'static str {
    match (column.is_same, column.is_null) {
        (Some(false), _) => "other",
        (_, Some(true)) => "NULL",
        (Some(true), _) => "same",
        (None, Some(false)) => "value",
        (None, None) => "-",
    }
}

/// What is made of the value before it is stored.
fn made_of_it(column: &ColumnExplained) -> String {
    let mask = column.mask.as_ref().map(|mask| format!("; masked: {}", shown(mask)));
    let zone = column.zone.map(|zone| format!("; the day in {zone}"));
    mask.into_iter().chain(zone).collect()
}

fn why(column: &ColumnExplained) -> String {
    let fields = shown(&column.fields.join(", "));
    let alias = column.field.as_ref().filter(|field| column.fields.first() != Some(field));
    match column.fitting {
        None => format!("reads {fields}"),
        Some(Fitting::Fits) => match alias {
            Some(alias) => format!("from the alias {}", shown(alias)),
            None => "the field's value".to_owned(),
        },
        Some(Fitting::Null) => "the field is null".to_owned(),
        Some(Fitting::Missing) if column.required => {
            format!("required, and the document has none of {fields}: drift")
        }
        Some(Fitting::Missing) => format!("the document has none of {fields}"),
        Some(Fitting::Type) => {
            let found = column.found.unwrap_or("value");
            format!("{} does not take a {found}: NULL, drift", column.kind)
        }
        Some(Fitting::Range) => format!("out of the range of {}: NULL, drift", column.kind),
        Some(Fitting::TooLarge) => "no row holds so much: set aside".to_owned(),
    }
}
