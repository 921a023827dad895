//! The search for what a walk left over, and the last line of defence before it is deleted: the
//! source is asked for those very ids.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::context::{Context, retry};
use crate::apply::end_stale_versions;
use crate::error::{Class, Code, Fault};
use crate::model::bson::Value;
use crate::model::filter::Filter;
use crate::model::position::ClusterTime;
use crate::model::step::Step;
use crate::model::value::{asked_for, decode_id, document_id};
use crate::postgres::with_deadline;
use crate::resync::{SweepCounts, SweepLimits, SweepVerdict, judge};
use crate::source;
use crate::state::{Unseen, WalkRow};

/// Rows asked for and deleted at once.
const ROWS_AT_ONCE: usize = 1_000;

/// How long the live stream is waited for that need not come.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);

/// The time the live stream has reached: everything up to it is applied.
pub type Reached = watch::Receiver<ClusterTime>;

/// A row the walk did not see.
pub struct Leftover {
    pub id: String,
    pub cluster_time: ClusterTime,
}

/// When the source was asked for documents.
#[derive(Debug, Clone, Copy)]
pub struct AskedAt {
    /// What was not found was gone by then.
    pub after: ClusterTime,
    /// The answer is no newer than this.
    pub until: ClusterTime,
}

/// What the search finds, part by part.
pub enum FoundPart {
    /// Rows whose documents the source does not have.
    Gone(Vec<Leftover>, AskedAt),
    /// A person has to say whether so many rows may go, and the note says why.
    TooMany { note: String, rows: u64 },
    /// Nothing is left to be found.
    All,
}

/// Looks for the rows to sweep, over a connection of its own.
pub struct Search {
    context: Context,
    id: i64,
    start: ClusterTime,
    /// The collection that was walked.
    collection: Option<Uuid>,
    documents: u64,
    /// So many rows a person allowed to be deleted.
    approved: Option<u64>,
    /// Everything up to this time is applied.
    reached: Reached,
    found: mpsc::Sender<Result<FoundPart, Fault>>,
}

impl Search {
    pub fn new(
        context: &Context,
        walk: &WalkRow,
        reached: Reached,
        found: mpsc::Sender<Result<FoundPart, Fault>>,
    ) -> Self {
        Self {
            context: context.clone(),
            id: walk.id,
            start: walk.start_time(),
            collection: walk.collection_uuid,
            documents: u64::try_from(walk.documents_read).unwrap_or_default(),
            approved: walk.rows_approved.and_then(|rows| u64::try_from(rows).ok()),
            reached,
            found,
        }
    }

    pub async fn run(self, mut connection: Option<PgConnection>) {
        if let Err(fault) = retry!(self.context, Step::Sweep, self.attempt(connection.take())) {
            let _ = self.found.send(Err(fault)).await;
        }
    }

    /// Counts, asks the caps, then the source, and sends what it does not have. Begun again after
    /// an error: what is deleted by then is not found again.
    async fn attempt(&self, connection: Option<PgConnection>) -> Result<(), Fault> {
        let context = &self.context;
        let mut connection = match connection {
            Some(connection) => connection,
            None => context.target.connect().await?,
        };
        let patience = context.settings.resync.duration_max;
        let set = format!(
            "set statement_timeout = {}; set idle_in_transaction_session_timeout = 0",
            patience.as_millis()
        );
        with_deadline(
            context.target.deadline(),
            sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection),
        )
        .await?;
        self.come_to(self.start.before(), context.source.tells_its_time()).await;
        let now = context.source.now().await?;
        let living = &context.statements.living;
        let before = self.swept_before(&mut connection).await?;
        let unseen = context.state.unseen(&mut connection, living, self.id, before, now).await?;
        with_deadline(
            context.target.deadline(),
            sqlx::raw_sql(unseen.planning()).execute(&mut connection),
        )
        .await?;
        let mut found = self.count(&mut connection, &unseen, patience).await?;
        if found.unseen > 0 {
            // What was deleted while the walk went on, and the live stream has still to delete, is
            // neither missed nor a reason to ask a person. Not waited for without end: whatever is
            // deleted, the source is asked for it.
            self.come_to(context.source.now().await?, false).await;
            found = self.count(&mut connection, &unseen, patience).await?;
        }
        let resync = &context.settings.resync;
        let limits = SweepLimits {
            delete_fraction_max: resync.delete_fraction_max,
            delete_count_min: resync.delete_count_min,
        };
        if let SweepVerdict::Hold(note) = judge(found, limits, self.approved) {
            let _ = self.found.send(Ok(FoundPart::TooMany { note, rows: found.unseen })).await;
            return Ok(());
        }
        if found.unseen > 0
            && !self.send_all(unseen.rows().fetch(&mut connection), patience).await?
        {
            return Ok(());
        }
        if !self.send_orphans(&mut connection, patience).await? {
            return Ok(());
        }
        self.end_versions(&mut connection).await?;
        let _ = self.found.send(Ok(FoundPart::All)).await;
        let _ = with_deadline(context.target.deadline(), connection.close()).await;
        Ok(())
    }

    /// Sends the documents that have elements in tables of arrays, and no row. They are neither
    /// counted nor a reason to ask a person: what they were of went without a word, and a row is
    /// not among them. False if the sweep that searched has ended.
    async fn send_orphans(
        &self,
        connection: &mut PgConnection,
        patience: Duration,
    ) -> Result<bool, Fault> {
        let Context { target, statements, .. } = &self.context;
        if statements.orphans.is_empty() {
            return Ok(true);
        }
        let all = sqlx::raw_sql("reset enable_seqscan").execute(&mut *connection);
        with_deadline(target.deadline(), all).await?;
        let sql = format!("select distinct (o.id, 0::bigint) from ({}) as o", statements.orphans);
        let ids = sqlx::query_scalar(AssertSqlSafe(sql)).fetch(connection);
        self.send_all(ids, patience).await
    }

    /// Sends rows part by part, each with its time. False if the sweep that searched has ended.
    async fn send_all(
        &self,
        mut rows: BoxStream<'_, Result<(String, i64), sqlx::Error>>,
        patience: Duration,
    ) -> Result<bool, Fault> {
        let mut part = Vec::with_capacity(ROWS_AT_ONCE);
        while let Some((id, time)) = with_deadline(patience, rows.try_next()).await? {
            part.push(Leftover { id, cluster_time: ClusterTime::from_sql(time) });
            if part.len() == ROWS_AT_ONCE && !self.send(std::mem::take(&mut part)).await? {
                return Ok(false);
            }
        }
        Ok(part.is_empty() || self.send(part).await?)
    }

    /// What the walk has repaired may have been gone, or another, without a word in the table of
    /// versions.
    async fn end_versions(&self, connection: &mut PgConnection) -> Result<(), Fault> {
        let Context { target, statements, config, .. } = &self.context;
        let reached = *self.reached.borrow();
        let versions = end_stale_versions(connection, target, statements, reached).await?;
        if versions > 0 {
            let stream = &config.name;
            tracing::info!(%stream, resync = self.id, versions, "versions without a row are ended");
        }
        Ok(())
    }

    /// Rows that are older than this are swept, if the walk did not see them. Where a walk before
    /// started at the same time, since the source's stood still, its rows carry that very time; and
    /// no event deletes those that are followed no more, whatever this walk's reason is.
    async fn swept_before(&self, connection: &mut PgConnection) -> Result<ClusterTime, Fault> {
        let (state, stream) = (&self.context.state, &self.context.config.name);
        let is_shared = state.shares_its_start(connection, stream, self.id, self.start).await?;
        Ok(if is_shared { self.start.next() } else { self.start })
    }

    /// Waits for the live stream to come to a time. What it has still to apply of the time before
    /// the walk could be of another collection, and would stay for ever behind the sweep: that is
    /// waited for however long it takes, of a source whose stream surely gets there.
    async fn come_to(&self, until: ClusterTime, surely: bool) {
        let mut reached = self.reached.clone();
        let comes = reached.wait_for(|reached| *reached >= until);
        if surely {
            let _ = comes.await;
        } else {
            let _ = tokio::time::timeout(CATCH_UP_MAX, comes).await;
        }
    }

    async fn count(
        &self,
        connection: &mut PgConnection,
        unseen: &Unseen,
        patience: Duration,
    ) -> Result<SweepCounts, Fault> {
        let number = |n: i64| u64::try_from(n).unwrap_or_default();
        let unseen =
            number(with_deadline(patience, unseen.count().fetch_one(&mut *connection)).await?);
        let rows = if unseen > 0 {
            let living = &self.context.statements.living;
            let count = AssertSqlSafe(format!("select count(*) from {living} as t"));
            number(
                with_deadline(patience, sqlx::query_scalar::<_, i64>(count).fetch_one(connection))
                    .await?,
            )
        } else {
            0
        };
        // What a filter leaves out is read, too: where it let a document through, a row is seen.
        let shows_none = self.context.mapping.filter().is_some() && unseen > 0 && unseen >= rows;
        let documents = if shows_none { 0 } else { self.documents };
        Ok(SweepCounts { documents, rows, unseen })
    }

    /// Sends those of the rows whose documents the source does not have. False if the sweep that
    /// searched has ended.
    async fn send(&self, part: Vec<Leftover>) -> Result<bool, Fault> {
        let all = part.len();
        let (gone, asked) = self.gone(part).await?;
        if gone.len() < all {
            let (stream, left) = (&self.context.config.name, all - gone.len());
            tracing::warn!(
                %stream,
                resync = self.id,
                left,
                "rows the walk did not see are left: the source has them"
            );
        }
        Ok(self.found.send(Ok(FoundPart::Gone(gone, asked))).await.is_ok())
    }

    /// Those of the rows whose document the source, asked now, does not have. A row is left whose
    /// id cannot be asked for, and nothing is gone from a collection that is not there, or is
    /// another than was walked.
    async fn gone(&self, part: Vec<Leftover>) -> Result<(Vec<Leftover>, AskedAt), Fault> {
        let Context { source, config, namespace, .. } = &self.context;
        let ids: Vec<Option<Vec<u8>>> = part.iter().map(|row| decode_id(&row.id)).collect();
        let asked: Vec<Value<'_>> = ids.iter().flatten().filter_map(|id| asked_for(id)).collect();
        let after = source.now().await?;
        let mut living = HashSet::new();
        let mapping = &self.context.mapping;
        let fields = mapping.filter().map(Filter::fields).unwrap_or_default();
        let mut documents = source.living(&config.collection, &asked, &fields, after).await?;
        while let Some(reply) = documents.next().await? {
            let followed = reply.items().filter(|document| mapping.follows(document));
            living.extend(followed.filter_map(document_id));
        }
        let until = source.read_until(documents.read_until).await?.max(after);
        let is_walked = match source.find_collection(&config.collection).await? {
            source::Found::Collection(there) => {
                self.collection.zip(there).is_none_or(|(walked, there)| walked == there)
            }
            source::Found::Nothing | source::Found::View | source::Found::TimeSeries => false,
        };
        if !is_walked {
            let message = format!("{namespace} was dropped or renamed after it was walked");
            let hint = "nothing is deleted for it; once the collection is there again, a resync \
                        repairs the table";
            return Err(Fault::new(Class::Halt, Code::SourceDropped, message, hint));
        }
        let is_gone = |id: &str, decoded: &Option<Vec<u8>>| {
            decoded.as_deref().is_some_and(|decoded| asked_for(decoded).is_some())
                && !living.contains(id)
        };
        let rows = part.into_iter().zip(&ids);
        let gone = rows.filter(|(row, decoded)| is_gone(&row.id, decoded)).map(|(row, _)| row);
        Ok((gone.collect(), AskedAt { after, until }))
    }
}
