//! Source and table side by side: what is missing, extra or different. Changes nothing.
//!
//! The stream may be followed meanwhile. What differs at first sight is looked at again and again,
//! each time once the stream has passed the time of a look at the source, so that only what stays
//! different is reported (`settle`).

mod named;
mod settle;
mod suspect;

pub use named::{PartFound, look_at_part};

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::apply::{Mapping, Rows, Statements, row_arguments};
use crate::error::Fault;
use crate::model::bson::{Builder, Doc};
use crate::model::position::ClusterTime;
use crate::model::value::encode_id;
use crate::postgres::{Target, Trouble, Whose, about_rows, with_deadline};
use crate::resync::{Chunk, Place, Reading};
use crate::settings::{Settings, StreamSettings};
use crate::source::Source;
use crate::state::StateTables;
use suspect::{Kind, Suspect};

/// Differences looked at a second time, and ids kept, at most.
const KEPT_MAX: usize = 10_000;

/// Ids in the report, of each kind.
const SHOWN_MAX: usize = 10;

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
    /// Documents that changed too often to be told.
    pub undecided: u64,
    pub missing_ids: Vec<String>,
    pub extra_ids: Vec<String>,
    pub different_ids: Vec<String>,
    pub seconds: f64,
    pub note: Option<String>,
    /// All that differ and can be asked for; `None` where they are too many to be kept.
    #[serde(skip)]
    pub ids: Option<Vec<String>>,
}

impl Compared {
    pub fn is_equal(&self) -> bool {
        self.missing == 0 && self.extra.unwrap_or(0) == 0 && self.different == 0
    }
}

/// How much is compared, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct ComparePlan {
    /// This many documents picked at random, instead of all.
    pub sample: Option<u64>,
    /// 0 = no limit.
    pub documents_per_second_max: u64,
}

struct Comparison<'a> {
    source: Source,
    state: &'a StateTables,
    target: &'a Target,
    connection: PgConnection,
    config: &'a StreamSettings,
    /// That has the stream by now, whatever a configuration says that no process follows yet.
    group: String,
    settings: &'a Settings,
    plan: ComparePlan,
    mapping: Mapping,
    statements: Statements,
    suspects: HashMap<String, Suspect>,
    found: Compared,
}

/// Compares all documents, or a sample of them.
pub async fn compare(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    config: &StreamSettings,
    plan: ComparePlan,
) -> Result<Compared, Fault> {
    let begun = Instant::now();
    let mut comparison = Comparison::begin(settings, target, state, config, plan).await?;
    let started = comparison.source.now().await?;
    match plan.sample {
        Some(size) => comparison.sample(size, started).await?,
        None => comparison.all(started).await?,
    }
    let before = plan.sample.is_none().then_some(started);
    comparison.settle(before).await?;
    let mut found = comparison.found;
    found.seconds = begun.elapsed().as_secs_f64();
    Ok(found)
}

impl<'a> Comparison<'a> {
    async fn begin(
        settings: &'a Settings,
        target: &'a Target,
        state: &'a StateTables,
        config: &'a StreamSettings,
        plan: ComparePlan,
    ) -> Result<Self, Fault> {
        let table = settings.table_of(config);
        let row = state.stream_row(&config.name).await?;
        let group = row.and_then(|row| row.group).unwrap_or_else(|| config.group.clone());
        Ok(Self {
            source: Source::new(settings).await?.of_database(settings.database_of(config)),
            state,
            target,
            connection: target.connect().await?,
            config,
            group,
            settings,
            plan,
            mapping: Mapping::new(config, settings.row),
            statements: Statements::new(&table, config.rows()),
            suspects: HashMap::new(),
            found: Compared {
                stream: config.name.clone(),
                ids: Some(Vec::new()),
                ..Compared::default()
            },
        })
    }
}

impl Comparison<'_> {
    async fn all(&mut self, started: ClusterTime) -> Result<(), Fault> {
        let temporary = "create temp table tidemark_seen (id text) on commit preserve rows; set \
                         statement_timeout = 0";
        with_deadline(
            self.target.deadline(),
            sqlx::raw_sql(temporary).execute(&mut self.connection),
        )
        .await?;
        let reading = Reading {
            collection: self.config.collection.clone(),
            filter: self.mapping.filter().cloned(),
            documents_max: self.settings.resync.chunk_documents,
            bytes_max: self.settings.batch.bytes_max,
            after: started,
        };
        let mut place = Place::default();
        let begun = Instant::now();
        while !place.is_end() {
            let mut chunk = Chunk::at(place, true);
            chunk.read(&self.source, &self.mapping, &reading).await?;
            self.found.documents += chunk.documents - chunk.left_out;
            let insert = sqlx::query("insert into tidemark_seen select unnest($1::text[])")
                .bind(chunk.seen.as_ref().map(|seen| &seen.ids));
            with_deadline(self.target.deadline(), insert.execute(&mut self.connection)).await?;
            let raw = |origin: usize| {
                let mut items = chunk.replies.iter().flat_map(crate::source::Reply::items);
                items.nth(origin)
            };
            let differing = self.differing(&chunk.rows).await?;
            self.suspect(&chunk.rows, differing, raw);
            place = chunk.place;
            self.slow_down(begun).await;
        }
        let living = &self.statements.living;
        let count = AssertSqlSafe(format!("select count(*) from {living} as t"));
        let rows = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.connection).await;
        self.found.rows =
            u64::try_from(with_deadline(self.target.deadline(), async { rows }).await?)
                .unwrap_or_default();
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
            let followed = reply.items().filter(|document| self.mapping.follows(document));
            self.found.documents += crate::model::count(followed.count());
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
        let followed = |(_, bytes): &(usize, &[u8])| self.mapping.follows(bytes);
        for (origin, bytes) in documents.enumerate().filter(followed) {
            let Some((id, document)) = id_of(bytes) else { continue };
            // What cannot be read is a dead letter of the daemon's, and no difference.
            let _ = self.mapping.encode(&id, document, at, origin, &mut rows, &mut drift);
        }
        rows
    }

    /// The ids among these rows that the table lacks (true) or has otherwise (false).
    async fn differing(&mut self, rows: &Rows) -> Result<Vec<(String, bool)>, Fault> {
        let (config, mut all) = (self.config, Vec::new());
        let mut ranges: Vec<Range<usize>> = std::iter::once(0..rows.len()).collect();
        while let Some(range) = ranges.pop() {
            let arguments = row_arguments(rows, range.clone(), config.rows())?;
            let sql = AssertSqlSafe(self.statements.compare.to_string());
            let query = sqlx::query_as_with::<_, (String, bool), _>(sql, arguments)
                .fetch_all(&mut self.connection);
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

    fn suspect<'d>(
        &mut self,
        rows: &Rows,
        differing: Vec<(String, bool)>,
        raw: impl Fn(usize) -> Option<&'d [u8]>,
    ) {
        let by_id: HashMap<&str, usize> =
            (0..rows.len()).filter_map(|n| Some((rows.id(n)?, n))).collect();
        for (id, missing) in differing {
            let kind = if missing { Kind::Missing } else { Kind::Different };
            let document = by_id.get(id.as_str()).and_then(|&row| raw(rows.origin(row)?));
            let raw_id = document.and_then(|bytes| Doc::new(bytes).ok()?.get("_id").ok()?);
            let Some(raw_id) = raw_id.filter(|_| self.suspects.len() < KEPT_MAX) else {
                self.found.count(kind, None);
                continue;
            };
            let raw_id = Builder::default().value("", raw_id).finish();
            self.suspects.insert(id, Suspect::new(raw_id, kind));
        }
    }
}

/// A document's id as its row has it.
fn id_of(bytes: &[u8]) -> Option<(String, Doc<'_>)> {
    let document = Doc::new(bytes).ok()?;
    let mut id = Vec::new();
    encode_id(document.get("_id").ok()??, &mut id).ok()?;
    Some((String::from_utf8(id).ok()?, document))
}
