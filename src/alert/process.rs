//! The register of processes: which of those before this one have died.

use std::path::Path;
use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use crate::alert::incident::store::{DEADLINE, Store};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// A process that has not registered again for so long has died, or cannot reach Postgres.
const SILENT_SECONDS: f64 = 15.0;

/// The same of one that had this process's own name: a container that was started again, most
/// likely.
const SILENT_NAMESAKE_SECONDS: f64 = 5.0;

/// This process, among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Host and number, for people.
    pub holder: String,
    /// Where its number can be looked up: host and process namespace; `None` where that cannot be
    /// told.
    place: Option<String>,
}

/// One that has not said that it ended.
#[derive(Debug, FromRow)]
struct Other {
    id: Uuid,
    holder: String,
    place: Option<String>,
    /// For how long it has not registered again.
    silent: f64,
}

impl Process {
    pub fn new(holder: &str) -> Self {
        let host = holder.rsplit_once('/').map_or(holder, |(host, _)| host);
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
        let place = namespace.map(|namespace| format!("{host} {}", namespace.display()));
        Self { holder: holder.to_owned(), place }
    }
}

impl Other {
    /// `runs` tells of a number whether a process of this place has it now.
    fn is_dead(&self, me: &Process, runs: impl Fn(&str) -> bool) -> bool {
        let number = self.holder.rsplit('/').next().unwrap_or_default();
        if self.silent > SILENT_SECONDS {
            true
        } else if self.holder == me.holder {
            self.silent > SILENT_NAMESAKE_SECONDS
        } else {
            self.place.is_some() && self.place == me.place && !runs(number)
        }
    }
}

impl Store {
    /// Processes of this service and environment begun in the last ten minutes that have ended
    /// without saying so.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn dead(&self, me: &Process) -> Result<Vec<Uuid>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, holder, place, extract(epoch from clock_timestamp() - seen_at)::float8 as \
             silent from {}.process where service = $1 and environment = $3 and id <> $2 and \
             ended_at is null and started_at > now() - interval '10 minutes'",
            self.schema
        ));
        let query = sqlx::query_as::<_, Other>(sql)
            .bind(&*self.service)
            .bind(self.process())
            .bind(&*self.environment);
        let others = with_deadline(DEADLINE, query.fetch_all(self.pool())).await?;
        let runs = |number: &str| Path::new("/proc").join(number).exists();
        Ok(others
            .into_iter()
            .filter(|other| other.is_dead(me, runs))
            .map(|other| other.id)
            .collect())
    }

    /// This process runs.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn register(&self, me: &Process) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "with old as (delete from {0}.process where started_at < now() - interval '1 day' and \
             id <> $1) insert into {0}.process (id, service, environment, holder, version, place) \
             values ($1, $2, $6, $3, $4, $5) on conflict (id) do update set seen_at = now()",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(self.process())
            .bind(&*self.service)
            .bind(&me.holder)
            .bind(crate::VERSION)
            .bind(&me.place)
            .bind(&*self.environment);
        with_deadline(DEADLINE, query.execute(self.pool())).await.map(drop)
    }

    /// This process ends because it was told to.
    pub async fn ends(&self) {
        let sql = AssertSqlSafe(format!(
            "update {}.process set ended_at = now() where id = $1",
            self.schema
        ));
        let _ = with_deadline(
            Duration::from_secs(1),
            sqlx::query(sql).bind(self.process()).execute(self.pool()),
        )
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_of_this_place_are_known_at_once_and_those_of_others_by_their_silence() {
        let here = Some("a 1".to_owned());
        let me = Process { holder: "a/7".into(), place: here.clone() };
        let dead = |holder: &str, place: Option<&str>, silent| {
            let other = Other {
                id: Uuid::nil(),
                holder: holder.into(),
                place: place.map(str::to_owned),
                silent,
            };
            other.is_dead(&me, |number| number == "9")
        };
        assert!(dead("a/8", Some("a 1"), 0.1), "its number is no process's any more");
        assert!(!dead("a/9", Some("a 1"), 14.0), "it runs");
        assert!(!dead("a/8", Some("a 2"), 14.0), "the number is of another place");
        assert!(!dead("b/8", None, 14.0) && dead("b/8", None, 16.0), "another host");
        assert!(
            !dead("a/7", Some("a 2"), 2.0) && dead("a/7", Some("a 2"), 6.0),
            "the container before this one"
        );
        assert!(dead("a/9", Some("a 1"), 16.0), "it runs, but is of no use");
    }
}
