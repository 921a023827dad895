//! A followed table: what it is, whether it is ours, the right to write it, and every statement.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::clear_values::clear_values;
use super::finding::Finding;
use super::rights::{Ends, rights, unauthorised};
use crate::apply::{Kind, LiveTable, Statements, Wanted, read_live, rehearse};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::ops::dependent_views::DependentViews;
use crate::ops::mapping_change::mapping_notes;
use crate::postgres::with_deadline;
use crate::settings::StreamSettings;

pub(super) async fn table(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    stream: &StreamSettings,
) -> Vec<Finding> {
    let table = ends.settings.table_of(stream);
    let (mut is_whole, mut may, mut kind) = (true, true, None);
    let mut findings = changes(connection, ends, stream).await;
    for wanted in Wanted::all(&table, stream.rows()) {
        let live = match read_live(connection, ends.target, &wanted.table).await {
            Ok(live) => live,
            Err(fault) => {
                findings.push(Finding::failed(format!("table {}", wanted.table), &fault));
                return findings;
            }
        };
        match of_one(connection, ends, &live, &wanted).await {
            Ok(found) => findings.push(found),
            Err(found) => {
                findings.extend(found);
                is_whole = false;
                continue;
            }
        }
        kind = kind.or(live.kind);
        let lacking = ends.rights.on_table(connection, &wanted.table).await;
        let granted = lacking.and_then(|lacking| rights(&ends.rights, &lacking));
        may &= granted.is_ok();
        findings.push(Finding::of(format!("rights on {}", wanted.table), granted));
    }
    if is_whole {
        findings.extend(clear_values(connection, ends, stream).await);
    }
    if is_whole && (may || !ends.executes) {
        findings.extend(statements(connection, ends, (&table, kind), stream).await);
    }
    findings
}

/// What is found of one of a stream's tables as it is.
///
/// # Errors
/// What is found, if it cannot be written yet.
pub(super) async fn of_one(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    live: &LiveTable,
    wanted: &Wanted<'_>,
) -> Result<Finding, Vec<Finding>> {
    let table = &wanted.table;
    let what = format!("table {table}");
    let misfits = live.misfits(wanted);
    if !misfits.is_empty() {
        let remedy = retyping(connection, ends, live, wanted).await;
        let fault = |misfit| Fault::new(Class::Halt, Code::TargetSchemaMismatch, misfit, "");
        let failed = misfits.into_iter().map(|misfit| {
            let failed = Finding::failed(&what, &fault(misfit));
            Finding { remedy: remedy.clone(), ..failed }
        });
        let mut findings: Vec<Finding> = failed.collect();
        if live.left_marks(wanted).is_some() {
            findings.push(marked(connection, ends, table).await);
        }
        return Err(findings);
    }
    let lacking = live.lacking(wanted);
    if !lacking.is_empty() {
        let made = pending(connection, ends, (table, live), lacking.join("; ")).await;
        return Err(vec![match made {
            Ok(detail) => Finding::pending(what, &detail),
            Err(fault) => Finding::failed(what, &fault),
        }]);
    }
    let left = if live.leaves_doc(wanted) {
        "; its column doc is not written any more, and shows what was"
    } else {
        ""
    };
    Ok(Finding::ok(&what, format!("{} columns as configured{left}", wanted.columns().len())))
}

/// How many rows are marked as deleted, though nothing marks them any more.
async fn marked(connection: &mut PgConnection, ends: &Ends<'_>, table: &Table) -> Finding {
    let what = format!("rows of {table} marked as deleted");
    let sql = format!("select count(*) from {} where _deleted_at is not null", table.sql());
    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
    match with_deadline(ends.target.deadline(), query.fetch_one(connection)).await {
        Ok(rows) => Finding::ok(what, rows.to_string()),
        Err(fault) => Finding::failed(what, &fault),
    }
}

/// What a changed configuration will do to it.
async fn changes(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    stream: &StreamSettings,
) -> Vec<Finding> {
    let Ends { settings, target, state, .. } = ends;
    let notes = mapping_notes(connection, target, settings, state, stream).await;
    let what = format!("mapping of {}", stream.name);
    let told = notes.into_iter().map(|note| {
        let told = Finding::ok(&what, note.said);
        Finding { remedy: note.remedy, ..told }
    });
    told.collect()
}

/// What to do about a table that does not fit.
async fn retyping(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    live: &LiveTable,
    wanted: &Wanted<'_>,
) -> String {
    let columns = live.retyped(wanted);
    if columns.is_empty() {
        let by_hand = "alter it by hand, or change [[stream]]; tidemark never retypes or replaces \
                       what is there";
        return by_hand.to_owned();
    }
    let views = DependentViews::of(connection, ends.target, &wanted.table).await;
    format!(
        "`{}` (`rename` keeps the old values), then `tidemark migrate`: the stream is walked and \
         fills it; or change [[stream]]; tidemark never retypes what is there",
        views.drop_columns(&wanted.table, &columns)
    )
}

/// Who makes what is missing, if somebody can.
async fn pending(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    (table, live): (&Table, &LiveTable),
    lacks: String,
) -> Result<String, Fault> {
    let rights = &ends.rights;
    if !ends.settings.migrate.automatic {
        let message = format!("{lacks}; migrate.automatic is false");
        let hint = "run `tidemark migrate` as its owner";
        return Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint));
    }
    let cannot = if live.kind.is_none() {
        rights.cannot_create_in(connection, &table.schema, live.schema_exists).await?
    } else if rights.owns(connection, table).await? {
        None
    } else {
        Some("the table's ownership".to_owned())
    };
    match cannot {
        None => Ok(format!("{lacks}; `run` makes it, or `tidemark migrate`")),
        Some(right) => {
            let message = format!("{lacks}; and {} may not make it: it lacks {right}", rights.role);
            Err(unauthorised(
                message,
                "run `tidemark migrate` as a user who may (deploy/roles.sql), or grant it",
            ))
        }
    }
}

/// One line if all pass, and one for each reason if not.
async fn statements(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    (table, kind): (&Table, Option<Kind>),
    stream: &StreamSettings,
) -> Vec<Finding> {
    let statements = Statements::new(table, stream.rows());
    let kind = kind.unwrap_or(Kind::Table);
    let (came, how) = if ends.executes {
        let came = rehearse(connection, ends.target, &statements, stream.rows(), kind).await;
        (came, "executed over no row and rolled back")
    } else {
        let mut came = Vec::new();
        for (name, sql) in statements.preparable() {
            let sql = AssertSqlSafe(sql.to_string()).into_sql_str();
            let prepared = sqlx::Executor::prepare(&mut *connection, sql);
            came.push((name, with_deadline(ends.target.deadline(), prepared).await.map(drop)));
        }
        (came, "prepared")
    };
    let number = came.len();
    // What is wrong with many for one reason is said once.
    let mut failed: Vec<(Vec<&str>, Fault)> = Vec::new();
    for (name, fault) in came.into_iter().filter_map(|(name, result)| Some((name, result.err()?))) {
        match failed.iter_mut().find(|(_, known)| *known == fault) {
            Some((names, _)) => names.push(name),
            None => failed.push((vec![name], fault)),
        }
    }
    if failed.is_empty() {
        return vec![Finding::ok(format!("statements on {table}"), format!("{number} {how}"))];
    }
    failed
        .iter()
        .map(|(names, fault)| Finding::failed(format!("{} on {table}", names.join(", ")), fault))
        .collect()
}
