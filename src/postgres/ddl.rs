//! Changes of a schema: each in a transaction of its own, which waits for locks only briefly, since
//! every reader that comes after it waits behind it; and who holds the lock that was not had.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{AssertSqlSafe, Connection};

use super::call::{close, with_deadline};
use super::connection_errors::classify;
use super::target::Target;
use crate::error::{Class, Code, Fault};

/// How long a change waits for a lock. Readers that come meanwhile wait as long.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// One after the other, in whatever process: two that create one table at once would collide.
const ADVISORY_LOCK: i32 = 0x7469_6465;

/// Sessions named, of those that hold a lock.
const NAMED_MAX: i64 = 3;

/// Changes a table by these statements, all or none. `name` is quoted for SQL, `shown` for people.
///
/// # Errors
/// A lock was not had in time: transient, and it says who holds it. Or whatever Postgres refuses.
pub async fn change(
    target: &Target,
    name: &str,
    shown: &str,
    statements: &[String],
) -> Result<(), Fault> {
    let mut connection = target.connect().await?;
    let changed = match attempt(&mut connection, target, statements).await {
        Err(error) if is_lock_timeout(&error) => {
            let tables = "select to_regclass($1)::oid union select relid::oid from \
                          pg_partition_tree(to_regclass($1))";
            Err(held(&mut connection, target, shown, tables, name).await)
        }
        changed => changed.map_err(|error| classify(&error)),
    };
    close(connection).await;
    changed
}

async fn attempt(
    connection: &mut PgConnection,
    target: &Target,
    statements: &[String],
) -> Result<(), sqlx::Error> {
    let all = async {
        let mut transaction = connection.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(format!("set local {}", lock_timeout())))
            .execute(&mut *transaction)
            .await?;
        let alone = sqlx::query("select pg_advisory_xact_lock($1, 0)").bind(ADVISORY_LOCK);
        alone.execute(&mut *transaction).await?;
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    };
    match tokio::time::timeout(target.deadline(), all).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// The setting, for a session or a transaction.
pub fn lock_timeout() -> String {
    format!("lock_timeout = {}", LOCK_TIMEOUT.as_millis())
}

pub fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(answered) = error else { return false };
    answered.downcast_ref::<PgDatabaseError>().code() == "55P03"
}

/// What keeps a change from being made: the sessions with locks on these tables, the one that began
/// first before the others. `tables` is a query of oids with one text parameter.
pub async fn held(
    connection: &mut PgConnection,
    target: &Target,
    shown: &str,
    tables: &'static str,
    parameter: &str,
) -> Fault {
    let sql = AssertSqlSafe(format!(
        "select l.pid, a.usename::text, a.application_name, extract(epoch from clock_timestamp() - \
         a.xact_start)::float8 from (select distinct pid from pg_locks where granted and pid is \
         distinct from pg_backend_pid() and database = (select oid from pg_database where datname \
         = current_database()) and (locktype = 'relation' and relation in ({tables}) or locktype = \
         'advisory' and classid = {ADVISORY_LOCK} and objsubid = 2)) as l left join \
         pg_stat_activity as a on a.pid = l.pid order by a.xact_start limit $2"
    ));
    let query = sqlx::query_as::<_, Holder>(sql).bind(parameter).bind(NAMED_MAX);
    let holders =
        with_deadline(target.deadline(), query.fetch_all(connection)).await.unwrap_or_default();
    let named: Vec<String> = holders.iter().map(holder).collect();
    let by = match named.as_slice() {
        [] => "somebody who is gone by now".to_owned(),
        some => some.join(", "),
    };
    let message = format!("{shown} cannot be changed yet: it is locked by {by}");
    let hint = "end that transaction; it is tried again, and readers are kept waiting only briefly \
                each time";
    Fault::new(Class::Transient, Code::TargetSchemaMismatch, message, hint)
}

/// Process, user, application, seconds since its transaction began; no process for one that was
/// prepared, no seconds where another's may not be seen.
type Holder = (Option<i32>, Option<String>, Option<String>, Option<f64>);

fn holder((pid, user, application, seconds): &Holder) -> String {
    let Some(pid) = pid else { return "a prepared transaction (see pg_prepared_xacts)".to_owned() };
    // Both are what its client chose to be called.
    let name = |text: &Option<String>| -> String {
        text.iter().flat_map(|text| text.chars()).filter(|c| !c.is_control()).take(64).collect()
    };
    let since = seconds.map_or_else(String::new, |seconds| format!(", for {seconds:.0} s"));
    format!("process {pid} (user {}, application {:?}{since})", name(user), name(application))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_as_far_as_it_may_be_seen() {
        let text = |text: &str| Some(text.to_owned());
        let seen = holder(&(Some(7), text("mary"), text("psql\x1b[2J"), Some(61.7)));
        assert_eq!(seen, "process 7 (user mary, application \"psql[2J\", for 62 s)");
        assert_eq!(
            holder(&(Some(7), text("mary"), text(""), None)),
            "process 7 (user mary, application \"\")"
        );
        assert!(holder(&(None, None, None, None)).contains("pg_prepared_xacts"));
    }
}
