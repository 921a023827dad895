//! Many chunks of a first snapshot in one transaction: what becomes of them when it fails.

use std::time::Duration;

use devstack::{Proxy, Stack};
use mongodb::bson::{Document, doc};

use crate::support::{Config, Daemon, World, eventually, stream};

const FAILURES: &str = "tidemark_commit_failures_total{class=\"transient\",stream=\"odd\"}";

fn config() -> Config {
    Config {
        extra: "resync.chunk_documents = 50".into(),
        streams: stream("odd", "odd", ""),
        ..Config::default()
    }
}

async fn load(world: &World, documents: i32) {
    // An id that sorts as text as it does as a number, so that the table tells how far the walk
    // came.
    let documents: Vec<Document> =
        (0..documents).map(|n| doc! { "_id": format!("{n:06}"), "n": n }).collect();
    world.collection("odd").insert_many(documents).await.unwrap();
}

/// (walks, documents read, rows inserted), by the walks' own account.
async fn account(world: &World) -> (i64, i64, i64) {
    world.row("select count(*), max(documents_read), max(rows_inserted) from tidemark.resync").await
}

/// Whether a commit of the stream's has failed; the series begins with the first.
async fn has_failed(daemon: &Daemon) -> bool {
    let served = daemon.get("/metrics").await.1;
    let number = |line: &str| line.strip_prefix(FAILURES)?.trim().parse::<f64>().ok();
    served.lines().filter_map(number).any(|number| number >= 1.0)
}

async fn until_gone(daemon: &mut Daemon) {
    while daemon.is_running() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn many_chunks_are_one_transaction_and_killed_in_it_the_walk_goes_on_where_the_database_says()
{
    for (place, commits) in [("copying", false), ("before_commit", false), ("after_commit", true)] {
        let world = World::with(config()).await;
        load(&world, 3_000).await;
        let mut daemon =
            world.start_with(&[("TIDEMARK_FAILPOINT", &format!("apply.{place}=abort"))]);
        until_gone(&mut daemon).await;
        let (walks, read, _) = account(&world).await;
        assert_eq!((walks, read > 0), (1, commits), "{place}: {read} documents");
        assert!(
            read == 0 || read > 400,
            "more than the eight finds of a chunk, in one transaction: {read}"
        );
        assert_eq!(world.scalar::<i64>("select count(*) from public.odd").await, read);
        let daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        world.until_equal("odd", "public.odd").await;
        assert_eq!(account(&world).await, (1, 3_000, 3_000));
    }
}

#[tokio::test]
async fn a_row_refused_among_many_chunks_is_set_aside_alone() {
    let world = World::with(config()).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world
        .execute("alter table public.odd add constraint odd_one check (doc ->> 'n' <> '777')")
        .await;
    load(&world, 3_000).await;
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd").await, 2_999);
    let (id, event): (String, Vec<u8>) =
        world.row("select document_id, event from tidemark.dead_letter").await;
    let event: Document = mongodb::bson::deserialize_from_slice(&event).unwrap();
    assert_eq!((id.as_str(), event), ("000777", doc! { "_id": "000777", "n": 777 }));
    assert_eq!(account(&world).await, (1, 3_000, 2_999));
    assert_eq!(
        daemon.metric("tidemark_dead_letters_total{code=\"refused\",stream=\"odd\"}").await,
        1.0
    );
}

#[tokio::test]
async fn an_answer_lost_and_a_wire_cut_in_the_middle_cost_no_row_and_bring_none_twice() {
    const DOCUMENTS: i32 = 40_000;
    let stack = Stack::shared();
    for answer_lost in [true, false] {
        let proxy = Proxy::to(stack.postgres.port()).unwrap();
        let database = stack.postgres.database().await.unwrap();
        let target = format!("postgres://tidemark@127.0.0.1:{}/{database}", proxy.port());
        let world = World::of(&stack.mongo.uri(), &target, config()).await;
        load(&world, DOCUMENTS).await;
        let daemon = world.start();
        // As the log has it: on a slow machine it may be over before the status is looked at.
        let phases = async || daemon.phases("odd").contains(&"snapshotting".to_owned());
        eventually("it is walked", phases).await;
        if answer_lost {
            // Others commit, too: until it was the stream's own.
            while !daemon.log().contains("commit without an answer") {
                proxy.swallow_reply_to(b"COMMIT");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            // Something is under way at nearly every moment, until it was the stream's own.
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(200)).await;
                if has_failed(&daemon).await {
                    break;
                }
            }
        }
        daemon.until_phase("odd", "streaming").await;
        world.until_equal("odd", "public.odd").await;
        assert_eq!(account(&world).await, (1, DOCUMENTS.into(), DOCUMENTS.into()));
        assert!(has_failed(&daemon).await, "it failed in the middle");
        if answer_lost {
            assert!(
                daemon.log().contains("\"landed\":true"),
                "the commit had landed, and that was seen"
            );
        }
    }
}
