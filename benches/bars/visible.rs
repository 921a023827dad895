//! How long a write takes to become visible: from its acknowledgement by MongoDB, and from its
//! arrival on a bare change stream, to its row being there for another session of Postgres.
//! Measured in the same way whoever writes the rows.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use mongodb::bson::{Document, doc};
use mongodb::{Collection, Database};
use sqlx::postgres::PgListener;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Writes before those that count: caches are filled and statements prepared.
const WARM: usize = 20;

/// Quiet between two writes, where it is to be quiet.
pub const PAUSE: Duration = Duration::from_millis(20);

/// Milliseconds of each write that was measured.
#[derive(Default)]
pub struct Latencies {
    pub after_acknowledged: Vec<f64>,
    /// Less than nothing where the row was there first.
    pub over_bare: Vec<f64>,
    /// A bare commit's, beside each: the floor on this machine, at this time.
    pub of_commits: Vec<f64>,
}

impl Latencies {
    pub fn add(&mut self, other: Self) {
        self.after_acknowledged.extend(other.after_acknowledged);
        self.over_bare.extend(other.over_bare);
        self.of_commits.extend(other.of_commits);
    }
}

/// The share's quantile.
pub fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Documents that are written one at a time and watched for in Postgres.
pub struct Watched {
    source: Database,
    collections: Vec<Collection<Document>>,
    listener: PgListener,
    written: usize,
    /// Commits one row beside each write, where that is wanted.
    committer: Option<PgConnection>,
}

impl Watched {
    /// `tables` tell of the rows of watched documents from now on, all in the same way: a trigger
    /// that notifies at commit.
    pub async fn new(
        source: &Database,
        collections: &[String],
        url: &str,
        tables: &[String],
    ) -> Self {
        let mut pg = PgConnection::connect(url).await.unwrap();
        let function = "create or replace function told() returns trigger language plpgsql as $$ \
                        begin perform pg_notify('told', new.id); return null; end $$";
        sqlx::raw_sql(function).execute(&mut pg).await.unwrap();
        for table in tables {
            let trigger = format!(
                "create trigger told after insert or update on {table} for each row when (new.id \
                 like 'late%') execute function told()"
            );
            sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&mut pg).await.unwrap();
        }
        let mut listener = PgListener::connect(url).await.unwrap();
        listener.listen("told").await.unwrap();
        let collections = collections.iter().map(|name| source.collection(name)).collect();
        Self { source: source.clone(), collections, listener, written: 0, committer: None }
    }

    /// From now on one row is changed and committed, by one statement, in the midst of each pause,
    /// and watched for in the same way.
    pub async fn beside_commits(mut self, url: &str) -> Self {
        let mut pg = PgConnection::connect(url).await.unwrap();
        let sql = "create table bare (id text); insert into bare values ('bare'); create trigger \
                   told after update on bare for each row execute function told()";
        sqlx::raw_sql(sql).execute(&mut pg).await.unwrap();
        self.committer = Some(pg);
        self
    }

    /// Writes one after the other, each once the one before is visible and after a pause: an
    /// insert, a replacement and an update by turns, spread over the collections.
    pub async fn write(&mut self, number: usize, pause: Duration) -> Latencies {
        // What is written beside these is not for the bare stream to decode.
        let late = doc! { "$match": { "documentKey._id": { "$regex": "^late" } } };
        let mut bare = self.source.watch().pipeline([late]).await.unwrap();
        let mut all = Latencies::default();
        for n in 0..WARM + number {
            let id = self.write_one().await;
            let acknowledged = Instant::now();
            let (arrived, visible) = tokio::join!(
                async {
                    bare.next().await.unwrap().unwrap();
                    Instant::now()
                },
                async {
                    let seen = tokio::time::timeout(Duration::from_secs(30), self.listener.recv());
                    assert_eq!(seen.await.unwrap().unwrap().payload(), id);
                    Instant::now()
                }
            );
            if n >= WARM {
                all.after_acknowledged.push(millis(acknowledged, visible));
                all.over_bare.push(millis(arrived, visible));
            }
            tokio::time::sleep(pause / 2).await;
            all.of_commits.extend(self.commit_one().await);
            tokio::time::sleep(pause / 2).await;
        }
        all
    }

    /// Milliseconds from before a bare commit until it is told of.
    async fn commit_one(&mut self) -> Option<f64> {
        let committer = self.committer.as_mut()?;
        let begun = Instant::now();
        sqlx::query("update bare set id = id").execute(committer).await.unwrap();
        assert_eq!(self.listener.recv().await.unwrap().payload(), "bare");
        Some(millis(begun, Instant::now()))
    }

    /// Writes one and returns its id.
    async fn write_one(&mut self) -> String {
        let (number, kind) = (self.written / 3, self.written % 3);
        self.written += 1;
        // A prime step, so that it is another part of them each time.
        let collection = &self.collections[number * 7_919 % self.collections.len()];
        let id = format!("late{number}");
        let number = i64::try_from(kind).unwrap_or_default();
        let document = doc! { "_id": &id, "doctorLastName": "Smith", "n": number };
        let which = doc! { "_id": &id };
        match kind {
            0 => drop(collection.insert_one(document).await.unwrap()),
            1 => drop(collection.replace_one(which, document).await.unwrap()),
            _ => {
                let set = doc! { "$set": { "doctorLastName": "Jones" } };
                collection.update_one(which, set).await.unwrap();
            }
        }
        id
    }
}

fn millis(from: Instant, to: Instant) -> f64 {
    let forward = to.saturating_duration_since(from).as_secs_f64();
    (forward - from.saturating_duration_since(to).as_secs_f64()) * 1_000.0
}
