//! The followed table as it stands, against the configuration: what to add, and what does not fit.
//!
//! Configuration only ever adds columns. A wrong type is reported, never altered. Nothing is run
//! that is not needed, so a user without the right to create can follow into tables that are
//! already there.

use sqlx::postgres::PgConnection;

use super::wanted::{DELETED_AT, DOC, FIXED, HASH, Typed, VERSION, Wanted};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::{Table, quote};
use crate::postgres::{Target, ddl, with_deadline};
use crate::settings::Column;

/// What goes by the followed table's name in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveTable {
    pub schema_exists: bool,
    /// `None` if nothing does.
    pub kind: Option<Kind>,
    /// (name, type as `format_type` writes it); empty if nothing does.
    pub columns: Vec<(String, String)>,
    /// The column `doc` refuses null.
    pub needs_doc: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    Partitioned,
    /// It cannot be followed into: what it is, for people.
    Other(&'static str),
}

impl Kind {
    fn of(relkind: &str) -> Self {
        match relkind {
            "r" => Self::Table,
            "p" => Self::Partitioned,
            "v" => Self::Other("a view"),
            "m" => Self::Other("a materialized view"),
            "f" => Self::Other("a foreign table"),
            _ => Self::Other("something else"),
        }
    }
}

impl LiveTable {
    /// The statements that bring the table to what the configuration needs.
    pub fn additions(&self, wanted: &Wanted<'_>) -> Vec<String> {
        let table = &wanted.table;
        let sql = table.sql();
        let mut statements = Vec::new();
        if !self.schema_exists {
            statements.push(format!("create schema if not exists {}", quote(&table.schema)));
        }
        if self.kind.is_none() {
            statements.extend(wanted.creation());
        }
        let is_made = |column: &Typed<'_>| self.kind.is_none() && *column == HASH;
        let lacking = wanted.added().into_iter().filter(|column| self.lacks(column.0));
        for (name, kind) in lacking.filter(|column| !is_made(column)) {
            let name = quote(name);
            statements.push(format!("alter table {sql} add column if not exists {name} {kind}"));
        }
        if self.refuses_rows(wanted) {
            statements.push(format!("alter table {sql} alter column doc drop not null"));
        }
        statements
    }

    /// Whether rows without the whole document are refused, as they are where it was kept before.
    fn refuses_rows(&self, wanted: &Wanted<'_>) -> bool {
        self.needs_doc && !wanted.keeping.doc && wanted.child().is_none()
    }

    /// Whether it has whole documents of the time when they were kept.
    pub fn leaves_doc(&self, wanted: &Wanted<'_>) -> bool {
        !wanted.keeping.doc && !self.lacks(DOC.0) && wanted.child().is_none()
    }

    fn lacks(&self, column: &str) -> bool {
        !self.columns.iter().any(|(name, _)| name == column)
    }

    /// What adding does not mend, one sentence each: it is looked for before anything is added, so
    /// that nothing is done to a table that is not tidemark's.
    pub fn misfits(&self, wanted: &Wanted<'_>) -> Vec<String> {
        let table = &wanted.table;
        match self.kind {
            None => return Vec::new(),
            Some(Kind::Other(what)) => return vec![format!("{table} is {what}, not a table")],
            Some(Kind::Table | Kind::Partitioned) => {}
        }
        let fixed = wanted.fixed();
        let none = fixed.iter().filter(|(name, _)| self.lacks(name)).map(|(name, kind)| {
            format!("table {table} has no column {name} {kind}, as every table of tidemark's has")
        });
        let all = fixed.iter().copied().chain(wanted.added());
        let wrong = all.filter_map(|(name, kind)| {
            let (_, found) = self.columns.iter().find(|(live, _)| live == name)?;
            (found != kind).then(|| {
                format!("column {name} of table {table} is {found}, the configuration says {kind}")
            })
        });
        wrong.chain(none).chain(self.left_marks(wanted)).collect()
    }

    /// Rows that were marked as deleted would count as documents that there are.
    pub fn left_marks(&self, wanted: &Wanted<'_>) -> Option<String> {
        let (table, (name, _)) = (&wanted.table, DELETED_AT);
        (!wanted.has_marks() && !self.lacks(name)).then(|| {
            let sql = table.sql();
            format!(
                "column {name} of table {table} marks rows as deleted, and on_delete is \
                 \"delete\": set it to \"mark\", or take them away: delete from {sql} where \
                 {name} is not null; alter table {sql} drop column {name}"
            )
        })
    }

    /// Columns of another type than the configuration says: they are to be made anew, and filled by
    /// a walk.
    pub fn retyped<'w>(&self, wanted: &Wanted<'w>) -> Vec<&'w str> {
        let is_other = |column: &&Column| {
            let live = self.columns.iter().find(|(name, _)| *name == column.name);
            live.is_some_and(|(_, kind)| kind != column.kind.sql())
        };
        wanted.columns.iter().filter(is_other).map(|column| column.name.as_str()).collect()
    }

    /// Columns that are neither of every followed table nor configured.
    pub fn strays<'l>(&'l self, columns: &'l [Column]) -> impl Iterator<Item = &'l str> {
        let names = self.columns.iter().map(|(name, _)| name.as_str());
        names.filter(|name| {
            !name.starts_with('_')
                && !FIXED.iter().any(|(fixed, _)| fixed == name)
                && !columns.iter().any(|column| column.name == *name)
        })
    }

    /// Whether it is a table of versions, by the columns that no other has.
    pub(super) fn is_of_versions(&self) -> bool {
        VERSION.iter().all(|(name, _)| self.has(name))
    }

    /// Whether it has a column of this name.
    pub fn has(&self, column: &str) -> bool {
        !self.lacks(column)
    }

    /// What is to be added, one clause each.
    pub fn lacking(&self, wanted: &Wanted<'_>) -> Vec<String> {
        let table = &wanted.table;
        if self.kind.is_none() {
            return vec![format!("table {table} does not exist")];
        }
        wanted
            .added()
            .into_iter()
            .filter(|(name, _)| self.lacks(name))
            .map(|(name, _)| format!("column {name} of table {table} does not exist"))
            .chain(self.refuses_rows(wanted).then(|| format!("column doc of {table} refuses null")))
            .collect()
    }

    /// Whether rows can be written as the configuration says.
    ///
    /// # Errors
    /// They cannot, and why; where adding would mend it, with the statements.
    pub fn fits(&self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        let misfits = self.misfits(wanted);
        if !misfits.is_empty() {
            let hint = "`tidemark check` says what to do, in SQL; or name another table in \
                        [[stream]]; tidemark only ever adds columns";
            return Err(Fault::new(
                Class::Halt,
                Code::TargetSchemaMismatch,
                misfits.join("; "),
                hint,
            ));
        }
        let lacking = self.lacking(wanted);
        if lacking.is_empty() {
            return Ok(());
        }
        let message = format!("{}: {}", lacking.join("; "), self.additions(wanted).join("; "));
        Err(Fault::new(
            Class::Halt,
            Code::TargetSchemaMismatch,
            message,
            "run `tidemark migrate`, or that statement",
        ))
    }
}

/// Reads from the catalogue what goes by the table's name.
///
/// # Errors
/// The catalogue cannot be read.
pub async fn read_live(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
) -> Result<LiveTable, Fault> {
    let query = sqlx::query_as::<_, (Option<String>, Vec<String>, Vec<String>, bool)>(
        "select c.relkind::text, coalesce(array_agg(a.attname::text order by a.attnum) filter \
         (where a.attnum > 0), '{}'), coalesce(array_agg(format_type(a.atttypid, a.atttypmod) \
         order by a.attnum) filter (where a.attnum > 0), '{}'), coalesce(bool_or(a.attnotnull) \
         filter (where a.attname = 'doc'), false) from pg_namespace as n left join pg_class as c \
         on c.relnamespace = n.oid and c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f') \
         left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not \
         a.attisdropped where n.nspname = $1 group by c.oid, c.relkind",
    )
    .bind(&table.schema)
    .bind(&table.name);
    Ok(match with_deadline(target.deadline(), query.fetch_optional(connection)).await? {
        None => LiveTable::default(),
        Some((kind, names, types, needs_doc)) => LiveTable {
            schema_exists: true,
            kind: kind.as_deref().map(Kind::of),
            columns: names.into_iter().zip(types).collect(),
            needs_doc,
        },
    })
}

/// Creates the table, or adds what it lacks, in one transaction. Returns the statements that were
/// run.
///
/// # Errors
/// What is there does not fit and is left as it is; a lock was not had in time (transient); the
/// database refuses.
pub async fn ensure(
    connection: &mut PgConnection,
    target: &Target,
    wanted: &Wanted<'_>,
) -> Result<Vec<String>, Fault> {
    let table = &wanted.table;
    let live = read_live(connection, target, table).await?;
    let additions = live.additions(wanted);
    if live.misfits(wanted).is_empty() && !additions.is_empty() {
        ddl::change(target, &table.sql(), &format!("table {table}"), &additions).await?;
        read_live(connection, target, table).await?.fits(wanted)?;
        return Ok(additions);
    }
    live.fits(wanted)?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::super::wanted::FIXED;
    use super::*;
    use crate::model::on_delete::OnDelete;
    use crate::model::value::ColumnType;
    use crate::settings::{Column, Keeping};

    #[test]
    fn only_what_is_missing_is_added_and_a_wrong_type_is_named() {
        let table = Table { schema: "public".into(), name: "doctor".into() };
        let column = |name: &str, kind| Column {
            name: name.into(),
            paths: vec![],
            kind,
            required: false,
            mask: None,
            zone: None,
        };
        let columns = [column("a", ColumnType::Text), column("b", ColumnType::Date)];
        let keeping = Keeping::default();
        let wanted = &Wanted::of(&table, &columns, keeping);
        let fresh = LiveTable::default();
        assert_eq!(fresh.additions(wanted).len(), 4);
        assert_eq!(fresh.misfits(wanted), [""; 0], "what is not there fits");
        let live = |list: &[(&str, &str)]| LiveTable {
            schema_exists: true,
            kind: Some(Kind::Table),
            columns: list.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
            needs_doc: true,
        };
        let old = live(&[&FIXED[..], &[HASH, ("a", "integer")]].concat());
        assert_eq!(
            old.additions(wanted),
            ["alter table \"public\".\"doctor\" add column if not exists \"b\" date"]
        );
        assert_eq!(old.lacking(wanted), ["column b of table public.doctor does not exist"]);
        assert_eq!(
            old.misfits(wanted),
            ["column a of table public.doctor is integer, the configuration says text"]
        );
        assert_eq!(old.retyped(wanted), ["a"]);
        let others = &Wanted::of(&table, &columns[1..], Keeping::default());
        assert_eq!(old.retyped(others), [""; 0]);
        assert_eq!(old.strays(&columns[1..]).collect::<Vec<_>>(), ["a"]);
        let strange = live(&[
            ("id", "integer"),
            ("doc", "jsonb"),
            ("_applied_at", "timestamp with time zone"),
        ]);
        assert_eq!(
            strange.misfits(&Wanted::of(&table, &[], keeping)),
            [
                "column id of table public.doctor is integer, the configuration says text",
                "table public.doctor has no column _cluster_time bigint, as every table of \
                 tidemark's has"
            ]
        );
        let view = LiveTable { kind: Some(Kind::Other("a view")), ..live(&FIXED) };
        assert_eq!(view.misfits(wanted), ["public.doctor is a view, not a table"]);
    }

    #[test]
    fn a_table_that_marks_has_its_column_added_and_what_is_left_marked_is_told() {
        let table = Table { schema: "public".into(), name: "doctor".into() };
        let marking = Keeping { on_delete: OnDelete::Mark, ..Keeping::default() };
        let wanted = &Wanted::of(&table, &[], marking);
        let columns =
            FIXED.iter().chain([&HASH]).map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        let mut live =
            LiveTable { schema_exists: true, kind: Some(Kind::Table), columns, needs_doc: true };
        let added = "alter table \"public\".\"doctor\" add column if not exists \"_deleted_at\" \
                     timestamp with time zone";
        assert_eq!(live.additions(wanted), [added]);
        assert!(live.fits(wanted).is_err());
        live.columns.push((DELETED_AT.0.to_owned(), DELETED_AT.1.to_owned()));
        assert!(live.fits(wanted).is_ok());
        let deleting = &Wanted::of(&table, &[], Keeping::default());
        let told = live.misfits(deleting).join("; ");
        assert!(told.contains("delete from \"public\".\"doctor\" where"), "{told}");
    }

    #[test]
    fn without_doc_none_is_made_and_one_that_is_there_may_stay_empty() {
        let table = Table { schema: "public".into(), name: "doctor".into() };
        let keeping = Keeping { doc: false, ..Keeping::default() };
        let wanted = &Wanted::of(&table, &[], keeping);
        let made = LiveTable::default().additions(wanted).join("; ");
        assert!(!made.contains("doc jsonb"), "{made}");
        let columns =
            FIXED.iter().chain([&HASH]).map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        let mut live =
            LiveTable { schema_exists: true, kind: Some(Kind::Table), columns, needs_doc: true };
        let eased = "alter table \"public\".\"doctor\" alter column doc drop not null";
        assert_eq!(live.additions(wanted), [eased]);
        live.needs_doc = false;
        assert!(live.fits(wanted).is_ok());
        live.columns.retain(|(name, _)| name != "doc");
        assert!(live.fits(wanted).is_ok());
        let with = &Wanted::of(&table, &[], Keeping::default());
        assert!(live.misfits(with).join("; ").contains("no column doc jsonb"));
    }
}
