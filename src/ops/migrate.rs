//! Creates or upgrades tidemark's own tables; creates or widens the followed ones.

use sqlx::postgres::PgConnection;

use crate::apply::ensure;
use crate::checkpoint::Checkpoints;
use crate::error::Fault;
use crate::model::namespace::Table;
use crate::postgres::{Target, close, within};
use crate::settings::Settings;

/// Any number, the same in every process: migrations of one database run one after the other.
const ADVISORY_LOCK: i64 = 0x7469_6465;

/// Runs what is needed, under a lock that other daemons wait for. Returns what was done, a line each.
///
/// # Errors
/// A stream is another service's or environment's; whatever Postgres refuses, classified; a column
/// of another type than configured.
pub async fn migrate(settings: &Settings, target: &Target, checkpoints: &Checkpoints) -> Result<Vec<String>, Fault> {
    let mut connection = target.connect().await?;
    let lock = sqlx::query("select pg_advisory_lock($1)").bind(ADVISORY_LOCK);
    within(target.deadline(), lock.execute(&mut connection)).await?;
    let done = locked(&mut connection, settings, target, checkpoints).await;
    close(connection).await;
    done
}

async fn locked(
    connection: &mut PgConnection,
    settings: &Settings,
    target: &Target,
    checkpoints: &Checkpoints,
) -> Result<Vec<String>, Fault> {
    let names: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
    checkpoints.refuse_strangers(connection, &names).await?;
    let mut done = Vec::new();
    let migrations = checkpoints.migrate(connection).await?;
    if migrations > 0 {
        done.push(format!("{migrations} migration(s) of tidemark's own tables"));
    }
    for stream in &settings.streams {
        let table = Table { schema: settings.target.schema.clone(), name: stream.table.clone() };
        done.extend(ensure(connection, target, &table, &stream.columns).await?);
    }
    for line in &done {
        tracing::info!("migrated: {line}");
    }
    Ok(done)
}
