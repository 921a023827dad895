//! A resync of a part: the documents that a person names are read again as they are now, and
//! written or deleted, in steps between two pipelines. After so many steps as take half a second
//! the group goes on, and the request waits for its next turn: it goes on where the table
//! `resync_part` says, also after a kill.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::context::{Context, GroupContext};
use super::dead_letter::writer;
use super::resync::beside;
use crate::apply::{
    Applied, Beside, Commit, DeadLetter, Deletes, Drift, Origins, Rows, Work, Writer, row_times,
    rowless_versions,
};
use crate::error::Fault;
use crate::failpoint;
use crate::model::bson::{Doc, Value};
use crate::model::position::ClusterTime;
use crate::model::value::{Unwritable, asked_for, decode_id, document_id};
use crate::postgres::close;
use crate::source::{Found, Reply};
use crate::state::{Act, Command, Lease, PartRow, PartStep, Stored};
use crate::status::Committed;

/// How long the group stands still for it at a turn, but for the last step of it.
const TURN: Duration = Duration::from_millis(500);

/// How long the group goes on between two turns, at least.
const PAUSE: Duration = Duration::from_millis(500);

/// What a turn came to.
pub enum Turn {
    /// There is more to do: how far it has come, and when it goes on.
    More(String, Duration),
    Ended(Act<'static>),
}

/// Takes as many steps as a turn has time for. `collection` is the one that the table is of.
pub async fn turn(
    group: &GroupContext,
    context: &Context,
    lease: &Lease,
    stored: &Stored,
    command: &Command,
    collection: Option<Uuid>,
) -> Result<Turn, Fault> {
    let begun = Instant::now();
    let Some(part) = group.state.part(command.id).await? else {
        return Ok(Turn::Ended(Act::Refuse("the request names no documents".to_owned())));
    };
    let walk = group.state.open_walk(&command.stream).await?;
    let mut steps = Steps {
        context,
        command: command.id,
        collection,
        beside: walk.as_ref().and_then(beside),
        writer: writer(group, context, lease, stored),
        deletes_max: deletes_max(command),
        part,
    };
    let before = steps.part.done;
    while !steps.part.is_done() {
        if let Some(why) = steps.next().await? {
            let told = steps.part.told();
            return Ok(Turn::Ended(Act::Fail(format!("{why}; {told}"))));
        }
        failpoint::hit("part.step");
        if begun.elapsed() >= TURN && !steps.part.is_done() {
            let read = u32::try_from(steps.part.done - before).unwrap_or_default();
            return Ok(Turn::More(steps.part.told(), steps.pause(read, begun.elapsed())));
        }
    }
    Ok(Turn::Ended(Act::Done(steps.part.told())))
}

/// No more rows are deleted than whoever asked was told would be without asking.
fn deletes_max(command: &Command) -> u64 {
    let asked = command.arguments.get("deletes_max").and_then(serde_json::Value::as_u64);
    asked.unwrap_or_default()
}

struct Steps<'a> {
    context: &'a Context,
    command: i64,
    collection: Option<Uuid>,
    beside: Option<Beside>,
    writer: Writer,
    deletes_max: u64,
    part: PartRow,
}

impl Steps<'_> {
    /// Reads the next documents named, and writes them; what the source does not have is deleted.
    /// Answers why it cannot be gone on with.
    async fn next(&mut self) -> Result<Option<String>, Fault> {
        let Context { state, source, config, settings, .. } = self.context;
        let size = i32::try_from(settings.resync.chunk_documents).unwrap_or(i32::MAX);
        let ids = state.part_ids(self.command, size).await?;
        if ids.is_empty() {
            return Ok(Some("the documents that were named are not known any more".to_owned()));
        }
        let number = i32::try_from(ids.len()).unwrap_or(i32::MAX);
        let raw: Vec<Vec<u8>> = ids.iter().filter_map(|id| decode_id(id)).collect();
        let asked: Vec<Value<'_>> = raw.iter().filter_map(|raw| asked_for(raw)).collect();
        let known = |id: &String| decode_id(id).is_some_and(|raw| asked_for(&raw).is_some());
        let mut left: HashSet<String> = ids.into_iter().filter(known).collect();
        // A time that the read is known to be after: what it does not find was gone by then.
        let before = source.now().await?;
        let mut documents = source.lookup(&config.collection, &asked, before).await?;
        while let Some(reply) = documents.next().await? {
            let at = documents.read_at.unwrap_or(before).max(before);
            let mut work = self.encode(reply, at, &mut left);
            work.ahead = Some(source.read_until(documents.read_until).await?.max(before));
            self.write(work, None).await?;
        }
        let deletes = match self.gone(left, before).await? {
            Ok(deletes) => deletes,
            Err(why) => return Ok(Some(why)),
        };
        let ahead = Some(source.read_until(documents.read_until).await?.max(before));
        let done = self.part.done.saturating_add(number);
        self.write(Work { deletes, ahead, ..Work::default() }, Some(done)).await?;
        Ok(None)
    }

    /// The documents of a reply that were named, as rows; those are taken out of `left`. A document
    /// with an equal `_id` of another type is another.
    fn encode(&self, reply: Reply, at: ClusterTime, left: &mut HashSet<String>) -> Work {
        let (mut rows, mut drift, mut dead) = (Rows::default(), Drift::default(), Vec::new());
        let mut events = 0;
        for (origin, bytes) in reply.items().enumerate() {
            // One that the filter leaves out is as if it were not there.
            let followed = Some(bytes).filter(|bytes| self.context.mapping.follows(bytes));
            let id = followed.and_then(document_id).filter(|id| left.remove(id));
            let Some(id) = id else { continue };
            events += 1;
            let encoded = Doc::new(bytes).map_err(Unwritable::from).and_then(|document| {
                self.context.mapping.encode(&id, document, at, origin, &mut rows, &mut drift)
            });
            if let Err(error) = encoded {
                dead.push(DeadLetter {
                    document_id: Some(id),
                    operation: "snapshot",
                    event: self.context.mapping.evidence_of_document(bytes),
                    code: error.code(),
                    error: error.to_string(),
                    cluster_time: Some(at),
                });
            }
        }
        let origins = Origins::Documents(vec![reply]);
        Work { rows, dead, events, origins, ..Work::default() }
    }

    /// The rows of those the source does not have, to be deleted; or why they are not. The
    /// collection must still be the one that the table is of: nothing is gone from another.
    async fn gone(
        &self,
        left: HashSet<String>,
        before: ClusterTime,
    ) -> Result<Result<Deletes, String>, Fault> {
        let Context { source, config, namespace, target, statements, .. } = self.context;
        let mut deletes = Deletes::default();
        if left.is_empty() {
            return Ok(Ok(deletes));
        }
        let is_the_one = match source.find_collection(&config.collection).await? {
            Found::Collection(there) => {
                self.collection.zip(there).is_none_or(|(was, there)| was == there)
            }
            Found::Nothing | Found::View | Found::TimeSeries => false,
        };
        if !is_the_one {
            return Ok(Err(format!("{namespace} is not the collection that the table is of")));
        }
        let mut connection = target.connect().await?;
        let ids: Vec<&str> = left.iter().map(String::as_str).collect();
        let rows = row_times(&mut connection, target, statements, &ids).await?;
        let versions = rowless_versions(&mut connection, target, statements, &ids).await?;
        close(connection).await;
        for (id, time) in &rows {
            let (id, time) = (id.clone(), *time);
            // One that is newer was written since; one of a time to come, by no change. Its
            // document was gone when it was asked for, whatever the row says.
            if time <= before || time > before.ahead_max() {
                deletes.push_found(id, time.max(before), before);
            }
        }
        let deleted = u64::try_from(self.part.rows_deleted).unwrap_or_default();
        let would = deleted + crate::model::count(deletes.ids.len());
        if would > self.deletes_max {
            return Ok(Err(format!(
                "the source has no documents for {would} rows, and {} may be deleted without \
                 asking: `tidemark resync {}` asks a person first",
                self.deletes_max, config.name
            )));
        }
        // No row goes with these.
        for (id, from) in versions.into_iter().filter(|(id, _)| !rows.contains_key(id)) {
            deletes.push_found(id, from.max(before), before);
        }
        Ok(Ok(deletes))
    }

    /// Commits a work, and how far the request has come with it.
    async fn write(&mut self, mut work: Work, done: Option<i32>) -> Result<(), Fault> {
        work.part = Some(PartStep { command: self.command, done });
        work.beside = self.beside;
        let applied = self.writer.apply(&Commit::of(work)).await.map_err(|met| met.fault)?;
        let applied: Applied = applied.into_iter().next().unwrap_or_default();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.part.rows_written += number(applied.rows_changed);
        self.part.rows_deleted += number(applied.rows_deleted);
        self.part.set_aside += number(applied.set_aside.total());
        self.part.done = done.unwrap_or(self.part.done);
        self.context.status.committed(&Committed {
            of_walk: true,
            rows_changed: applied.rows_changed + applied.rows_deleted,
            rows_unchanged: applied.rows_unchanged,
            dead_letters: applied.set_aside.by_code,
            ..Committed::default()
        });
        Ok(())
    }

    /// How long the group goes on: longer where the load on the source is limited.
    fn pause(&self, read: u32, took: Duration) -> Duration {
        match u32::try_from(self.context.settings.resync.documents_per_second_max) {
            Ok(limit) if limit > 0 => {
                let due = Duration::from_secs_f64(f64::from(read) / f64::from(limit));
                due.saturating_sub(took).max(PAUSE)
            }
            _ => PAUSE,
        }
    }
}
