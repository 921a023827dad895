//! The table `release`, and with it tidemark's own tables as a whole: which migrations they have
//! had, whether this release may work on them, and how they are made.
//!
//! Looked at before anything is run: a user who may create nothing works on tables that are there.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnection;

use super::StateTables;
use crate::error::{Class, Code, Fault};
use crate::postgres::ddl::{held, is_lock_timeout, lock_timeout};
use crate::postgres::with_deadline;

/// The format of tidemark's own tables that this release knows. A row of a newer one is refused,
/// and so are tables whose floor is above it.
pub const FORMAT_VERSION: i32 = 2;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// What to do about a release that is too old for its tables. No other fault has this hint.
const TOO_OLD: &str = "run the release that migrated them, or a later one";

/// Whether it is another release that is wanted: nothing that is mended at either end helps.
pub fn is_too_old(fault: &Fault) -> bool {
    fault.hint == TOO_OLD
}

/// What there is of the state schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub schema_exists: bool,
    /// Migrations that this release has and the tables have not had, by number.
    pub missing: Vec<i64>,
    /// Migrations of a newer release. They only add, unless they raise the floor.
    pub newer: Vec<i64>,
    /// The lowest format that a release must know.
    pub format_min: i32,
}

impl Standing {
    /// Whether nothing of tidemark's was ever made in the schema.
    pub fn is_fresh(&self) -> bool {
        self.missing.len() == MIGRATIONS.iter().count()
    }

    /// What is missing, for people.
    pub fn lacks(&self) -> String {
        if self.is_fresh() {
            return "all of them".to_owned();
        }
        let numbers: Vec<String> = self.missing.iter().map(ToString::to_string).collect();
        format!("migration {}", numbers.join(", "))
    }

    /// The floor, and where this release stands to it, for people.
    pub fn format(&self) -> String {
        let newer = match self.newer.len() {
            0 => String::new(),
            number => format!(", and {number} migration(s) of a newer one, which it can work with"),
        };
        format!(
            "format {} is asked for, this release knows {FORMAT_VERSION}{newer}",
            self.format_min
        )
    }

    /// # Errors
    /// The floor is above what this release knows.
    fn allows(&self, schema: &str) -> Result<(), Fault> {
        if self.format_min <= FORMAT_VERSION {
            return Ok(());
        }
        let message = format!(
            "this release is too old for the tables in schema {schema}: they ask for format {}, \
             and it knows {FORMAT_VERSION}",
            self.format_min
        );
        Err(mismatch(message, TOO_OLD))
    }
}

/// One row of the migrator's table.
type Applied = (i64, Vec<u8>, bool);

impl StateTables {
    /// Looks; changes nothing.
    ///
    /// # Errors
    /// This release is too old for the tables, they are of another one's making, or whatever
    /// Postgres answers.
    pub async fn standing(&self, connection: &mut PgConnection) -> Result<Standing, Fault> {
        let deadline = self.deadline;
        // By the catalogue, which everybody may read: a schema that may not be used is no schema
        // that is not there.
        let there = sqlx::query_as::<_, (bool, bool, bool)>(
            "select count(distinct n.oid) > 0, count(*) filter (where c.relname = \
             '_sqlx_migrations') > 0, count(*) filter (where c.relname = 'release') > 0 from \
             pg_namespace as n left join pg_class as c on c.relnamespace = n.oid and c.relkind = \
             'r' where n.nspname = $1",
        )
        .bind(self.plain_schema.as_ref());
        let (schema_exists, migrated, floored) =
            with_deadline(deadline, there.fetch_one(&mut *connection)).await?;
        let mut applied: Vec<Applied> = Vec::new();
        if migrated {
            let sql =
                format!("select version, checksum, success from {}._sqlx_migrations", self.schema);
            let query = sqlx::query_as(AssertSqlSafe(sql));
            applied = with_deadline(deadline, query.fetch_all(&mut *connection)).await?;
        }
        let mut format_min = 1;
        if floored {
            let sql = AssertSqlSafe(format!(
                "select coalesce(max(format_min), 1) from {}.release",
                self.schema
            ));
            let query = sqlx::query_scalar::<_, i32>(sql);
            format_min = with_deadline(deadline, query.fetch_one(&mut *connection)).await?;
        }
        let (missing, newer) = self.compared(&applied)?;
        let standing = Standing { schema_exists, missing, newer, format_min };
        standing.allows(&self.plain_schema)?;
        Ok(standing)
    }

    /// Compares the migrations that the tables have had with this release's: which are missing, and
    /// which it does not know.
    fn compared(&self, applied: &[Applied]) -> Result<(Vec<i64>, Vec<i64>), Fault> {
        let schema = &self.plain_schema;
        for (version, checksum, success) in applied {
            let known = MIGRATIONS.iter().find(|known| known.version == *version);
            if !success || known.is_some_and(|known| *known.checksum != **checksum) {
                let message = format!(
                    "migration {version} in schema {schema} is not this release's, or was cut off"
                );
                return Err(mismatch(
                    message,
                    "give this release a state_schema of its own, or restore this one",
                ));
            }
        }
        let had: BTreeSet<i64> = applied.iter().map(|(version, ..)| *version).collect();
        let known: BTreeSet<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        Ok((known.difference(&had).copied().collect(), had.difference(&known).copied().collect()))
    }

    /// Creates or upgrades tidemark's own tables, if anything is missing. Returns how many
    /// migrations were run. The connection is not to be used for anything else: names without a
    /// schema are in the state schema from now on.
    ///
    /// # Errors
    /// As [`StateTables::standing`]; a lock was not had in time, and by whom it is held; whatever
    /// Postgres refuses.
    pub async fn migrate(&self, connection: &mut PgConnection) -> Result<usize, Fault> {
        let standing = self.standing(connection).await?;
        if standing.missing.is_empty() {
            return Ok(0);
        }
        let (deadline, schema) = (self.deadline, &self.schema);
        if !standing.schema_exists {
            let create = AssertSqlSafe(format!("create schema if not exists {schema}"));
            with_deadline(deadline, sqlx::raw_sql(create).execute(&mut *connection)).await?;
        }
        let session = AssertSqlSafe(format!("set search_path = {schema}; set {}", lock_timeout()));
        with_deadline(deadline, sqlx::raw_sql(session).execute(&mut *connection)).await?;
        let mut known = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
        known.set_ignore_missing(true);
        let mut locked = false;
        let run = with_deadline(deadline * 4, async {
            let ran = known.run_direct(None, &mut *connection, false).await.map_err(answer);
            locked = ran.as_ref().is_err_and(is_lock_timeout);
            ran
        });
        match run.await {
            Err(_) if locked => Err(self.locked_out(connection).await),
            ran => ran.map(|()| standing.missing.len()),
        }
    }

    async fn locked_out(&self, connection: &mut PgConnection) -> Fault {
        let tables = "select c.oid from pg_catalog.pg_class as c \
                      join pg_catalog.pg_namespace as n on n.oid = c.relnamespace where n.nspname \
                      = $1";
        let shown = format!("schema {}", self.plain_schema);
        held(connection, &self.target, &shown, tables, &self.plain_schema).await
    }
}

/// The names of tidemark's own tables, as its migrations make them.
pub fn own_tables() -> Vec<&'static str> {
    let lines = MIGRATIONS.iter().flat_map(|migration| migration.sql.as_str().lines());
    lines.filter_map(|line| line.strip_prefix("create table ")?.split(' ').next()).collect()
}

/// Postgres's own error out of the migrator's.
fn answer(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        other => other.into(),
    }
}

fn mismatch(message: String, hint: &'static str) -> Fault {
    Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_works_on_what_was_added_since_and_not_below_the_floor() {
        let newer = |format_min| Standing {
            schema_exists: true,
            missing: vec![],
            newer: vec![99],
            format_min,
        };
        assert!(newer(FORMAT_VERSION).allows("s").is_ok());
        assert!(newer(FORMAT_VERSION).format().contains("1 migration(s) of a newer one"));
        let refused = newer(FORMAT_VERSION + 1).allows("s").unwrap_err();
        assert!(refused.message.contains("too old for the tables in schema s"), "{refused}");
        assert!(is_too_old(&refused) && !is_too_old(&mismatch(refused.message, "")));
    }

    #[test]
    fn the_tables_are_those_that_the_migrations_make() {
        let tables = own_tables();
        assert!(
            ["checkpoint", "command", "incident", "release"]
                .iter()
                .all(|name| tables.contains(name)),
            "{tables:?}"
        );
    }
}
