//! Source and table side by side: what is missing, extra or different. Changes nothing.
//!
//! The stream may be followed meanwhile. What differs at first sight is looked at again once the stream has passed the
//! time of the first look, so that only what stays different is reported.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::apply::{Mapping, Rows, Statements, row_arguments};
use crate::checkpoint::Checkpoints;
use crate::error::Fault;
use crate::model::bson::{Builder, Doc, Value};
use crate::model::namespace::Table;
use crate::model::position::ClusterTime;
use crate::model::value::encode_id;
use crate::postgres::{Target, Trouble, Whose, about_rows, within};
use crate::resync::{Chunk, Place, Reading};
use crate::settings::{Settings, Stream};
use crate::source::Source;

/// Differences looked at a second time, and ids kept, at most.
const KEPT_MAX: usize = 10_000;

/// Ids in the report, of each kind.
const SHOWN_MAX: usize = 10;

/// How long the stream is waited for before what differs is looked at again.
const PATIENCE: Duration = Duration::from_secs(15);

const LOOKS: usize = 3;

/// What a comparison found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Compared {
    pub stream: String,
    pub documents: u64,
    pub rows: u64,
    pub missing: u64,
    /// `None` where not looked for.
    pub extra: Option<u64>,
    pub different: u64,
    pub missing_ids: Vec<String>,
    pub extra_ids: Vec<String>,
    pub different_ids: Vec<String>,
    pub seconds: f64,
    pub note: Option<String>,
}

impl Compared {
    pub fn is_equal(&self) -> bool {
        self.missing == 0 && self.extra.unwrap_or(0) == 0 && self.different == 0
    }
}

/// One document whose row is not there or not the same: its raw `_id`, as `{"": _id}`.
struct Suspect {
    raw_id: Vec<u8>,
    missing: bool,
}

/// How much is compared, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// This many documents picked at random, instead of all.
    pub sample: Option<u64>,
    /// 0 = no limit.
    pub documents_per_second_max: u64,
}

struct Comparison<'a> {
    source: Source,
    checkpoints: &'a Checkpoints,
    target: &'a Target,
    connection: PgConnection,
    config: &'a Stream,
    settings: &'a Settings,
    plan: Plan,
    mapping: Mapping,
    statements: Statements,
    table: Table,
    suspects: HashMap<String, Suspect>,
    found: Compared,
}

/// Compares all documents, or a sample of them.
///
/// # Errors
/// Whatever either end answers.
pub async fn compare(
    settings: &Settings,
    target: &Target,
    checkpoints: &Checkpoints,
    config: &Stream,
    plan: Plan,
) -> Result<Compared, Fault> {
    let begun = Instant::now();
    let table = Table { schema: settings.target.schema.clone(), name: config.table.clone() };
    let mut comparison = Comparison {
        source: Source::new(settings).await?,
        checkpoints,
        target,
        connection: target.connect().await?,
        config,
        settings,
        plan,
        mapping: Mapping::new(&config.columns, settings.row),
        statements: Statements::new(&table, &config.columns),
        table,
        suspects: HashMap::new(),
        found: Compared { stream: config.name.clone(), ..Compared::default() },
    };
    let started = comparison.source.now().await?;
    match plan.sample {
        Some(size) => comparison.sample(size, started).await?,
        None => comparison.all(started).await?,
    }
    comparison.settle(started, plan.sample.is_none()).await?;
    let mut found = comparison.found;
    found.seconds = begun.elapsed().as_secs_f64();
    Ok(found)
}

impl Comparison<'_> {
    async fn all(&mut self, started: ClusterTime) -> Result<(), Fault> {
        let temporary = "create temp table tidemark_seen (id text) on commit preserve rows; set statement_timeout = 0";
        within(self.target.deadline(), sqlx::raw_sql(temporary).execute(&mut self.connection)).await?;
        let reading = Reading {
            collection: self.config.collection.clone(),
            documents_max: self.settings.resync.chunk_documents,
            bytes_max: self.settings.batch.bytes_max,
            after: started,
        };
        let mut place = Place::default();
        let begun = Instant::now();
        while !place.is_end() {
            let mut chunk = Chunk::at(place, true);
            chunk.read(&self.source, &self.mapping, &reading).await?;
            self.found.documents += chunk.documents;
            let insert = sqlx::query("insert into tidemark_seen select unnest($1::text[])")
                .bind(chunk.seen.as_ref().map(|seen| &seen.ids));
            within(self.target.deadline(), insert.execute(&mut self.connection)).await?;
            let raw = |origin: usize| {
                let mut items = chunk.replies.iter().flat_map(crate::source::Reply::items);
                items.nth(origin)
            };
            let differing = self.differing(&chunk.rows).await?;
            self.suspect(&chunk.rows, differing, raw);
            place = chunk.place;
            self.slow_down(begun).await;
        }
        let count = AssertSqlSafe(format!("select count(*) from {}", self.table.sql()));
        let rows = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.connection).await;
        self.found.rows = u64::try_from(within(self.target.deadline(), async { rows }).await?).unwrap_or_default();
        Ok(())
    }

    /// Under the limit, which is about the load on the source.
    async fn slow_down(&self, begun: Instant) {
        let limit = self.plan.documents_per_second_max;
        if limit > 0 {
            let documents = u32::try_from(self.found.documents).unwrap_or(u32::MAX);
            let due = f64::from(documents) / f64::from(u32::try_from(limit).unwrap_or(u32::MAX));
            tokio::time::sleep(Duration::from_secs_f64(due).saturating_sub(begun.elapsed())).await;
        }
    }

    async fn sample(&mut self, size: u64, started: ClusterTime) -> Result<(), Fault> {
        let mut documents = self.source.sample(&self.config.collection, size, started).await?;
        while let Some(reply) = documents.next().await? {
            self.found.documents += crate::status::count(reply.len());
            let rows = self.encode(reply.items(), started);
            let differing = self.differing(&rows).await?;
            self.suspect(&rows, differing, |origin| reply.items().nth(origin));
        }
        self.found.rows = self.found.documents;
        Ok(())
    }

    fn encode<'d>(&self, documents: impl Iterator<Item = &'d [u8]>, at: ClusterTime) -> Rows {
        let mut rows = Rows::default();
        let mut drift = crate::apply::Drift::default();
        for (origin, bytes) in documents.enumerate() {
            let Some((id, document)) = id_of(bytes) else { continue };
            // What cannot be read is a dead letter of the daemon's, and no difference.
            let _ = self.mapping.encode(&id, document, at, origin, &mut rows, &mut drift);
        }
        rows
    }

    /// The ids among these rows that the table lacks (true) or has otherwise (false).
    async fn differing(&mut self, rows: &Rows) -> Result<Vec<(String, bool)>, Fault> {
        let mut all = Vec::new();
        let mut ranges: Vec<Range<usize>> = std::iter::once(0..rows.len()).collect();
        while let Some(range) = ranges.pop() {
            let arguments = row_arguments(rows, range.clone(), &self.config.columns)?;
            let sql = AssertSqlSafe(self.statements.compare.to_string());
            let query = sqlx::query_as_with::<_, (String, bool), _>(sql, arguments).fetch_all(&mut self.connection);
            match about_rows(self.target.deadline(), query).await {
                Ok(differing) => all.extend(differing),
                // A row Postgres cannot hold is a dead letter of the daemon's, and no difference.
                Err(Trouble::Refused(refusal)) if refusal.whose == Whose::Row => {
                    let middle = range.start + range.len() / 2;
                    if range.len() > 1 {
                        ranges.extend([middle..range.end, range.start..middle]);
                    }
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Ok(all)
    }

    fn suspect<'d>(&mut self, rows: &Rows, differing: Vec<(String, bool)>, raw: impl Fn(usize) -> Option<&'d [u8]>) {
        let by_id: HashMap<&str, usize> = (0..rows.len()).filter_map(|n| Some((rows.id(n)?, n))).collect();
        for (id, missing) in differing {
            let document = by_id.get(id.as_str()).and_then(|&row| raw(rows.origin(row)?));
            let raw_id = document.and_then(|bytes| Doc::new(bytes).ok()?.get("_id").ok()?);
            let Some(raw_id) = raw_id.filter(|_| self.suspects.len() < KEPT_MAX) else {
                *(if missing { &mut self.found.missing } else { &mut self.found.different }) += 1;
                continue;
            };
            let raw_id = Builder::default().value("", raw_id).finish();
            self.suspects.insert(id, Suspect { raw_id, missing });
        }
    }

    /// Looks again at what differed, once the stream has passed the present time; reports what stays.
    async fn settle(&mut self, started: ClusterTime, look_for_extra: bool) -> Result<(), Fault> {
        for _ in 0..LOOKS {
            if self.suspects.is_empty() {
                break;
            }
            self.catch_up().await?;
            self.look_again().await?;
        }
        if look_for_extra {
            self.catch_up().await?;
            self.extra(started).await?;
        }
        for (id, suspect) in std::mem::take(&mut self.suspects) {
            let (number, ids) = if suspect.missing {
                (&mut self.found.missing, &mut self.found.missing_ids)
            } else {
                (&mut self.found.different, &mut self.found.different_ids)
            };
            *number += 1;
            if ids.len() < SHOWN_MAX {
                ids.push(id);
            }
        }
        Ok(())
    }

    /// Waits until the stream's position has passed the source's present time; not for ever: it may be down.
    async fn catch_up(&mut self) -> Result<(), Fault> {
        let now = self.source.now().await?;
        let begun = Instant::now();
        loop {
            let stored = self.checkpoints.load(&self.config.name).await?;
            let position = stored.and_then(|stored| stored.cluster_time).map(ClusterTime::from_sql);
            if position.is_some_and(|position| position >= now) {
                return Ok(());
            }
            let led = self.checkpoints.leases().await?.iter().any(|held| held.stream == self.config.name && held.live);
            if !led || begun.elapsed() > PATIENCE {
                let note = "the stream has not caught up: what it has still to apply counts as a difference";
                self.found.note = Some(note.to_owned());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn look_again(&mut self) -> Result<(), Fault> {
        let now = self.source.now().await?;
        let suspects = std::mem::take(&mut self.suspects);
        let raw_ids: Vec<Vec<u8>> = suspects.into_values().map(|suspect| suspect.raw_id).collect();
        for part in raw_ids.chunks(self.settings.resync.chunk_documents.max(1)) {
            let ids: Vec<Value<'_>> = part.iter().filter_map(|raw| Doc::new(raw).ok()?.get("").ok()?).collect();
            let mut documents = self.source.lookup(&self.config.collection, &ids, now).await?;
            while let Some(reply) = documents.next().await? {
                let rows = self.encode(reply.items(), now);
                let differing = self.differing(&rows).await?;
                self.suspect(&rows, differing, |origin| reply.items().nth(origin));
            }
        }
        Ok(())
    }

    /// Rows the walk did not meet and that are older than its start: the source does not have them.
    async fn extra(&mut self, started: ClusterTime) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "with extra as (select t.id from {} as t where t._cluster_time < $1 \
                 and not exists (select from tidemark_seen as s where s.id = t.id)) \
             select (select count(*) from extra), coalesce((select array_agg(id) from (select id from extra limit $2) as e), '{{}}')",
            self.table.sql()
        ));
        let query = sqlx::query_as::<_, (i64, Vec<String>)>(sql)
            .bind(started.to_sql())
            .bind(i64::try_from(SHOWN_MAX).unwrap_or(i64::MAX))
            .fetch_one(&mut self.connection);
        let (number, ids) = within(self.settings.resync.duration_max, query).await?;
        self.found.extra = Some(u64::try_from(number).unwrap_or_default());
        self.found.extra_ids = ids;
        Ok(())
    }
}

/// A document's id as its row has it.
fn id_of(bytes: &[u8]) -> Option<(String, Doc<'_>)> {
    let document = Doc::new(bytes).ok()?;
    let mut id = Vec::new();
    encode_id(document.get("_id").ok()??, &mut id).ok()?;
    Some((String::from_utf8(id).ok()?, document))
}
