//! What a changed configuration comes to for a table that is there, said before it does: what is
//! walked, and what is a person's to alter, in SQL.

use crate::apply::{LiveTable, Mapping, Wanted};
use crate::model::format::thousands;
use crate::model::mapping_digest::{MappingChange, MappingDigest};
use crate::model::namespace::{Table, quote};
use crate::settings::{Column, Settings, StreamSettings};
use crate::source::Source;
use crate::state::{StateTables, StreamRow};

/// One thing that is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingNote {
    pub said: String,
    /// What to do about it, if anything.
    pub remedy: String,
}

impl MappingNote {
    /// On one line.
    pub fn line(self) -> String {
        if self.remedy.is_empty() {
            self.said
        } else {
            format!("{} → {}", self.said, self.remedy)
        }
    }
}

/// What is changed of one stream. Nothing, where it was not followed before or that cannot be told.
pub async fn mapping_notes(
    settings: &Settings,
    state: &StateTables,
    stream: &StreamSettings,
    live: &LiveTable,
) -> Vec<MappingNote> {
    let table = settings.table_of(stream);
    let row = state.stream_row(&stream.name).await.ok().flatten();
    let before = row.as_ref().and_then(StreamRow::mapping);
    let change = before.map(|before| changed(settings, stream, &before)).unwrap_or_default();
    let mut notes = Vec::new();
    if let Some(why) = change.why() {
        let documents = match estimate(settings, stream).await {
            Some(number) => format!("about {} documents", thousands(number)),
            None => "its collection".to_owned(),
        };
        let walked = format!("stream {} will be walked ({documents})", stream.name);
        notes.push(MappingNote { said: format!("{why}: {walked}"), remedy: String::new() });
    }
    notes.extend(of_columns(&change, &table, live, &stream.columns));
    notes.extend(change.children_removed.iter().map(|name| of_left_child(&table.beside(name))));
    notes
}

fn changed(settings: &Settings, stream: &StreamSettings, before: &MappingDigest) -> MappingChange {
    Mapping::new(stream, settings.row).digest().since(before)
}

async fn estimate(settings: &Settings, stream: &StreamSettings) -> Option<u64> {
    let source = Source::new(settings).await.ok()?.of_database(settings.database_of(stream));
    source.estimate(&stream.collection).await.ok()
}

/// The table of an array that is not configured any more.
fn of_left_child(table: &Table) -> MappingNote {
    MappingNote {
        said: format!("child table {table} is not configured any more: it keeps the rows it has"),
        remedy: format!("if nobody reads it: `drop table {};`", table.sql()),
    }
}

/// What of the columns of an array's table is a person's to alter.
pub fn notes_of_child(live: &LiveTable, wanted: &Wanted<'_>) -> Vec<MappingNote> {
    if wanted.child().is_none() {
        return Vec::new();
    }
    let strays = live.strays(wanted.columns()).filter(|name| !wanted.is_fixed(name));
    strays.map(|name| of_stray(&wanted.table, name)).collect()
}

fn of_stray(table: &Table, name: &str) -> MappingNote {
    let (sql, column) = (table.sql(), quote(name));
    MappingNote {
        said: format!(
            "column {name} of table {table} is not configured: it keeps the values it has"
        ),
        remedy: format!("if nobody reads it: `alter table {sql} drop column {column};`"),
    }
}

/// What of the table's columns is a person's to alter.
fn of_columns(
    change: &MappingChange,
    table: &Table,
    live: &LiveTable,
    columns: &[Column],
) -> Vec<MappingNote> {
    let sql = table.sql();
    let is_to_rename = |(old, new): &&(String, String)| live.has(old) && !live.has(new);
    let renamed: Vec<_> = change.renamed.iter().filter(is_to_rename).collect();
    let mut notes: Vec<MappingNote> = renamed
        .iter()
        .map(|(old, new)| MappingNote {
            said: format!("column {new} reads what column {old} of table {table} did"),
            remedy: format!(
                "to call it otherwise, before `run` or `migrate` adds another: `alter table {sql} \
                 rename column {} to {};`",
                quote(old),
                quote(new)
            ),
        })
        .collect();
    let strays = live.strays(columns).filter(|name| !renamed.iter().any(|(old, _)| old == name));
    notes.extend(strays.map(|name| of_stray(table, name)));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Kind;
    use crate::model::value::ColumnType;

    #[test]
    fn what_is_a_persons_to_alter_is_said_in_sql() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let column = |name: &str| Column {
            name: name.into(),
            paths: vec![],
            kind: ColumnType::Text,
            required: false,
            mask: None,
            zone: None,
        };
        let live = |names: &[&str]| LiveTable {
            schema_exists: true,
            kind: Some(Kind::Table),
            columns: names.iter().map(|name| ((*name).to_owned(), "text".to_owned())).collect(),
            needs_doc: false,
        };
        let renamed = vec![("old".to_owned(), "n\"ew".to_owned())];
        let change = MappingChange { renamed, ..MappingChange::default() };
        let told = |live: &LiveTable, names: &[&str]| -> Vec<String> {
            let columns: Vec<Column> = names.iter().map(|name| column(name)).collect();
            let notes = of_columns(&change, &table, live, &columns);
            notes.into_iter().map(|note| format!("{} | {}", note.said, note.remedy)).collect()
        };
        let there = live(&["id", "doc", "_hash", "old", "other"]);
        assert_eq!(
            told(&there, &["n\"ew"]),
            [
                "column n\"ew reads what column old of table public.t did | to call it otherwise, \
                 before `run` or `migrate` adds another: `alter table \"public\".\"t\" rename \
                 column \"old\" to \"n\"\"ew\";`",
                "column other of table public.t is not configured: it keeps the values it has | \
                 if nobody reads it: `alter table \"public\".\"t\" drop column \"other\";`",
            ]
        );
        let both = live(&["id", "old", "n\"ew"]);
        assert_eq!(told(&both, &["n\"ew"]).len(), 1, "another was added: the old one is left over");
        assert_eq!(told(&live(&["id", "a"]), &["a"]), [""; 0]);
    }
}
