//! The set of streams changes from one start to the next, while the source is written to: nothing
//! is lost, and nothing is walked that need not be.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::bson::doc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Config, Daemon, World, eventually, run, state, stream};

/// Writes to all collections all the while.
pub struct Load {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Load {
    pub fn of(world: &World, collections: &[&'static str]) -> Self {
        let (stop, source) = (CancellationToken::new(), world.source.clone());
        let (told, names) = (stop.clone(), collections.to_vec());
        let task = tokio::spawn(async move {
            for n in 0.. {
                for name in &names {
                    let collection = source.collection(name);
                    collection.insert_one(doc! { "_id": 1_000 + n, "n": n }).await.unwrap();
                    let set = doc! { "$set": { "n": n } };
                    collection.update_one(doc! { "_id": n % 50 }, set).await.unwrap();
                    if n % 3 == 0 {
                        collection.delete_one(doc! { "_id": 990 + n }).await.unwrap();
                    }
                }
                if told.is_cancelled() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { stop, task }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A collection that is there, of fifty documents and more.
pub async fn fill(world: &World, name: &str) {
    let documents = (0..50).map(|n| doc! { "_id": n, "n": 0 });
    world.collection(name).insert_many(documents).await.unwrap();
}

pub fn of(streams: &[(&str, &str)]) -> Config {
    let each = streams.iter().map(|(name, more)| stream(name, name, more));
    Config {
        streams: each.collect(),
        extra: "resync.automatic_per_day_max = 1".to_owned(),
        ..Config::default()
    }
}

/// Why each stream was walked, in turn.
pub async fn walks(world: &World) -> BTreeMap<String, String> {
    let sql = "select stream || '=' || string_agg(reason, ' ' order by id) from tidemark.resync \
               group by stream";
    let told = world.column(sql).await;
    let pair = |text: &String| {
        let (stream, reasons) = text.split_once('=').unwrap();
        (stream.to_owned(), reasons.to_owned())
    };
    told.iter().map(pair).collect()
}

pub async fn until_streaming(daemon: &Daemon, names: &[&str]) {
    for name in names {
        daemon.until_phase(name, "streaming").await;
    }
}

pub async fn until_equal(world: &World, names: &[&str]) {
    for name in names {
        world.until_equal(name, &format!("public.{name}")).await;
    }
}

/// Ends in good order, or as by a power cut.
fn end(mut daemon: Daemon, turn: usize) {
    if turn.is_multiple_of(2) {
        assert_eq!(daemon.stop().0, Some(0));
    } else {
        daemon.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_added_is_walked_alone() {
    let world = World::with(of(&[("one", "")])).await;
    for name in ["one", "two", "three"] {
        fill(&world, name).await;
    }
    let load = Load::of(&world, &["one", "two", "three"]);
    let sets: [&[(&str, &str)]; 3] =
        [&[("one", "")], &[("one", ""), ("two", "")], &[("three", ""), ("two", ""), ("one", "")]];
    for (turn, set) in sets.into_iter().enumerate() {
        let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
        let daemon = world.beside(&of(set)).start();
        until_streaming(&daemon, &names).await;
        end(daemon, turn);
        // Events of those that were followed and of those that were not, as the next one's first.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    load.end().await;
    let daemon = world.beside(&of(sets[2])).start();
    until_streaming(&daemon, &["one", "two", "three"]).await;
    until_equal(&world, &["one", "two", "three"]).await;
    let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
    assert_eq!(walks(&world).await, ["one", "two", "three"].map(once).into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_removed_keeps_its_table_and_is_repaired_when_it_is_back() {
    let both: &[(&str, &str)] = &[("one", ""), ("two", "")];
    let world = World::with(of(both)).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let load = Load::of(&world, &["one", "two"]);
    let mut daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    assert_eq!(daemon.stop().0, Some(0));

    let without = world.beside(&of(&[("one", "")]));
    let mut daemon = without.start();
    daemon.until_phase("one", "streaming").await;
    let left = "select left_at is not null from tidemark.stream where stream = 'two'";
    world.until("it is remembered as left", left).await;
    let kept: i64 = world.scalar("select count(*) from public.two").await;
    assert!(kept >= 50, "{kept} rows");
    assert_eq!(daemon.status().await["streams"].as_array().unwrap().len(), 1);
    let told = "select phase, exact from tidemark.position where stream = 'two'";
    assert_eq!(world.row::<(String, bool)>(told).await, ("standby".to_owned(), false));
    // A document that goes while nobody looks.
    world.collection("two").delete_one(doc! { "_id": 7 }).await.unwrap();
    world.collection("one").delete_one(doc! { "_id": 7 }).await.unwrap();
    let gone = "select not exists (select from public.one where id = '{\"$numberInt\":\"7\"}')";
    world.until("its neighbour is followed", gone).await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.two").await, kept);
    assert_eq!(daemon.stop().0, Some(0));
    world.execute("create table public.left_at as select left_at from tidemark.stream").await;

    // A walk that had not ended when it was taken out is under way no more.
    let open = "update tidemark.resync set ended_at = null, state = 'running' where stream = 'two'";
    world.execute(open).await;
    assert!(run(&without, &["resync", "list"]).1.contains(" left "));
    assert!(!run(&world, &["resync", "list"]).1.contains(" left "));
    let ended = "update tidemark.resync set ended_at = now(), state = 'completed' where stream = \
                 'two'";
    world.execute(ended).await;

    let daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    load.end().await;
    until_equal(&world, &["one", "two"]).await;
    let walked = walks(&world).await;
    assert_eq!(walked["one"], "first_snapshot");
    assert_eq!(walked["two"], "first_snapshot rejoined");
    let blind = "select blind_from <= (select max(left_at) from public.left_at) from \
                 tidemark.resync where reason = 'rejoined'";
    assert!(world.scalar::<bool>(blind).await, "it was blind from when it was let go");
    daemon.until("two", "is exact", |s| s["exact"] == true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_moved_to_another_group_loses_nothing() {
    let world = World::with(of(&[("one", ""), ("two", ""), ("three", "")])).await;
    for name in ["one", "two", "three"] {
        fill(&world, name).await;
    }
    let load = Load::of(&world, &["one", "two", "three"]);
    let names = ["one", "two", "three"];
    let other = "group = \"other\"";
    // To a group that begins, to one that is there, back, and to one that ends.
    let sets: [[&str; 3]; 5] =
        [["", "", ""], ["", other, ""], ["", other, other], ["", "", other], ["", "", ""]];
    for (turn, groups) in sets.into_iter().enumerate() {
        let set: Vec<(&str, &str)> = names.into_iter().zip(groups).collect();
        let daemon = world.beside(&of(&set)).start();
        until_streaming(&daemon, &names).await;
        for (name, group) in &set {
            let wanted = if group.is_empty() { "main" } else { "other" };
            assert_eq!(daemon.stream(name).await["group"], wanted, "{name}, turn {turn}");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        end(daemon, turn);
    }
    load.end().await;
    let daemon = world.start();
    until_streaming(&daemon, &names).await;
    until_equal(&world, &names).await;
    // A move that meets a group whose leader comes or goes at that very moment may cost a walk; of
    // the six here, no more than one does.
    let walked = walks(&world).await;
    let mut again = 0;
    for name in ["one", "two", "three"] {
        let rest = walked[name].strip_prefix("first_snapshot").unwrap();
        again += rest.matches(" rejoined").count();
        assert!(rest.replace(" rejoined", "").is_empty(), "{walked:?}");
        daemon.until(name, "is exact", |s| s["exact"] == true).await;
    }
    assert!(again <= 1, "streams that were moved were walked again: {walked:?}");
}

/// The next replica's configuration names another group for a stream that is still followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_waits_for_a_stream_leaves_its_row_alone_until_it_is_let_go() {
    let world = World::with(of(&[("one", ""), ("two", ""), ("three", "group = \"other\"")])).await;
    for name in ["one", "two", "three"] {
        fill(&world, name).await;
    }
    let mut before = world.start();
    until_streaming(&before, &["one", "two", "three"]).await;
    let other = "group = \"other\"";
    let next = world.beside(&of(&[("one", ""), ("two", other), ("three", other)]));
    let load = Load::of(&world, &["one", "two", "three"]);
    let after = next.start();
    after.until_phase("one", "standby").await;
    // Its neighbour is led by the next one, and it is not: the process before has the group main.
    let holder = before.stream("three").await["holder"].as_str().unwrap().to_owned();
    let end = format!(
        "with ended as (update tidemark.lease set expires_at = '-infinity', nonce = null where \
         \"group\" = 'other' and holder = '{holder}' returning 1) update tidemark.checkpoint set \
         nonce = null where \"group\" = 'other' and exists (select from ended)"
    );
    // The process before may take it again: until the next one has it.
    let leads = async || {
        let leads = after.stream("three").await["leader"] == true;
        if !leads {
            world.execute(&end).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        leads
    };
    eventually("the next one leads its neighbour", leads).await;
    after.until("two", "waits", |s| s["phase"] == "parked").await;
    let unmarked = "select parked_code is null and \"group\" = 'main' from tidemark.stream where \
                    stream = 'two'";
    assert!(world.scalar::<bool>(unmarked).await);
    before.until_phase("two", "streaming").await;
    assert_eq!(before.stop().0, Some(0));
    until_streaming(&after, &["one", "two", "three"]).await;
    load.end().await;
    until_equal(&world, &["one", "two", "three"]).await;
    let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
    assert_eq!(walks(&world).await, ["one", "two", "three"].map(once).into());
}

/// A stream that an older release followed, and that was left out when this one came, still has its
/// own position there; so has one that a group let go. Both are gone on from, or, if that is long
/// ago, walked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_comes_into_a_group_that_is_ahead_of_it_misses_nothing() {
    let (both, one): (&[_], &[_]) = (&[("one", ""), ("two", "")], &[("one", "")]);
    for (ago, walked) in [(0_i64, "first_snapshot"), (3600, "first_snapshot history_lost")] {
        let world = World::with(of(both)).await;
        for name in ["one", "two"] {
            fill(&world, name).await;
        }
        let mut daemon = world.start();
        until_streaming(&daemon, &["one", "two"]).await;
        assert_eq!(daemon.stop().0, Some(0));
        let left = format!(
            "insert into tidemark.stream_position (stream, source, options, resume_token, token, \
             cluster_time, epoch, revision) select 'two', database || '.two', options, \
             resume_token, token, cluster_time - ({ago}::bigint << 32), epoch, revision from \
             tidemark.checkpoint; update tidemark.stream set \"group\" = null, database = null, \
             collection = null where stream = 'two'"
        );
        world.execute(&left).await;
        let mut daemon = world.beside(&of(one)).start();
        daemon.until_phase("one", "streaming").await;
        for name in ["one", "two"] {
            world.collection(name).insert_one(doc! { "_id": 5_000 }).await.unwrap();
            world.collection(name).delete_one(doc! { "_id": 7 }).await.unwrap();
        }
        until_equal(&world, &["one"]).await;
        assert_eq!(daemon.stop().0, Some(0));

        let daemon = world.start();
        until_equal(&world, &["one", "two"]).await;
        let walks = walks(&world).await;
        assert_eq!((&*walks["one"], &*walks["two"]), ("first_snapshot", walked));
        daemon.until("two", "is exact", |s| s["exact"] == true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_way_to_read_documents_or_another_name_for_a_stream_loses_nothing() {
    let world = World::with(of(&[("one", ""), ("two", "")])).await;
    for name in ["one", "two"] {
        let images = doc! { "enabled": true };
        let create = doc! { "create": name, "changeStreamPreAndPostImages": images };
        world.source.run_command(create).await.unwrap();
        fill(&world, name).await;
    }
    let load = Load::of(&world, &["one", "two"]);
    let modes = ["lookup", "when_available", "required", "lookup"];
    for (turn, mode) in modes.into_iter().enumerate() {
        let more = format!("post_image = {mode:?}");
        let daemon = world.beside(&of(&[("one", &more), ("two", "")])).start();
        until_streaming(&daemon, &["one", "two"]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        end(daemon, turn);
    }
    let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
    assert_eq!(walks(&world).await, ["one", "two"].map(once).into(), "a token is of no image mode");

    // What is called otherwise is what it was, with all that is its.
    world.execute(LETTER).await;
    let renamed = stream("uno", "one", "").replace("table = \"uno\"", "table = \"one\"");
    let streams = renamed + &stream("two", "two", "");
    let world = world.beside(&Config { streams, ..Config::default() });
    let daemon = world.start();
    until_streaming(&daemon, &["uno", "two"]).await;
    load.end().await;
    until_equal(&world, &["one", "two"]).await;
    assert_eq!(
        walks(&world).await,
        ["two", "uno"].map(once).into(),
        "nothing is walked for a name"
    );
    let letters = world.column("select stream from tidemark.dead_letter").await;
    assert_eq!(letters, ["uno"]);
}

/// The position stays at an event of a collection that no row names any more: whoever takes it up
/// is refused it, until all collections are let through.
#[tokio::test]
async fn an_event_of_a_collection_that_is_followed_no_more_is_a_position_all_the_same() {
    let config = |followed: &str| Config {
        streams: stream("one", followed, "") + &stream("two", "two", ""),
        extra: "checkpoint.idle_interval = \"60s\"".to_owned(),
        ..Config::default()
    };
    let world = World::with(config("one")).await;
    for name in ["one", "two", "three"] {
        fill(&world, name).await;
    }
    let daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    let set = doc! { "$set": { "n": 7 } };
    world.collection("one").update_one(doc! { "_id": 1 }, set.clone()).await.unwrap();
    until_equal(&world, &["one", "two"]).await;
    daemon.kill();
    let is_of_an_event = "select bool_and(length(token) > 40) from tidemark.checkpoint";
    assert!(world.scalar::<bool>(is_of_an_event).await);
    world.execute(&state::keep_positions()).await;
    world.configure(&config("three"));
    let daemon = world.start();
    let walked = "select count(*) = 1 from tidemark.resync where reason = 'mapping_changed' and \
                  state = 'completed'";
    world.until("the other collection is walked", walked).await;
    daemon.kill();
    // Killed before it moved the position, however long the walk took.
    world.execute(&state::take_positions_back()).await;
    // What nobody follows is let through, too, and is nothing to any stream.
    for name in ["one", "two"] {
        world.collection(name).update_one(doc! { "_id": 2 }, set.clone()).await.unwrap();
    }
    world.collection("one").drop().await.unwrap();
    let daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    until_equal(&world, &["two"]).await;
    world.until_equal("three", "public.one").await;
    for name in ["two", "three"] {
        world.collection(name).delete_one(doc! { "_id": 3 }).await.unwrap();
    }
    until_equal(&world, &["two"]).await;
    world.until_equal("three", "public.one").await;
    let walked = walks(&world).await;
    assert_eq!(walked["one"], "first_snapshot mapping_changed");
    assert_eq!(walked["two"], "first_snapshot");
    daemon.until("two", "is exact", |s| s["exact"] == true).await;
}

const LETTER: &str = "insert into tidemark.dead_letter (stream, document_id, operation, event, \
                      code, error) values ('one', 'x', 'update', '', 'x', 'x')";
