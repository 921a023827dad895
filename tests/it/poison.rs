//! Guarantees 8 and 10: a document that processes die of is set aside by its key, within six
//! starts, and takes nothing else with it; a process that ends for another reason sets nothing
//! aside.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};

use crate::support::{Config, Daemon, World, eventually, run, stream};

const POISON: (&str, &str) = ("TIDEMARK_FAILPOINT", "encode:zqpoison=abort");

async fn world() -> World {
    let extra = "lease.duration = \"2s\"\nresync.chunk_documents = 100".to_owned();
    let world =
        World::with(Config { streams: stream("odd", "odd", ""), extra, ..Config::default() }).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
}

fn documents(ids: std::ops::Range<i32>, poison: i32) -> Vec<Document> {
    let text = |id| if id == poison { "zqpoison" } else { "good" };
    ids.map(|id| doc! { "_id": id, "text": text(id) }).collect()
}

/// Starts the daemon until it has come past the poison.
async fn restart_until_past(world: &World, what: &str) {
    for starts in 1.. {
        assert!(starts <= 6, "{what}: not past it\n{}", world.logs());
        let mut daemon = world.start_with(&[POISON]);
        loop {
            if !daemon.is_running() {
                break;
            }
            if world.scalar::<i64>("select count(*) from tidemark.dead_letter").await > 0 {
                daemon.until_phase("odd", "streaming").await;
                assert_eq!(daemon.stop().0, Some(0));
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What was set aside is just the poison; once nothing dies of it any more, it is written.
async fn all_but_the_poison_is_there(world: &World, poison: i32, operation: &str) {
    let letter: (String, String, String) =
        world.row("select document_id, operation, code from tidemark.dead_letter").await;
    let id = format!("{{\"$numberInt\":\"{poison}\"}}");
    assert_eq!(letter, (id.clone(), operation.to_owned(), "crashed".to_owned()));
    let keeps =
        "select position('zqpoison' in encode(event, 'escape')) = 0 from tidemark.dead_letter";
    assert!(world.scalar::<bool>(keeps).await, "only the key is kept");
    let mut daemon = world.start();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = world.compare("odd", "public.odd").await;
        let differing: Vec<&String> = found.missing.iter().chain(&found.different).collect();
        if found.extra.is_empty() && differing == [&id] {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (code, said) =
        run(world, &["dead-letter", "retry", "--all", "odd", "--reason", "mended", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_kills_as_an_event_is_stepped_over() {
    for (operation, poison) in [("insert", 120), ("update", 20)] {
        let world = world().await;
        let odd = world.collection("odd");
        odd.insert_many(documents(0..50, -1)).await.unwrap();
        let mut daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        assert_eq!(daemon.stop().0, Some(0));
        odd.insert_many(documents(50..150, poison)).await.unwrap();
        if operation == "update" {
            let poisoned = doc! { "$set": { "text": "zqpoison" } };
            odd.update_one(doc! { "_id": poison }, poisoned).await.unwrap();
        }
        odd.insert_many(documents(150..250, poison)).await.unwrap();
        restart_until_past(&world, operation).await;
        all_but_the_poison_is_there(&world, poison, operation).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_kills_in_a_walk_is_stepped_over() {
    for what in ["snapshot", "resync"] {
        let world = world().await;
        let odd = world.collection("odd");
        odd.insert_many(documents(0..240, -1)).await.unwrap();
        if what == "resync" {
            let mut daemon = world.start();
            daemon.until_phase("odd", "streaming").await;
            assert_eq!(daemon.stop().0, Some(0));
            world.execute("update tidemark.checkpoint set resume_token = null").await;
        }
        odd.insert_many(documents(240..400, 333)).await.unwrap();
        restart_until_past(&world, what).await;
        all_but_the_poison_is_there(&world, 333, "snapshot").await;
    }
}

/// The walk is asked for by one find a step: they are counted by the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_filter_leaves_out_is_gone_over_in_steps_beside_what_kills() {
    let extra = "lease.duration = \"2s\"\nresync.chunk_documents = 100".to_owned();
    let streams = stream("odd", "odd", "filter = '{\"k\": 1}'");
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let text = |id| if id == 150 { "zqpoison" } else { "good" };
    let k = |id: i32| i32::from(!(100..120_100).contains(&id) || id == 150);
    let odd = world.collection("odd");
    for from in (0..120_200).step_by(30_050) {
        let many = from..from + 30_050;
        odd.insert_many(many.map(|id| doc! { "_id": id, "text": text(id), "k": k(id) }))
            .await
            .unwrap();
    }
    let profile = doc! { "create": "system.profile", "capped": true, "size": 32 << 20 };
    world.source.run_command(profile).await.unwrap();
    world.source.run_command(doc! { "profile": 2 }).await.unwrap();
    restart_until_past(&world, "snapshot").await;
    world.source.run_command(doc! { "profile": 0 }).await.unwrap();
    let finds = doc! { "op": "query", "command.find": "odd" };
    let finds = world.collection("system.profile").count_documents(finds).await.unwrap();
    println!("{finds} finds");
    assert!((1..2_100).contains(&finds), "{finds} finds, of 50 documents each if all with care");
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd").await, 200);
    let letters = "select document_id from tidemark.dead_letter";
    assert_eq!(world.column(letters).await, ["{\"$numberInt\":\"150\"}"]);
}

/// Whoever ends a process in good order while it rests before the poison waits for no rest, and
/// meets no poison; the suspicion stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_good_order_is_heard_in_a_rest_and_forgets_no_suspicion() {
    let world = world().await;
    let odd = world.collection("odd");
    odd.insert_many(documents(0..50, -1)).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(daemon.stop().0, Some(0));
    odd.insert_many(documents(50..150, 120)).await.unwrap();

    let mut ended = None;
    for _ in 0..6 {
        let mut daemon = world.start_with(&[POISON]);
        while daemon.is_running() && !daemon.log().contains("nothing is taken in hand for 3s") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // On a slow machine the rest may be over before it is told to end.
        ended = if daemon.is_running() { daemon.stop().0 } else { None };
        if ended == Some(0) {
            break;
        }
    }
    assert_eq!(ended, Some(0), "no rest was ended in good order\n{}", world.logs());
    let suspected = "select hand_size = 1 and hand_deaths > 0 and run is null from \
                     tidemark.attempt where road = 'live'";
    assert!(world.scalar::<bool>(suspected).await, "the suspicion is gone");

    restart_until_past(&world, "after an end").await;
    all_but_the_poison_is_there(&world, 120, "insert").await;
}

/// Whether the process stands still with what it met.
fn is_frozen(daemon: &Daemon) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.child.id())).unwrap();
    stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
}

/// Whoever kills from outside hits the very moments in which one document is in hand alone; but no
/// document kills a process that has nothing in hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_in_hand_at_each_kill_from_outside_is_not_set_aside() {
    const FREEZE: (&str, &str) = ("TIDEMARK_FAILPOINT", "encode:zqpoison=freeze");
    let world = world().await;
    let odd = world.collection("odd");
    odd.insert_many(documents(0..50, -1)).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(daemon.stop().0, Some(0));
    odd.insert_many(documents(50..150, 120)).await.unwrap();
    let (mut in_hand, mut at_rest) = (0, 0);
    for _ in 0..10 {
        let daemon = world.start_with(&[FREEZE]);
        let is_at_rest = || daemon.log().contains("nothing is taken in hand for 3s");
        let begun = Instant::now();
        while !is_frozen(&daemon) && !is_at_rest() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", daemon.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if is_at_rest() {
            at_rest += 1;
        } else {
            in_hand += 1;
        }
        daemon.kill();
    }
    assert!(in_hand >= 6 && at_rest >= 2, "{in_hand} with it in hand, {at_rest} at rest");
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_again_and_again_at_one_position_sets_nothing_aside() {
    let world = world().await;
    let odd = world.collection("odd");
    odd.insert_many(documents(0..300, -1)).await.unwrap();
    for _ in 0..5 {
        let daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        daemon.kill();
    }
    odd.insert_many(documents(300..600, -1)).await.unwrap();
    odd.update_many(doc! {}, doc! { "$set": { "n": 1 } }).await.unwrap();
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    assert_eq!(daemon.stop().0, Some(0));
}

/// What processes died of lies before the present: beside one who goes on writing, care ends there,
/// and what waits for it, a walk here, goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn care_ends_at_the_present_however_much_is_written_meanwhile() {
    let streams = stream("odd", "odd", "") + &stream("even", "even", "");
    let world = World::with(Config { streams, ..Config::default() }).await;
    for name in ["odd", "even"] {
        world.collection(name).insert_many(documents(0..20, -1)).await.unwrap();
    }
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    daemon.until_phase("even", "streaming").await;
    assert_eq!(daemon.stop().0, Some(0));
    world.execute("drop table public.even").await;
    let odd = world.collection("odd");
    let writing = tokio::spawn(async move {
        for id in 20.. {
            odd.insert_one(doc! { "_id": id }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    for _ in 0..2 {
        let mut dying = world.start_with(&[("TIDEMARK_FAILPOINT", "apply.begun=abort")]);
        eventually("it died", async || !dying.is_running()).await;
    }
    let daemon = world.start();
    daemon.until_phase("even", "streaming").await;
    world.until_equal("even", "public.even").await;
    assert!(daemon.log().contains("processes have died here"));
    writing.abort();
    world.until_equal("odd", "public.odd").await;
}
