//! Creates or upgrades tidemark's own tables; creates or widens the followed ones.

use sqlx::postgres::PgConnection;

use crate::apply::ensure;
use crate::checkpoint::Checkpoints;
use crate::error::Fault;
use crate::model::namespace::Table;
use crate::postgres::{Target, close, within};
use crate::settings::Column;

/// Any number, the same in every process: migrations of one database run one after the other.
const ADVISORY_LOCK: i64 = 0x7469_6465;

/// Runs what is needed, under a lock that other daemons wait for. Returns what was done, a line each.
///
/// # Errors
/// Whatever Postgres refuses, classified; a column of another type than configured.
pub async fn migrate<'a>(
    target: &Target,
    checkpoints: &Checkpoints,
    tables: impl Iterator<Item = (&'a Table, &'a [Column])>,
) -> Result<Vec<String>, Fault> {
    let mut connection = target.connect().await?;
    let lock = sqlx::query("select pg_advisory_lock($1)").bind(ADVISORY_LOCK);
    within(target.deadline(), lock.execute(&mut connection)).await?;
    let done = locked(&mut connection, target, checkpoints, tables).await;
    close(connection).await;
    done
}

async fn locked<'a>(
    connection: &mut PgConnection,
    target: &Target,
    checkpoints: &Checkpoints,
    tables: impl Iterator<Item = (&'a Table, &'a [Column])>,
) -> Result<Vec<String>, Fault> {
    let mut done = Vec::new();
    let migrations = checkpoints.migrate(connection).await?;
    if migrations > 0 {
        done.push(format!("{migrations} migration(s) of tidemark's own tables"));
    }
    for (table, columns) in tables {
        done.extend(ensure(connection, target, table, columns).await?);
    }
    for line in &done {
        tracing::info!("migrated: {line}");
    }
    Ok(done)
}
