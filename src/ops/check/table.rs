//! A followed table: what it is, whether it is ours, the right to write it, and every statement.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::finding::Finding;
use super::rights::{Ends, rights, unauthorised};
use crate::apply::{Kind, LiveTable, Statements, read_live, rehearse};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::postgres::with_deadline;
use crate::settings::StreamSettings;

pub(super) async fn table(
    connection: &mut PgConnection,
    ends: &Ends<'_>,
    stream: &StreamSettings,
) -> Vec<Finding> {
    let table = ends.settings.table_of(stream);
    let what = format!("table {table}");
    let live = match read_live(connection, ends.target, &table).await {
        Ok(live) => live,
        Err(fault) => return vec![Finding::failed(what, &fault)],
    };
    let misfits = live.misfits(&table, &stream.columns);
    if !misfits.is_empty() {
        let hint = "alter it by hand, or change [[stream]]; tidemark never retypes or replaces \
                    what is there";
        let failed = |misfit| {
            Finding::failed(
                &what,
                &Fault::new(Class::Halt, Code::TargetSchemaMismatch, misfit, hint),
            )
        };
        return misfits.into_iter().map(failed).collect();
    }
    let lacking = live.lacking(&table, &stream.columns);
    if !lacking.is_empty() {
        let made = pending(connection, ends, (&table, &live), lacking.join("; ")).await;
        return vec![match made {
            Ok(detail) => Finding::pending(what, &detail),
            Err(fault) => Finding::failed(what, &fault),
        }];
    }
    let mut findings =
        vec![Finding::ok(&what, format!("{} columns as configured", stream.columns.len()))];
    let lacking = ends.rights.on_table(connection, &table).await;
    let granted = lacking.and_then(|lacking| rights(&ends.rights, &lacking));
    let may = granted.is_ok();
    findings.push(Finding::of(format!("rights on {table}"), granted));
    if may || !ends.executes {
        findings.extend(statements(connection, ends, (&table, live.kind), stream).await);
    }
    findings
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
    let statements = Statements::new(table, &stream.columns);
    let kind = kind.unwrap_or(Kind::Table);
    let (came, how) = if ends.executes {
        let came = rehearse(connection, ends.target, &statements, &stream.columns, kind).await;
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
