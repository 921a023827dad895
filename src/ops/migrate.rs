//! Creates or upgrades tidemark's own tables; creates or widens the followed ones, each in a step
//! of its own: one table's trouble keeps no other from being made.

use std::time::Duration;

use super::mapping_change::{MappingNote, mapping_notes};
use crate::apply::{Lacked, Mapping, Wanted, ensure, ensure_as_of};
use crate::error::{Class, Code, Fault};
use crate::postgres::{Target, close, with_deadline};
use crate::retry;
use crate::settings::Settings;
use crate::state::StateTables;

/// Any number, the same in every process: migrations of one database run one after the other.
const ADVISORY_LOCK: i64 = 0x7469_6465;

/// How often a person's `migrate` asks for a lock that it does not get.
const TRIES: u64 = 5;

/// What was done, a line each, and what could not be.
#[derive(Debug, Default)]
pub struct Migrated {
    /// What will be done by `run`, and what is left to a person, a line each.
    pub notes: Vec<String>,
    pub done: Vec<String>,
    pub failed: Vec<Fault>,
}

/// Does all of it, as far as it can be done.
pub async fn migrate(settings: &Settings, target: &Target, state: &StateTables) -> Migrated {
    let mut migrated = Migrated::default();
    match own_tables(settings, target, state).await {
        Ok(done) => migrated.done.extend(done),
        // Which of the followed tables are ours is not known without them.
        Err(fault) => {
            migrated.failed.push(fault);
            return migrated;
        }
    }
    for stream in &settings.streams {
        let table = settings.table_of(stream);
        let mut tries = 0;
        loop {
            let made = async {
                let mut connection = target.connect().await?;
                state.refuse_strangers(&mut connection, &[&stream.name]).await?;
                let tables = Wanted::all(&table, stream.rows());
                let lacked = Lacked::of(&mut connection, target, tables).await?;
                let mapping = Mapping::new(stream, settings.row);
                lacked.forget(&mut connection, state, &stream.name, mapping.digest()).await?;
                let notes = mapping_notes(&mut connection, target, settings, state, stream).await;
                let mut made = Vec::new();
                for wanted in Wanted::all(&table, stream.rows()) {
                    state.refuse_table(&mut connection, &wanted.table).await?;
                    made.extend(ensure(&mut connection, target, &wanted).await?);
                }
                let function = ensure_as_of(&mut connection, target, &table, stream.rows()).await?;
                made.extend(function);
                close(connection).await;
                Ok::<_, Fault>((made, notes))
            };
            tries += 1;
            match made.await {
                Err(fault) if fault.class == Class::Transient && tries < TRIES => {
                    tracing::warn!(tries, "will be tried again: {fault}");
                    tokio::time::sleep(
                        retry::delay(settings.retry, tries, 1.0).min(Duration::from_secs(5)),
                    )
                    .await;
                    continue;
                }
                Err(fault) => migrated.failed.push(fault),
                Ok((done, notes)) => {
                    migrated.done.extend(done);
                    migrated.notes.extend(notes.into_iter().map(MappingNote::line));
                }
            }
            break;
        }
    }
    migrated
}

/// tidemark's own tables alone, under a lock that other processes wait for. Returns what was done.
///
/// # Errors
/// Something is missing and a stream is another service's or environment's; this release is too old
/// for the tables; whatever Postgres refuses, classified.
pub async fn own_tables(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
) -> Result<Option<String>, Fault> {
    let mut connection = target.connect().await?;
    let made = async {
        // Looked at first: nothing is asked for, not even a lock, where nothing is missing.
        if state.standing(&mut connection).await?.missing.is_empty() {
            return Ok(0);
        }
        let lock = sqlx::query("select pg_advisory_lock($1)").bind(ADVISORY_LOCK);
        with_deadline(target.deadline(), lock.execute(&mut connection)).await?;
        let names: Vec<&str> = settings.streams.iter().map(|stream| stream.name.as_str()).collect();
        state.refuse_strangers(&mut connection, &names).await?;
        state.migrate(&mut connection).await
    };
    let made = made.await;
    close(connection).await;
    let number = made?;
    let line = (number > 0).then(|| format!("{number} migration(s) of tidemark's own tables"));
    if let Some(line) = &line {
        tracing::info!("migrated: {line}");
    }
    Ok(line)
}

/// The same where a daemon may change no schema: it says what is missing.
///
/// # Errors
/// Something is; or as [`own_tables`].
pub async fn look(target: &Target, state: &StateTables) -> Result<(), Fault> {
    let mut connection = target.connect().await?;
    let standing = state.standing(&mut connection).await;
    close(connection).await;
    let standing = standing?;
    if standing.missing.is_empty() {
        return Ok(());
    }
    let message = format!(
        "tidemark's own tables are not there yet, or not as this release wants them: {}",
        standing.lacks()
    );
    let hint = "run `tidemark migrate` as their owner (migrate.automatic is false); it goes on by \
                itself then";
    Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint))
}
