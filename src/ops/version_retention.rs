//! Versions of rows are forgotten by their age, from when they were replaced: `retention.history`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::error::Fault;
use crate::model::namespace::Table;
use crate::postgres::{Target, close, with_deadline};
use crate::settings::Settings;

/// Versions forgotten by one statement.
const STEP_ROWS: u64 = 1_000;

/// Between two steps: others have their turn.
const PAUSE: Duration = Duration::from_millis(100);

/// Forgets the versions of all streams that were replaced long enough ago: how many. What is of now
/// is never forgotten.
///
/// # Errors
/// Whatever Postgres answers of one table, once those of the others are forgotten.
pub async fn expire(settings: &Settings, target: &Target) -> Result<u64, Fault> {
    let length = settings.retention.history.and_then(|length| TimeDelta::from_std(length).ok());
    let Some(before) = length.and_then(|length| Utc::now().checked_sub_signed(length)) else {
        return Ok(0);
    };
    let (mut forgotten, mut failed) = (0, None);
    for stream in settings.streams.iter().filter(|stream| stream.keeping.history) {
        let history = settings.table_of(stream).history();
        let mut connection = target.connect().await?;
        match of_one(&mut connection, target, &history, before).await {
            Ok(rows) => forgotten += rows,
            Err(fault) => failed = Some(fault),
        }
        close(connection).await;
    }
    failed.map_or(Ok(forgotten), Err)
}

async fn of_one(
    connection: &mut PgConnection,
    target: &Target,
    history: &Table,
    before: DateTime<Utc>,
) -> Result<u64, Fault> {
    let table = history.sql();
    let sql = format!(
        "with old as (select id, _valid_from from {table} where _valid_to_at < $1 order by \
         _valid_to_at limit {STEP_ROWS}), gone as (delete from {table} as h using old where h.id = \
         old.id and h._valid_from = old._valid_from returning 1) select count(*) from gone"
    );
    let mut forgotten = 0;
    loop {
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql.clone())).bind(before);
        let step = with_deadline(target.deadline(), query.fetch_one(&mut *connection)).await?;
        let step = u64::try_from(step).unwrap_or_default();
        forgotten += step;
        if step < STEP_ROWS {
            return Ok(forgotten);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
