//! The positions of a process's silent groups are committed in one transaction; a group that cannot
//! go with the others does not hold them up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::changing::{fill, until_equal, until_streaming};
use crate::support::{Config, Daemon, World, eventually, stream};

const NAMES: [&str; 4] = ["one", "two", "three", "four"];

async fn world() -> (World, Daemon) {
    let each = NAMES.map(|name| stream(name, name, &format!("group = {name:?}")));
    let extra = "checkpoint.idle_interval = \"3s\"\n".to_owned();
    let world = World::with(Config { streams: each.concat(), extra, ..Config::default() }).await;
    for name in NAMES {
        fill(&world, name).await;
    }
    let daemon = world.start();
    until_streaming(&daemon, &NAMES).await;
    until_equal(&world, &NAMES).await;
    (world, daemon)
}

/// Transactions that moved the positions of all of these groups, seen within a while.
async fn together(world: &World, groups: &str, wanted: usize) {
    // The beginning of the transaction: each row's own is a savepoint's.
    let sql = format!(
        "select case when count(distinct updated_at) = 1 then min(updated_at)::text else '' end \
         from tidemark.checkpoint where \"group\" in ({groups})"
    );
    let (mut seen, begun) = (BTreeSet::new(), Instant::now());
    while seen.len() < wanted {
        let transaction: String = world.scalar(&sql).await;
        seen.extend((!transaction.is_empty()).then_some(transaction));
        assert!(begun.elapsed() < Duration::from_secs(60), "{groups}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_positions_of_all_groups_are_one_transaction() {
    let (world, daemon) = world().await;
    together(&world, "'one', 'two', 'three', 'four'", 4).await;
    let revisions = "select sum(revision)::bigint from tidemark.checkpoint";
    let (begun, before) = (Instant::now(), world.scalar::<i64>(revisions).await);
    tokio::time::sleep(Duration::from_secs(9)).await;
    let twice = format!("select ({revisions}) - {before} >= 8");
    world.until("each has advanced twice", &twice).await;
    let advanced = world.scalar::<i64>(revisions).await - before;
    // Twice as often as they are due, at most.
    let most = 8 * (begun.elapsed().as_secs() / 3).max(3);
    assert!(advanced <= i64::try_from(most).unwrap(), "{advanced} advances of four groups: {most}");
    assert!(!daemon.log().contains("\"level\":\"ERROR\""), "{}", daemon.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_another_process_or_whose_table_was_emptied_holds_up_no_other() {
    let (world, daemon) = world().await;
    together(&world, "'one', 'two', 'three', 'four'", 1).await;
    // Its position is not moved by the commit that the others go on by.
    world
        .execute(
            "truncate public.two; update tidemark.checkpoint set nonce = null where \"group\" = \
             'one'",
        )
        .await;
    together(&world, "'three', 'four'", 3).await;
    let repaired = "select exists (select from tidemark.resync where stream = 'two' and reason = \
                    'table_replaced' and state = 'completed')";
    world.until("what was emptied is repaired", repaired).await;
    until_equal(&world, &NAMES).await;
    let fenced = async || daemon.log().contains("fenced");
    eventually("whoever holds the group no more says so", fenced).await;
}

/// Where the answer to the one commit is lost, each group finds out whether it landed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_found_out_by_each_group() {
    let (world, daemon) = world().await;
    for name in NAMES {
        let id = 9_000;
        world.collection(name).insert_one(mongodb::bson::doc! { "_id": id }).await.unwrap();
    }
    // Sessions end in the middle of whatever they do, over and over.
    for _ in 0..100 {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> \
                   pg_backend_pid() and datname = current_database() and (query ilike '%commit%' \
                   or query ilike '%savepoint%')";
        world.execute(end).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    until_equal(&world, &NAMES).await;
    together(&world, "'one', 'two', 'three', 'four'", 2).await;
    let walks: i64 = world.scalar("select count(*) from tidemark.resync").await;
    assert_eq!(walks, 4, "only the first snapshots");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
