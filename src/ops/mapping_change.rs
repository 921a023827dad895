//! What a changed configuration comes to for a table that is there, said before it does: what is
//! walked, and what is a person's to alter, in SQL.

use sqlx::postgres::PgConnection;

use super::dependent_views::DependentViews;
use crate::apply::{LiveTable, Mapping, Wanted, left_versions, read_live};
use crate::model::format::thousands;
use crate::model::mapping_digest::{MappingChange, MappingDigest};
use crate::model::namespace::{Table, quote};
use crate::postgres::Target;
use crate::settings::{Keeping, Settings, StreamSettings};
use crate::source::Source;
use crate::state::{StateTables, StreamRow, of_another_database};

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

/// What is changed of one stream, and what is a person's to alter of its tables. Nothing of what
/// cannot be told.
pub async fn mapping_notes(
    connection: &mut PgConnection,
    target: &Target,
    settings: &Settings,
    state: &StateTables,
    stream: &StreamSettings,
) -> Vec<MappingNote> {
    let table = settings.table_of(stream);
    let row = state.stream_row(&stream.name).await.ok().flatten();
    let before = row.as_ref().and_then(StreamRow::mapping);
    let change = before.map(|before| changed(settings, stream, &before)).unwrap_or_default();
    let mut notes = Vec::new();
    let database = settings.database_of(stream);
    let of_database = row.as_ref().and_then(|row| other_database(row, database));
    let is_of_database = of_database.is_some();
    let other = row.as_ref().and_then(|row| other_collection(row, stream));
    if let Some(why) = of_database.or(other).or_else(|| change.why()) {
        let documents = match estimate(settings, stream).await {
            Some(number) => format!("about {} documents", thousands(number)),
            None => "its collection".to_owned(),
        };
        let walked = format!("stream {} will be walked ({documents})", stream.name);
        let remedy = if is_of_database {
            "what the new one lacks is deleted, within resync.delete_*, and it is told as \
             history_lost; if that is a slip, set the database back"
                .to_owned()
        } else if change.selects_otherwise && stream.filter.is_some() {
            let resync = &settings.resync;
            format!(
                "rows of documents that are followed no more are deleted at its end; if they are \
                 more than {} % of the table, and {} or more, that waits for `tidemark resync \
                 approve ID`, as does a filter that lets none through",
                resync.delete_fraction_max * 100.0,
                resync.delete_count_min
            )
        } else {
            String::new()
        };
        notes.push(MappingNote { said: format!("{why}: {walked}"), remedy });
    }
    for wanted in Wanted::all(&table, stream.rows()) {
        let live = read_live(connection, target, &wanted.table).await.unwrap_or_default();
        let views = DependentViews::of(connection, target, &wanted.table).await;
        notes.extend(of_columns(&change, &live, &wanted, &views));
    }
    notes.extend(note_of_versions(connection, target, &table, stream.keeping).await);
    notes.extend(change.children_removed.iter().map(|name| of_left_child(&table.beside(name))));
    notes
}

/// Its rows are of another database than its group follows by now.
fn other_database(row: &StreamRow, now: &str) -> Option<String> {
    let before = row.database.as_deref().filter(|before| *before != now)?;
    row.binding().is_some().then(|| of_another_database(before, now))
}

fn other_collection(row: &StreamRow, stream: &StreamSettings) -> Option<String> {
    let (before, now) = (row.collection.as_ref()?, &stream.collection);
    let is_so = row.binding().is_some() && before != now;
    is_so.then(|| format!("collection {now} is followed now, its rows are of {before}"))
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

/// Versions of the rows that are not kept any more.
async fn note_of_versions(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    keeping: Keeping,
) -> Option<MappingNote> {
    let (left, drops) = left_versions(connection, target, table, keeping).await.ok().flatten()?;
    Some(MappingNote {
        said: format!(
            "versions of {table} are not kept any more: {left} stays, and tells nothing of changes \
             since, nor that a document was deleted"
        ),
        remedy: format!("if nobody reads it: `{drops}`; or set history = true again"),
    })
}

fn of_stray(table: &Table, name: &str, views: &DependentViews) -> MappingNote {
    MappingNote {
        said: format!(
            "column {name} of table {table} is not configured: it keeps the values it has"
        ),
        remedy: format!("if nobody reads it: `{}`", views.drop_columns(table, &[name])),
    }
}

/// What of a table's columns is a person's to alter. Versions of before keep columns that are not
/// configured any more.
fn of_columns(
    change: &MappingChange,
    live: &LiveTable,
    wanted: &Wanted<'_>,
    views: &DependentViews,
) -> Vec<MappingNote> {
    let (table, sql) = (&wanted.table, wanted.table.sql());
    let renamed = match wanted.child() {
        Some(child) => change.child_renamed.get(child).map(Vec::as_slice).unwrap_or_default(),
        None => change.renamed.as_slice(),
    };
    let is_to_rename = |(old, new): &&(String, String)| live.has(old) && !live.has(new);
    let renamed: Vec<_> = renamed.iter().filter(is_to_rename).collect();
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
    if wanted.is_of_versions() {
        return notes;
    }
    let is_left =
        |name: &&str| !wanted.is_fixed(name) && !renamed.iter().any(|(old, _)| old == name);
    let strays = live.strays(wanted.columns()).filter(is_left);
    notes.extend(strays.map(|name| of_stray(table, name, views)));
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Kind;
    use crate::model::value::ColumnType;
    use crate::settings::{Child, Column, RowSpec};

    fn column(name: &str) -> Column {
        Column {
            name: name.into(),
            paths: vec![],
            kind: ColumnType::Text,
            required: false,
            mask: None,
            zone: None,
        }
    }

    fn live(names: &[&str]) -> LiveTable {
        LiveTable {
            schema_exists: true,
            kind: Some(Kind::Table),
            columns: names.iter().map(|name| ((*name).to_owned(), "text".to_owned())).collect(),
            needs_doc: false,
        }
    }

    /// What is said of a followed table, of that of its versions, and of that of its arrays.
    fn told(there: [&[&str]; 3], names: &[&str]) -> Vec<String> {
        let table = Table { schema: "public".into(), name: "t".into() };
        let columns: Vec<Column> = names.iter().map(|name| column(name)).collect();
        let children = [Child { table: "k".into(), path: vec![], columns: columns.clone() }];
        let keeping = Keeping { history: true, ..Keeping::default() };
        let rows = RowSpec { children: &children, ..RowSpec::of(&columns, keeping) };
        let renamed = vec![("old".to_owned(), "n\"ew".to_owned())];
        let child_renamed = [("k".to_owned(), renamed.clone())].into();
        let change = MappingChange { renamed, child_renamed, ..MappingChange::default() };
        let notes = Wanted::all(&table, rows).zip(there).flat_map(|(wanted, names)| {
            of_columns(&change, &live(names), &wanted, &DependentViews::default())
        });
        notes.map(|note| format!("{} | {}", note.said, note.remedy)).collect()
    }

    #[test]
    fn what_is_a_persons_to_alter_is_said_in_sql() {
        assert_eq!(
            told([&["id", "doc", "_hash", "old", "other"], &[], &[]], &["n\"ew"]),
            [
                "column n\"ew reads what column old of table public.t did | to call it otherwise, \
                 before `run` or `migrate` adds another: `alter table \"public\".\"t\" rename \
                 column \"old\" to \"n\"\"ew\";`",
                "column other of table public.t is not configured: it keeps the values it has | \
                 if nobody reads it: `alter table \"public\".\"t\" drop column \"other\";`",
            ]
        );
        let both = told([&["id", "old", "n\"ew"], &[], &[]], &["n\"ew"]);
        assert_eq!(both.len(), 1, "another was added: the old one is left over");
        assert_eq!(told([&["id", "a"], &["id", "a"], &["position", "a"]], &["a"]), [""; 0]);
    }

    #[test]
    fn a_column_is_renamed_in_each_of_its_tables_and_versions_keep_what_they_had() {
        let all = told(
            [&["id", "old"], &["id", "_valid_from", "old", "other"], &["parent_id", "old"]],
            &["n\"ew"],
        );
        let renames = |table: &str| {
            format!("alter table \"public\".\"{table}\" rename column \"old\" to \"n\"\"ew\";")
        };
        assert_eq!(all.len(), 3, "{all:?}");
        for (said, table) in all.iter().zip(["t", "t_history", "k"]) {
            assert!(said.contains(&renames(table)), "{said}");
        }
    }
}
