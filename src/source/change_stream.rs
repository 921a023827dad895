//! The change stream of one collection: opened after a token, read reply by reply.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::command::{count, majority, raw};
use super::reach::Reach;
use super::{DEADLINE, Reply, Source};
use crate::error::{Class, Code, Fault};
use crate::model::bson::{Builder, Value, kind};
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::settings::{self, PostImage, Settings};

/// What a stream is opened with. Stored beside the token: a token made under another filter can be
/// refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeStreamOptions {
    pub collection: String,
    pub post_image: PostImage,
    /// Events asked for in one reply.
    pub batch_size: usize,
    /// How long the server waits for an event before it answers empty (with a fresh token).
    pub poll: Duration,
    /// Leave documents out: the way around an event over 16 MB.
    pub keys_only: bool,
    /// The collection of the heartbeat document: the stream is then opened on the database and sees
    /// its events, too, of which only the tokens count.
    pub heartbeat: Option<String>,
}

impl ChangeStreamOptions {
    /// What `run` opens a configured stream with.
    pub fn of(stream: &settings::StreamSettings, settings: &Settings) -> Self {
        Self {
            collection: stream.collection.clone(),
            post_image: stream.post_image,
            batch_size: settings.batch.events_max,
            poll: Duration::from_secs(1),
            keys_only: false,
            heartbeat: settings.source.heartbeat_collection.clone(),
        }
    }

    /// The options that must be the same as when the token was made, as text, for it to be resumed
    /// after.
    pub fn fingerprint(&self) -> String {
        let mode = PostImage::NAMES
            .iter()
            .find(|(_, mode)| *mode == self.post_image)
            .map_or("", |(name, _)| name);
        match &self.heartbeat {
            None => format!("v1 post_image={mode}"),
            Some(collection) => format!("v1 post_image={mode} heartbeat={collection}"),
        }
    }

    /// Events of the followed collection, of the heartbeat document, and those that end the stream.
    /// A filter may be widened under the same fingerprint: every event a token can be of still
    /// passes.
    fn either(&self, heartbeat: &str) -> Builder {
        let collections = Builder::default().text("0", &self.collection).text("1", heartbeat);
        let of_ours =
            Builder::default().document("ns.coll", Builder::default().array("$in", collections));
        let ends = Builder::default().text("0", "dropDatabase").text("1", "invalidate");
        let ends =
            Builder::default().document("operationType", Builder::default().array("$in", ends));
        // A collection renamed onto ours takes its place: that event is the other one's.
        let onto = Builder::default().text("to.coll", &self.collection);
        let any = Builder::default().document("0", of_ours).document("1", ends).document("2", onto);
        Builder::default().array("$or", any)
    }

    fn command(&self, after: Option<&ResumeToken>, at: Option<ClusterTime>) -> Builder {
        let mut stage = Builder::default();
        // With "lookup" the batch looks documents up itself, once for all keys: half the cost to
        // the server.
        stage = match self.post_image {
            PostImage::Lookup => stage,
            PostImage::WhenAvailable => stage.text("fullDocument", "whenAvailable"),
            PostImage::Required => stage.text("fullDocument", "required"),
        };
        if let Some(token) = after {
            stage.push("resumeAfter", Value { kind: kind::DOCUMENT, bytes: token.bytes() });
        }
        if let Some(at) = at {
            stage = stage.timestamp("startAtOperationTime", at.packed());
        }
        let mut stages = vec![Builder::default().document("$changeStream", stage)];
        if let Some(heartbeat) = &self.heartbeat {
            stages.push(Builder::default().document("$match", self.either(heartbeat)));
        }
        if self.keys_only {
            let fields = Builder::default().i32("fullDocument", 0).i32("updateDescription", 0);
            stages.push(Builder::default().document("$project", fields));
        }
        // The first batch is asked for empty: opening answers at once, however far the server must
        // read.
        let command = match self.heartbeat {
            None => Builder::default().text("aggregate", &self.collection),
            Some(_) => Builder::default().i32("aggregate", 1),
        };
        command
            .array("pipeline", list(stages))
            .document("cursor", Builder::default().i32("batchSize", 0))
            .document("readConcern", majority(ClusterTime::default()))
    }
}

/// An array's keys are its places, one after the other: servers may refuse others.
fn list(items: Vec<Builder>) -> Builder {
    let numbered = items.into_iter().enumerate();
    numbered.fold(Builder::default(), |list, (place, item)| list.document(&place.to_string(), item))
}

/// An open change stream.
pub struct ChangeStream {
    reach: Arc<Reach>,
    heartbeat: Option<String>,
    causal: Arc<AtomicBool>,
    cursor: Pin<Box<RawBatchCursor>>,
    deadline: Duration,
}

impl Source {
    /// Opens the stream of a collection after a token, or from now.
    pub async fn open(
        &self,
        options: &ChangeStreamOptions,
        after: Option<&ResumeToken>,
    ) -> Result<ChangeStream, Fault> {
        self.open_with(options, options.command(after, None)).await
    }

    /// A position at a time in the past. The oplog must show that it reaches back that far: a
    /// server may accept an older time in silence (SERVER-50903).
    ///
    /// # Errors
    /// The time is not covered, or cannot be proved to be; whatever the server answers.
    pub async fn position_at(
        &self,
        options: &ChangeStreamOptions,
        seconds: i64,
    ) -> Result<Position, Fault> {
        let refused = |message: &str| {
            let hint = "go back to a retired position or a token instead, or ask for a resync";
            Fault::new(Class::Halt, Code::HistoryLost, message, hint)
        };
        let at = ClusterTime::new(u64::try_from(seconds).unwrap_or_default() << 32);
        match self.oldest_entry().await {
            None => {
                return Err(refused(
                    "the oplog may not be read, so nothing shows that it reaches back to that time",
                ));
            }
            Some(oldest) if oldest >= at => {
                return Err(refused(&format!(
                    "the source's history begins at {}, after that time",
                    oldest.at()
                )));
            }
            Some(_) => {}
        }
        let options = ChangeStreamOptions { poll: Duration::from_millis(100), ..options.clone() };
        let mut stream = self.open_with(&options, options.command(None, Some(at))).await?;
        let token = stream
            .next()
            .await?
            .token
            .ok_or_else(|| refused("the source gave no token for that time"))?;
        let position = Position::of(token, at);
        // A token of any time up to `at` is as good, because no event lies between; a later one is
        // not what was asked for.
        if position.cluster_time > at {
            Err(refused("the source answered with a later position"))
        } else {
            Ok(position)
        }
    }

    async fn open_with(
        &self,
        options: &ChangeStreamOptions,
        command: Builder,
    ) -> Result<ChangeStream, Fault> {
        let database = self.database().await?;
        let call = database
            .run_raw_cursor_command(raw(command)?)
            .batch_size(u32::try_from(count(options.batch_size)).unwrap_or(1))
            .max_time(options.poll);
        let cursor = self.with_deadline(DEADLINE, call.batch()).await?;
        Ok(ChangeStream {
            reach: Arc::clone(&self.reach),
            heartbeat: options.heartbeat.clone(),
            causal: Arc::clone(&self.causal),
            cursor: Box::pin(cursor),
            deadline: DEADLINE + options.poll,
        })
    }
}

impl ChangeStream {
    /// The next reply; empty, with a fresh token, when nothing happened for a poll.
    ///
    /// # Errors
    /// Whatever the server answers, classified. A cursor that ends without an error was killed:
    /// transient.
    pub async fn next(&mut self) -> Result<Reply, Fault> {
        let cursor = &mut self.cursor;
        let call = async { cursor.next().await.transpose() };
        let batch = self.reach.with_deadline(self.deadline, call).await?;
        let ended = || {
            Fault::new(
                Class::Transient,
                Code::SourceUnreachable,
                "the change stream's cursor ended",
                "",
            )
        };
        let mut reply = Reply::of_driver(batch.ok_or_else(ended)?)?;
        self.causal.store(reply.operation_time.is_some(), Ordering::Relaxed);
        if let Some(heartbeat) = &self.heartbeat {
            reply.leave_out(heartbeat);
        }
        Ok(reply)
    }
}

impl std::fmt::Debug for ChangeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChangeStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bson::Doc;

    #[test]
    fn the_stages_of_every_pipeline_are_numbered_one_after_the_other() {
        for (heartbeat, keys_only) in [(false, false), (false, true), (true, false), (true, true)] {
            let options = ChangeStreamOptions {
                collection: "c".into(),
                post_image: PostImage::Lookup,
                batch_size: 1,
                poll: Duration::from_secs(1),
                keys_only,
                heartbeat: heartbeat.then(|| "h".to_owned()),
            };
            let command = options.command(None, None).finish();
            let pipeline = Doc::new(&command).unwrap().get("pipeline").unwrap().unwrap();
            let stages = pipeline.as_document().unwrap().elements().map(|stage| stage.unwrap().0);
            let keys: Vec<String> = stages.map(|key| String::from_utf8_lossy(key).into()).collect();
            let number = 1 + usize::from(heartbeat) + usize::from(keys_only);
            let places: Vec<String> = (0..number).map(|place| place.to_string()).collect();
            assert_eq!(keys, places, "heartbeat {heartbeat}, keys only {keys_only}");
        }
    }
}
