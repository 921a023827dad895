//! What a stream hides, found in its tables all the same: rows and versions that no walk makes
//! anew, or that were made before it. Counted up to a limit and for a few seconds; no value is
//! read.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::finding::Finding;
use super::rights::Ends;
use crate::apply::living;
use crate::error::Fault;
use crate::model::format::thousands;
use crate::model::namespace::{Table, quote};
use crate::model::redaction::Mask;
use crate::model::value::ColumnType;
use crate::ops::views::literal;
use crate::postgres::with_deadline;
use crate::settings::{Column, StreamSettings};

/// So many are counted.
const COUNTED_MAX: i64 = 10_000;

/// So long one table is looked at.
const PATIENCE: Duration = Duration::from_secs(3);

/// A longer repetition is none to Postgres.
const REPEATED_MAX: u32 = 250;

/// Through arrays, and arrays in these; what is none is taken as it is.
const WITHIN: &str = "[*][*]";

/// One kind of rows that may show what is hidden.
struct Place {
    /// For people, of many.
    what: String,
    /// What to select from, under its own condition.
    from: String,
    remedy: String,
}

/// One line of each kind of rows that show something, or that none does; nothing where the stream
/// hides nothing.
pub(super) async fn clear_values(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    stream: &StreamSettings,
) -> Vec<Finding> {
    let table = ends.settings.table_of(stream);
    let places = places(&table, stream);
    let what = format!("clear values in {table}");
    let (mut findings, looked_at) = (Vec::new(), places.len());
    for Place { what: rows, from, remedy } in places {
        let told = match count(connection, ends, &from).await {
            Ok(0) => continue,
            Ok(COUNTED_MAX..) => format!("more than {}", thousands(COUNTED_MAX.unsigned_abs())),
            Ok(number) => thousands(number.unsigned_abs()),
            Err(fault) if fault.class.may_retry() => {
                let told = format!("{rows}: not known, looking took more than {PATIENCE:?}");
                findings.push(Finding { remedy, ..Finding::ok(&what, told) });
                continue;
            }
            Err(fault) => {
                findings.push(Finding::failed(&what, &fault));
                continue;
            }
        };
        let told = format!("{rows} that show what is hidden now: {told}");
        findings.push(Finding { remedy, ..Finding::ok(&what, told) });
    }
    if findings.is_empty() && looked_at > 0 {
        findings.push(Finding::ok(what, "nothing that is hidden is shown"));
    }
    findings
}

async fn count(connection: &mut PgConnection, ends: &Ends<'_>, from: &str) -> Result<i64, Fault> {
    let limit = AssertSqlSafe(format!("set local statement_timeout = {}", PATIENCE.as_millis()));
    let sql =
        AssertSqlSafe(format!("select count(*) from (select {from} limit {COUNTED_MAX}) as c"));
    with_deadline(ends.target.deadline(), async {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(limit).execute(&mut *transaction).await?;
        let number = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await;
        transaction.rollback().await?;
        number
    })
    .await
}

fn places(table: &Table, stream: &StreamSettings) -> Vec<Place> {
    let (sql, keeping) = (table.sql(), stream.keeping);
    let mut places = Vec::new();
    if let Some(clear) = condition(stream) {
        let living = living(&sql, keeping);
        places.push(Place {
            what: "rows of documents".to_owned(),
            from: format!("from {living} as t where {clear}"),
            remedy: format!(
                "the walk of the changed mapping makes them anew; one that is left was refused: \
                 `tidemark dead-letter list {}` says why, and once that is mended `tidemark \
                 dead-letter retry --all {} --reason TEXT --execute`",
                stream.name, stream.name
            ),
        });
        if keeping.marks_deletes() {
            places.push(Place {
                what: "rows marked as deleted".to_owned(),
                from: format!("from {sql} where _deleted_at is not null and ({clear})"),
                remedy: format!(
                    "once it is walked: `delete from {sql} where _deleted_at is not null and \
                     ({clear});`"
                ),
            });
        }
        if keeping.history {
            let history = table.history().sql();
            places.push(Place {
                what: format!("versions in {}", table.history()),
                from: format!("from {history} where {clear}"),
                remedy: format!("once it is walked: `delete from {history} where {clear};`"),
            });
        }
    }
    for child in &stream.children {
        let Some(clear) = of_columns(&child.columns) else { continue };
        let child = table.beside(&child.table);
        let sql = child.sql();
        places.push(Place {
            what: format!("rows in {child}"),
            from: format!("from {sql} where {clear}"),
            remedy: format!(
                "the walk of the changed mapping makes those of documents anew; of what is left: \
                 `delete from {sql} where {clear};`"
            ),
        });
    }
    places
}

/// Under which a row, or version, shows what the stream hides; `None` if it hides nothing.
fn condition(stream: &StreamSettings) -> Option<String> {
    let hidden = stream.redaction.configured();
    let mut any = Vec::from_iter(of_columns(&stream.columns));
    if stream.keeping.doc {
        let exists = |path: &[Box<str>], filter: &str| {
            let keys: Vec<String> =
                path.iter().map(|key| serde_json::Value::from(&**key).to_string()).collect();
            let path = literal(&format!("$.{}{filter}", keys.join(&format!("{WITHIN}."))));
            format!("jsonb_path_exists(doc, {path})")
        };
        any.extend(hidden.exclude.iter().map(|path| exists(path, "")));
        let masks = hidden.masks.iter();
        any.extend(
            masks.map(|(path, mask)| exists(path, &format!("{WITHIN} ? ({})", in_json(*mask)))),
        );
        let mut kept: Vec<&str> =
            hidden.include.iter().filter_map(|p| Some(&**p.first()?)).collect();
        if !kept.is_empty() {
            kept.push("_id");
            let kept: Vec<String> = kept.into_iter().map(literal).collect();
            any.push(format!("doc - array[{}] <> '{{}}'", kept.join(", ")));
        }
    }
    (!any.is_empty()).then(|| any.join(" or "))
}

fn of_columns(columns: &[Column]) -> Option<String> {
    let clear = columns.iter().filter_map(|column| Some((column, column.mask?)));
    let clear: Vec<String> = clear.map(|(column, mask)| in_column(column, mask)).collect();
    (!clear.is_empty()).then(|| clear.join(" or "))
}

fn in_column(column: &Column, mask: Mask) -> String {
    let name = quote(&column.name);
    let is_clear = |text: &str| match mask {
        Mask::Null => format!("{text} is not null"),
        Mask::Hash => format!("{text} !~ '^[0-9a-f]{{32}}$'"),
        Mask::First(number) => format!("length({text}) > {number}"),
    };
    match column.kind {
        _ if mask == Mask::Null => is_clear(&name),
        ColumnType::Jsonb => {
            format!("jsonb_path_exists({name}, {})", literal(&format!("$ ? ({})", in_json(mask))))
        }
        ColumnType::TextArray => {
            format!("exists (select from unnest({name}) as v where {})", is_clear("v"))
        }
        _ => is_clear(&name),
    }
}

/// Under which a value in JSON is not masked: a filter of an SQL/JSON path.
fn in_json(mask: Mask) -> String {
    let is_hidden = match mask {
        Mask::Null => return "@ != null".to_owned(),
        Mask::Hash => "!(@ like_regex \"^[0-9a-f]{32}$\")".to_owned(),
        Mask::First(number) => {
            let (times, rest) = ((number + 1) / REPEATED_MAX, (number + 1) % REPEATED_MAX);
            let times = format!(".{{{REPEATED_MAX}}}").repeat(times.try_into().unwrap_or(0));
            format!("@ like_regex \"^{times}.{{{rest}}}\" flag \"s\"")
        }
    };
    format!("@.type() != \"null\" && (@.type() != \"string\" || {is_hidden})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::redaction::{Hidden, Redaction, parse_path};

    #[test]
    fn what_would_show_a_hidden_value_is_said_in_sql_whatever_its_path_holds() {
        let column = |name: &str, kind, mask| Column {
            name: name.into(),
            paths: vec![],
            kind,
            required: false,
            mask,
            zone: None,
        };
        let plain = StreamSettings::of_columns(vec![column("a", ColumnType::Text, None)]);
        assert_eq!(condition(&plain), None);
        let path = |text: &str| parse_path(text).unwrap();
        let hidden = Hidden {
            include: vec![path("b.c"), path("ssn")],
            exclude: vec![path("it's.b\"c")],
            masks: vec![(path("ssn"), Mask::First(3))],
        };
        let redaction = Redaction::new(&hidden, None);
        let columns = vec![column("ssn", ColumnType::TextArray, Some(Mask::First(3)))];
        let hides = StreamSettings { redaction, ..StreamSettings::of_columns(columns) };
        assert_eq!(
            condition(&hides).unwrap(),
            "exists (select from unnest(\"ssn\") as v where length(v) > 3) or \
             jsonb_path_exists(doc, E'$.\"it''s\"[*][*].\"b\\\\\"c\"') or jsonb_path_exists(doc, \
             '$.\"ssn\"[*][*] ? (@.type() != \"null\" && (@.type() != \"string\" || @ like_regex \
             \"^.{4}\" flag \"s\"))') or doc - array['b', 'ssn', '_id'] <> '{}'"
        );
        assert!(in_json(Mask::First(600)).contains("\"^.{250}.{250}.{101}\""));
    }
}
