//! Views for readers, as SQL made of the configuration alone: one a table, its columns commented
//! with the fields they read, and of which time they are. Pure; asks nobody.

use std::fmt::Write;

use crate::model::namespace::{Table, quote};
use crate::settings::{Child, Column, Settings, StreamSettings};

/// What a view says beside the configured columns: its name, what it is made of, and what it means.
/// They come first, so that a column that is configured later is added at the end, which is the
/// only place where `create or replace view` takes one.
const OWN: [(&str, &str, &str); 4] = [
    (
        "_changed_at",
        "to_timestamp(t._cluster_time >> 32)",
        "when the document was last changed, on the source's clock",
    ),
    ("_applied_at", "t._applied_at", "when that was written here"),
    (
        "_shown_at",
        "p.wall_time",
        "the time at the source that the table shows, of all rows; null before the first",
    ),
    (
        "_exact",
        "coalesce(p.exact, false)",
        "whether the table is exactly the source at that time: not while it is walked, parked or \
         behind",
    ),
];

/// `create or replace view` for every stream, with comments; to be run by who owns the schema.
pub fn views(settings: &Settings) -> String {
    let mut out = String::from(
        "-- Made by `tidemark views`; run it as the owner of the tables, and again after the\n\
         -- configuration has changed. A column that was taken out, renamed or retyped is not\n\
         -- replaced: drop the view first.\n",
    );
    for stream in &settings.streams {
        view(&mut out, settings, stream);
        for child in &stream.children {
            child_view(&mut out, settings, stream, child);
        }
    }
    out
}

fn view(out: &mut String, settings: &Settings, stream: &StreamSettings) {
    let table = settings.table_of(stream);
    let name = Table { schema: table.schema.clone(), name: format!("{}_view", table.name) }.sql();
    let is_free = |own: &str| stream.columns.iter().all(|column| column.name != own);
    let own: Vec<_> = OWN.into_iter().filter(|(own, ..)| is_free(own)).collect();
    let mut columns = vec!["    t.id".to_owned()];
    columns.extend(own.iter().map(|(own, made_of, _)| format!("    {made_of} as {}", quote(own))));
    columns.extend(stream.columns.iter().map(|column| format!("    t.{}", quote(&column.name))));
    let _ = write!(
        out,
        "\ncreate or replace view {name} as\nselect\n{}\nfrom {} as t\nleft join {}.position as p \
         on p.stream = {}{};\n",
        columns.join(",\n"),
        table.sql(),
        quote(&settings.target.state_schema),
        literal(&stream.name),
        if stream.keeping.marks_deletes() { "\nwhere t._deleted_at is null" } else { "" },
    );
    let source = settings.namespace_of(stream);
    let of = format!("{source}, followed by tidemark as stream {}", stream.name);
    let _ = writeln!(out, "comment on view {name} is {};", literal(&of));
    comment(out, &name, "id", "the document's _id, as text");
    for (own, _, means) in own {
        comment(out, &name, own, means);
    }
    for column in &stream.columns {
        comment(out, &name, &column.name, &about(column));
    }
}

/// The elements of documents that there are.
fn child_view(out: &mut String, settings: &Settings, stream: &StreamSettings, child: &Child) {
    let followed = settings.table_of(stream);
    let table = followed.beside(&child.table);
    let name = followed.beside(&format!("{}_view", child.table)).sql();
    let own = [("parent_id", "the document's _id, as text"), ("position", "from 0 on")];
    let mut columns: Vec<String> = own.iter().map(|(own, _)| format!("    k.{own}")).collect();
    columns.extend(child.columns.iter().map(|column| format!("    k.{}", quote(&column.name))));
    let _ = write!(
        out,
        "\ncreate or replace view {name} as\nselect\n{}\nfrom {} as k\njoin {} as t on t.id = \
         k.parent_id{};\n",
        columns.join(",\n"),
        table.sql(),
        followed.sql(),
        if stream.keeping.marks_deletes() { "\nwhere t._deleted_at is null" } else { "" },
    );
    let source = settings.namespace_of(stream);
    let of = format!("elements of {} in {source}, stream {}", child.field(), stream.name);
    let _ = writeln!(out, "comment on view {name} is {};", literal(&of));
    for (own, means) in own {
        comment(out, &name, own, means);
    }
    for column in &child.columns {
        comment(out, &name, &column.name, &about(column));
    }
}

/// What a column reads: `field doctorLastName, else lastName; text; required`.
fn about(column: &Column) -> String {
    let fields = column.fields().join(", else ");
    let required = if column.required { "; required" } else { "" };
    format!("field {fields}; {}{required}", column.kind.sql())
}

fn comment(out: &mut String, view: &str, column: &str, text: &str) {
    let (column, text) = (quote(column), literal(text));
    let _ = writeln!(out, "comment on column {view}.{column} is {text};");
}

/// A text, quoted for SQL whatever it holds and however the session reads backslashes.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Origin;

    #[test]
    fn the_defaults_make_a_view_a_stream_with_each_columns_field() {
        let settings = Settings::load(&Origin::default()).unwrap();
        let sql = views(&settings);
        for part in [
            "create or replace view \"public\".\"doctor_view\" as\nselect\n    t.id,\n",
            "    t.\"last_name\",\n",
            "\nleft join \"tidemark\".position as p on p.stream = 'recommendation';\n",
            "comment on column \"public\".\"doctor_view\".\"last_name\" is 'field doctorLastName; \
             text';\n",
        ] {
            assert!(sql.contains(part), "{part} is not in\n{sql}");
        }
        assert!(!sql.contains("t.doc"), "the whole document is in the table");
    }

    #[test]
    fn texts_of_any_kind_stay_one_literal() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
    }
}
