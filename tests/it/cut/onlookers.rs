//! Who looks at the tables meanwhile: at their sum, and at every table beside its collection as it
//! was at the very time that the table is said to show.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::bson::{Document, Timestamp, doc};
use mongodb::{Client, Database};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use super::accounts::{ACCOUNTS, NUMBER, TOTAL};

/// What onlookers have seen.
#[derive(Debug, Default)]
pub struct Seen {
    pub snapshots: u64,
    pub exact: u64,
    /// Cluster times at which the tables were exact.
    pub moments: u64,
    /// How long they were not, each time.
    pub inexact: Vec<Duration>,
    /// What must not be.
    pub wrong: Vec<String>,
    /// Sums that were wrong and said to be: they show that a wrong one would be seen.
    pub wrong_and_said_so: u64,
}

impl Seen {
    /// Looks at the sum until told to stop.
    pub async fn sums(url: String, stop: CancellationToken) -> Self {
        let mut pg = PgConnection::connect(&url).await.unwrap();
        let (mut seen, mut last, mut since) = (Self::default(), 0, None::<Instant>);
        while !stop.is_cancelled() {
            let Look { is_exact, at, sum, number } = look(&mut pg).await.unwrap();
            let is_right = (sum, number) == (TOTAL, NUMBER);
            seen.snapshots += 1;
            if is_exact {
                seen.exact += 1;
                seen.moments += u64::from(at > last);
                seen.inexact.extend(since.take().map(|since| since.elapsed()));
                if !is_right {
                    seen.wrong.push(format!("{sum} in {number} at {}", shown(at)));
                }
            } else {
                seen.wrong_and_said_so += u64::from(!is_right);
                since.get_or_insert_with(Instant::now);
            }
            if at < last {
                seen.wrong.push(format!("the position went back from {last} to {at}"));
            }
            last = at;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        seen.inexact.extend(since.map(|since| since.elapsed()));
        seen
    }

    pub fn add(&mut self, other: Self) {
        self.snapshots += other.snapshots;
        self.exact += other.exact;
        self.moments = self.moments.max(other.moments);
        // All of them look at the same tables.
        if other.not_exact() > self.not_exact() {
            self.inexact = other.inexact;
        }
        self.wrong.extend(other.wrong);
        self.wrong_and_said_so += other.wrong_and_said_so;
    }

    fn not_exact(&self) -> Duration {
        self.inexact.iter().sum()
    }

    pub fn told(&self) -> String {
        let not_exact = self.not_exact();
        format!(
            "{} snapshots, {} of them exact, of {} moments; not exact for {not_exact:.1?}, in {} \
             spells, the longest {:.1?}; wrong while exact {}, wrong while not {}",
            self.snapshots,
            self.exact,
            self.moments,
            self.inexact.len(),
            self.inexact.iter().max().copied().unwrap_or_default(),
            self.wrong.len(),
            self.wrong_and_said_so
        )
    }
}

/// What one snapshot shows, and of when all of it says it is.
pub struct Look {
    pub is_exact: bool,
    at: i64,
    sum: i64,
    number: i64,
}

type Snapshot<'c> = Transaction<'c, Postgres>;

async fn begin(pg: &mut PgConnection) -> sqlx::Result<Snapshot<'_>> {
    pg.begin_with("begin isolation level repeatable read read only").await
}

pub async fn look(pg: &mut PgConnection) -> sqlx::Result<Look> {
    let mut snapshot = begin(pg).await?;
    let said = "select count(*) = 3 and bool_and(exact), coalesce(min(cluster_time), 0) from \
                tidemark.position";
    let (is_exact, at): (bool, i64) = sqlx::query_as(said).fetch_one(&mut *snapshot).await?;
    let tables = ACCOUNTS.map(|table| format!("select amount from public.{table}"));
    let sum = "select coalesce(sum(amount), 0)::bigint, count(*) from";
    let sql = format!("{sum} ({}) as accounts", tables.join(" union all "));
    let (sum, number) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut *snapshot).await?;
    snapshot.commit().await?;
    Ok(Look { is_exact, at, sum, number })
}

/// An account: its number, amount, and how often it was changed.
type Account = (i64, i64, i64);

/// What came of comparing tables with their collections.
#[derive(Debug, Default)]
pub struct Compared {
    pub tables: u64,
    /// The source no longer had, or could not tell, what there was at the time.
    pub untold: u64,
    pub unlike: Vec<String>,
}

impl Compared {
    /// Compares until told to stop.
    pub async fn with_source(url: String, database: Database, stop: CancellationToken) -> Self {
        let mut pg = PgConnection::connect(&url).await.unwrap();
        let (mut compared, mut last) = (Self::default(), 0);
        while !stop.is_cancelled() {
            let shown = exact_tables(&mut pg).await.unwrap();
            let newest = shown.iter().map(|(_, at, _)| *at).max().unwrap_or_default();
            for (table, at, rows) in shown {
                match documents(&database, table, at).await {
                    Ok(documents) if at > 0 => compared.one(table, at, &rows, &documents),
                    _ => compared.untold += 1,
                }
            }
            let pause = if newest == last { 20 } else { 5 };
            last = newest;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        compared
    }

    fn one(&mut self, table: &str, at: i64, rows: &[Account], documents: &[Account]) {
        self.tables += 1;
        if rows != documents {
            let not_in = |these: &[Account], those: &[Account]| -> Vec<Account> {
                these.iter().filter(|one| !those.contains(one)).copied().collect()
            };
            self.unlike.push(format!(
                "{table} at {}: rows {:?}, documents {:?}",
                self::shown(at),
                not_in(rows, documents),
                not_in(documents, rows)
            ));
        }
    }
}

/// The tables that are said to be exact, and of when.
async fn exact_tables(
    pg: &mut PgConnection,
) -> sqlx::Result<Vec<(&'static str, i64, Vec<Account>)>> {
    let mut snapshot = begin(pg).await?;
    let mut shown = Vec::new();
    for table in ACCOUNTS {
        let said = "select cluster_time from tidemark.position where stream = $1 and exact";
        let at: Option<i64> =
            sqlx::query_scalar(said).bind(table).fetch_optional(&mut *snapshot).await?;
        let Some(at) = at else { continue };
        let sql = format!("select n, amount, moves from public.{table} order by n");
        let rows = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *snapshot).await?;
        shown.push((table, at, rows));
    }
    snapshot.commit().await?;
    Ok(shown)
}

/// A collection as it was at one time.
async fn documents(
    database: &Database,
    collection: &str,
    at: i64,
) -> mongodb::error::Result<Vec<Account>> {
    let at = at.cast_unsigned();
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a cluster time")]
    let at = Timestamp { time: (at >> 32) as u32, increment: at as u32 };
    let find = doc! {
        "find": collection, "sort": { "n": 1 }, "batchSize": 1_000, "maxTimeMS": 2_000,
        "readConcern": { "level": "snapshot", "atClusterTime": at },
    };
    let found: Vec<Document> = database.run_cursor_command(find).await?.try_collect().await?;
    let number = |document: &Document, name: &str| {
        let value = document.get(name);
        value.and_then(|v| v.as_i64().or(v.as_i32().map(i64::from))).unwrap_or(-1)
    };
    let account = |document: &Document| {
        (number(document, "n"), number(document, "amount"), number(document, "moves"))
    };
    Ok(found.iter().map(account).collect())
}

pub async fn source(uri: &str, database: &str) -> Database {
    Client::with_uri_str(uri).await.unwrap().database(database)
}

fn shown(at: i64) -> String {
    format!("{}.{}", at >> 32, at & 0xffff_ffff)
}
