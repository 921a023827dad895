//! The change stream of a set of collections of one database: opened after a token, read reply by
//! reply.
//!
//! It is opened on the database, which asks for `changeStream` and `find` on the database and not
//! on single collections. Seen on MongoDB 6.0.5: a stream on a collection costs the server work for
//! every entry of its oplog, so that one for many costs it as little as one for one; and a token of
//! a collection's stream resumes on its database's, if the filter lets the token's event through.

use std::collections::BTreeSet;
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
use crate::settings::{PostImage, Settings, StreamSettings};

/// What a change stream is opened with. What of it a token is bound to is stored beside the token
/// ([`ChangeStreamOptions::fingerprint`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeStreamOptions {
    /// The collections whose events are let through.
    pub collections: Arc<BTreeSet<String>>,
    /// Those of all others are, too: an event's token is resumed only after by a filter that lets
    /// its event through, and nothing may name its collection any more.
    pub all: bool,
    pub post_image: PostImage,
    /// Events asked for in one reply.
    pub batch_size: usize,
    /// How long the server waits for an event before it answers empty (with a fresh token).
    pub poll: Duration,
    /// Leave documents out: the way around an event over 16 MB.
    pub keys_only: bool,
    /// The collection of the heartbeat document. Its events are let through, too, and of them only
    /// the tokens count.
    pub heartbeat: Option<String>,
}

impl ChangeStreamOptions {
    /// What `run` opens the change stream of these streams with. Images are required of the server
    /// only if every stream requires them: else the ones that do not would fail with those that do.
    pub fn of(streams: &[&StreamSettings], settings: &Settings) -> Self {
        let all = |mode| streams.iter().all(|stream| stream.post_image == mode);
        let post_image = if all(PostImage::Lookup) {
            PostImage::Lookup
        } else if all(PostImage::Required) {
            PostImage::Required
        } else {
            PostImage::WhenAvailable
        };
        let collections = streams.iter().map(|stream| stream.collection.clone());
        Self {
            collections: Arc::new(collections.collect()),
            all: false,
            post_image,
            batch_size: settings.batch.events_max,
            poll: Duration::from_secs(1),
            keys_only: false,
            heartbeat: settings.source.heartbeat_collection.clone(),
        }
    }

    /// The options as text, to be stored beside a token ([`resumes_under`]). Collections are none
    /// of them: a token of an event is resumed only after, by a filter that lets the event through,
    /// which is for whoever changes the set to see to.
    ///
    /// [`resumes_under`]: crate::model::position::resumes_under
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

    /// Lets through the events of the collections and of the heartbeat document, a collection
    /// renamed onto one of them (that event is the other one's), and those that end the stream.
    ///
    /// Seen on MongoDB 6.0.5: of `$in` on `ns.coll` the server makes one regular expression a name,
    /// tried one after the other on every write to the database (36 µs for 1,000 names); of the
    /// same as an expression, one comparison a name (9 µs; 1 µs for 200). Amazon DocumentDB is
    /// not known to take expressions.
    fn filter(&self, takes_expressions: bool) -> Builder {
        let followed = self.collections.iter().map(String::as_str);
        let names = list(followed.clone().chain(self.heartbeat.as_deref()), Builder::text);
        let of_ours = if takes_expressions {
            let names = Builder::default().array("$literal", names);
            let pair = Builder::default().text("0", "$ns.coll").document("1", names);
            Builder::default().document("$expr", Builder::default().array("$in", pair))
        } else {
            Builder::default().document("ns.coll", any_of(names))
        };
        let onto = Builder::default().document("to.coll", any_of(list(followed, Builder::text)));
        let ends = list(["dropDatabase", "invalidate"], Builder::text);
        let ends = Builder::default().document("operationType", any_of(ends));
        Builder::default().array("$or", list([of_ours, onto, ends], Builder::document))
    }

    fn command(
        &self,
        after: Option<&ResumeToken>,
        at: Option<ClusterTime>,
        takes_expressions: bool,
        first: usize,
    ) -> Builder {
        let mut stage = Builder::default();
        // With "lookup" the batch looks documents up itself, once for all keys: half the cost to
        // the server.
        stage = match self.post_image {
            PostImage::Lookup => stage,
            PostImage::WhenAvailable => stage.text("fullDocument", "whenAvailable"),
            // Another collection's may have none.
            PostImage::Required if self.all => stage.text("fullDocument", "whenAvailable"),
            PostImage::Required => stage.text("fullDocument", "required"),
        };
        if let Some(token) = after {
            stage.push("resumeAfter", Value { kind: kind::DOCUMENT, bytes: token.bytes() });
        }
        if let Some(at) = at {
            stage = stage.timestamp("startAtOperationTime", at.packed());
        }
        let filter = if self.all { Builder::default() } else { self.filter(takes_expressions) };
        let mut stages = vec![
            Builder::default().document("$changeStream", stage),
            Builder::default().document("$match", filter),
        ];
        if self.keys_only {
            let fields = Builder::default().i32("fullDocument", 0).i32("updateDescription", 0);
            stages.push(Builder::default().document("$project", fields));
        }
        // The first batch is asked for empty where any event will do: opening answers at once,
        // however far the server must read.
        Builder::default()
            .i32("aggregate", 1)
            .array("pipeline", list(stages, Builder::document))
            .document("cursor", Builder::default().i32("batchSize", count(first)))
            .document("readConcern", majority(ClusterTime::default()))
    }
}

fn any_of(list: Builder) -> Builder {
    Builder::default().array("$in", list)
}

/// An array's keys are its places, one after the other: servers may refuse others.
fn list<T>(
    items: impl IntoIterator<Item = T>,
    add: impl Fn(Builder, &str, T) -> Builder,
) -> Builder {
    let numbered = items.into_iter().enumerate();
    numbered.fold(Builder::default(), |list, (place, item)| add(list, &place.to_string(), item))
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
    /// Opens the change stream after a token, or from now.
    pub async fn open(
        &self,
        options: &ChangeStreamOptions,
        after: Option<&ResumeToken>,
    ) -> Result<ChangeStream, Fault> {
        self.open_with(options, after, None, 0).await
    }

    /// Opens the change stream after a token, and asks for the first event with it: the first reply
    /// has it, if there is one by now.
    pub(super) async fn open_at_once(
        &self,
        options: &ChangeStreamOptions,
        after: &ResumeToken,
    ) -> Result<ChangeStream, Fault> {
        self.open_with(options, Some(after), None, 1).await
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
        let mut stream = self.open_with(&options, None, Some(at), 0).await?;
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
        after: Option<&ResumeToken>,
        at: Option<ClusterTime>,
        first: usize,
    ) -> Result<ChangeStream, Fault> {
        // A server that does not tell its operation time is no MongoDB.
        let command = options.command(after, at, self.tells_its_time(), first);
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
    use crate::settings::Origin;
    use mongodb::bson::doc;

    fn options(keys_only: bool, heartbeat: bool) -> ChangeStreamOptions {
        ChangeStreamOptions {
            all: false,
            collections: Arc::new(["b", "a"].map(str::to_owned).into()),
            post_image: PostImage::Lookup,
            batch_size: 1,
            poll: Duration::from_secs(1),
            keys_only,
            heartbeat: heartbeat.then(|| "h".to_owned()),
        }
    }

    fn bson(command: Builder) -> mongodb::bson::Document {
        mongodb::bson::Document::from_reader(command.finish().as_slice()).unwrap()
    }

    #[test]
    fn the_stages_of_every_pipeline_are_numbered_one_after_the_other() {
        for keys_only in [false, true] {
            let command = options(keys_only, true).command(None, None, true, 0).finish();
            let pipeline = Doc::new(&command).unwrap().get("pipeline").unwrap().unwrap();
            let stages = pipeline.as_document().unwrap().elements().map(|stage| stage.unwrap().0);
            let keys: Vec<String> = stages.map(|key| String::from_utf8_lossy(key).into()).collect();
            let number = 2 + usize::from(keys_only);
            let places: Vec<String> = (0..number).map(|place| place.to_string()).collect();
            assert_eq!(keys, places, "keys only {keys_only}");
        }
    }

    #[test]
    fn events_of_the_collections_and_of_the_heartbeat_are_let_through_in_one_order() {
        let names = ["a", "b", "h"];
        let filter = |ours: mongodb::bson::Document| {
            let ends = doc! { "operationType": { "$in": ["dropDatabase", "invalidate"] } };
            doc! { "$or": [ours, { "to.coll": { "$in": ["a", "b"] } }, ends] }
        };
        let expression = doc! { "$expr": { "$in": ["$ns.coll", { "$literal": names }] } };
        assert_eq!(bson(options(false, true).filter(true)), filter(expression));
        let plain = doc! { "ns.coll": { "$in": names } };
        assert_eq!(bson(options(false, true).filter(false)), filter(plain));
        let names = ["a", "b"];
        let without = doc! { "ns.coll": { "$in": names } };
        assert_eq!(bson(options(false, false).filter(false)), filter(without));
    }

    #[test]
    fn images_are_required_of_the_server_only_if_every_stream_requires_them() {
        use PostImage::{Lookup, Required, WhenAvailable};
        let settings = Settings::load(&Origin::default()).unwrap();
        let stream = |post_image| StreamSettings { post_image, ..settings.streams[0].clone() };
        let mode = |modes: &[PostImage]| {
            let streams: Vec<_> = modes.iter().map(|mode| stream(*mode)).collect();
            ChangeStreamOptions::of(&streams.iter().collect::<Vec<_>>(), &settings).post_image
        };
        assert_eq!(mode(&[Lookup, Lookup]), Lookup);
        assert_eq!(mode(&[Required, Required]), Required);
        assert_eq!(mode(&[Lookup, Required]), WhenAvailable);
        assert_eq!(mode(&[WhenAvailable, Required]), WhenAvailable);
        assert_eq!(mode(&[Lookup, WhenAvailable]), WhenAvailable);
    }
}
