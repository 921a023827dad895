//! What a group is told of streams that it follows no more, and groups that take streams from one
//! another at the same moment.

use mongodb::bson::doc;

use crate::changing::{fill, of, until_equal, until_streaming, walks};
use crate::support::{Stopwatch, World, eventually, run};

/// While a position is of an event, collections that were ever followed are let through, and what
/// becomes of them is told with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drop_of_a_collection_that_a_group_follows_no_more_is_nothing_to_its_streams() {
    let all: &[(&str, &str)] = &[("one", ""), ("two", ""), ("three", "")];
    let removed: &[(&str, &str)] = &[("one", ""), ("three", "")];
    let moved: &[(&str, &str)] = &[("one", ""), ("two", "group = \"other\""), ("three", "")];
    for (after, alone) in [(removed, false), (moved, false), (&all[..1], true)] {
        let before = if alone { &all[..2] } else { all };
        let names: Vec<&str> = before.iter().map(|(name, _)| *name).collect();
        let stay: Vec<&str> = names.iter().filter(|name| **name != "two").copied().collect();
        let mut config = of(before);
        config.extra += "\ncheckpoint.idle_interval = \"1h\"";
        let world = World::with(config).await;
        for name in &names {
            fill(&world, name).await;
        }
        let daemon = world.start();
        until_streaming(&daemon, &names).await;
        until_equal(&world, &names).await;
        world.collection("one").insert_one(doc! { "_id": 100 }).await.unwrap();
        until_equal(&world, &names).await;
        daemon.kill();
        let of_event = "select token !~ '0229' from tidemark.checkpoint where \"group\" = 'main'";
        assert!(world.scalar::<bool>(of_event).await, "the position is not of an event");

        world.collection("two").drop().await.unwrap();
        world.collection("one").insert_one(doc! { "_id": 101 }).await.unwrap();
        let daemon = world.beside(&of(after)).start();
        until_equal(&world, &stay).await;
        until_streaming(&daemon, &stay).await;
        let walked = walks(&world).await;
        for name in &stay {
            assert_eq!(walked[*name], "first_snapshot", "{name}: {walked:?}");
            assert!(
                !daemon.phases(name).iter().any(|phase| phase == "parked" || phase == "halted")
            );
        }
        let told = daemon.status().await["incidents"].clone();
        let of_those = |incident: &&serde_json::Value| incident["stream"] != "two";
        assert!(!told.as_array().unwrap().iter().any(|one| of_those(&one)), "{told:#}");
    }
}

/// Both groups begin at once, and the one takes a stream that is still the other's, which is just
/// being granted: its row is locked, and its lease not yet to be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_takes_a_stream_does_not_fence_off_the_one_that_has_just_been_granted() {
    let (both, names) = ([("one", ""), ("two", "")], ["one", "two"]);
    let mut config = of(&both);
    config.extra += "\nlease.duration = \"20s\"";
    let world = World::with(config).await;
    for name in names {
        fill(&world, name).await;
    }
    let mut daemon = world.start();
    until_streaming(&daemon, &names).await;
    daemon.stop();
    world
        .execute(
            "create function slow() returns trigger language plpgsql as $$ begin perform \
             pg_sleep(tg_argv[0]::float8); return new; end $$; \
             create trigger slow after update on tidemark.checkpoint for each row when \
             (new.\"group\" = 'main' and new.nonce is distinct from old.nonce and new.nonce is not \
             null) execute function slow('2'); \
             create trigger slow before update on tidemark.lease for each row when (new.\"group\" \
             = 'other' and new.nonce is distinct from old.nonce) execute function slow('0.7')",
        )
        .await;
    let mut config = of(&[("one", ""), ("two", "group = \"other\"")]);
    config.extra += "\nlease.duration = \"20s\"";
    let daemon = world.beside(&config).start();
    until_streaming(&daemon, &names).await;
    until_equal(&world, &names).await;
    for name in names {
        world.collection(name).insert_one(doc! { "_id": 100 }).await.unwrap();
    }
    until_equal(&world, &names).await;
    let log = daemon.log();
    assert!(!log.contains("fenced"), "{log}");
}

/// Whoever cannot write any more under a lease that is still its own waits for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_fenced_off_though_nobody_else_leads_goes_on_at_once() {
    let mut config = of(&[("one", ""), ("two", "")]);
    // Who waited for its end would not be done in time.
    config.extra += "\nlease.duration = \"10m\"";
    let world = World::with(config).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    world.execute("update tidemark.checkpoint set nonce = null, epoch = epoch + 1").await;
    world.collection("one").insert_one(doc! { "_id": 100 }).await.unwrap();
    until_equal(&world, &["one", "two"]).await;
    assert_eq!(daemon.metric("tidemark_fenced_commits_total{stream=\"one\"}").await, 1.0);
}

/// Of a release that is rolled out, the next process waits for the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_moved_to_a_group_of_its_own_goes_on_as_soon_as_it_is_let_go() {
    let slow = "\nretry.delay_max = \"60s\"";
    let mut config = of(&[("one", ""), ("two", "")]);
    config.extra += slow;
    let world = World::with(config).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let mut before = world.start();
    until_streaming(&before, &["one", "two"]).await;
    let mut config = of(&[("one", ""), ("two", "group = \"other\"")]);
    config.extra += slow;
    let next = world.beside(&config);
    let mut after = next.start();
    let waits = after.until("two", "waits", |s| s["phase"] == "parked").await;
    let reason = waits["reason"].as_str().unwrap();
    assert!(reason.contains("in group main, which has not let it go"), "{waits:#}");
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(after.status().await["incidents"], serde_json::json!([]));
    before.until_phase("two", "streaming").await;

    assert_eq!(before.stop().0, Some(0));
    let begun = Stopwatch::start();
    world.collection("two").insert_one(doc! { "_id": 100 }).await.unwrap();
    until_equal(&world, &["one", "two"]).await;
    let took = begun.elapsed();
    assert!(took.as_secs() < 12, "it went on after {took:?}");
    until_streaming(&after, &["one", "two"]).await;
    let log = after.log();
    assert!(log.contains("it goes on") && !log.contains("repaired by a resync"), "{log}");
    assert!(!after.phases("two").contains(&"halted".to_owned()));
    let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
    assert_eq!(walks(&world).await, ["one", "two"].map(once).into());

    // Whoever asks once nobody leads it is told so.
    let (code, told) = run(&next, &["status", "--stream", "two"]);
    assert!(code == Some(0) && told.starts_with("stream two: healthy"), "{told}");
    assert_eq!(after.stop().0, Some(0));
    let (code, told) = run(&next, &["status", "--stream", "two"]);
    assert!(code == Some(2) && told.contains("nobody follows stream two"), "{told}");
}

/// A stream of another name than its collection and its table.
fn called(name: &str, of: &str) -> String {
    format!("[[stream]]\nname = {name:?}\ncollection = {of:?}\ntable = {of:?}\n")
}

/// The process that leads the other group ends for good, in good order or not: what it leaves is
/// nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_old_group_nobody_leads_any_more_goes_on_in_its_new_one() {
    for (is_killed, is_renamed) in [(true, false), (false, false), (true, true), (false, true)] {
        let lasting = "\nlease.duration = \"15s\"";
        let mut config = of(&[("two", "group = \"other\"")]);
        config.extra += lasting;
        let world = World::with(config).await;
        for name in ["one", "two"] {
            fill(&world, name).await;
        }
        let mut before = world.start();
        until_streaming(&before, &["two"]).await;
        until_equal(&world, &["two"]).await;
        let mut config = of(&[("one", "")]);
        config.extra += lasting;
        let now = if is_renamed { "renamed" } else { "two" };
        config.streams += &called(now, "two");
        let after = world.beside(&config).start();
        until_streaming(&after, &["one"]).await;
        let waits = after.until(now, "waits", |s| s["phase"] == "parked").await;
        let reason = waits["reason"].as_str().unwrap();
        assert!(reason.contains("in group other, which has not let it go"), "{waits:#}");
        world.collection("two").insert_one(doc! { "_id": 100 }).await.unwrap();
        until_equal(&world, &["one", "two"]).await;
        if is_killed {
            before.kill();
        } else {
            assert_eq!(before.stop().0, Some(0));
        }
        world.collection("two").insert_one(doc! { "_id": 101 }).await.unwrap();
        until_equal(&world, &["one", "two"]).await;
        until_streaming(&after, &["one", now]).await;
        let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
        assert_eq!(walks(&world).await, ["one", now].map(once).into());
        let rows = "select string_agg(stream || ' ' || \"group\", ', ' order by stream) from \
                    tidemark.stream";
        assert_eq!(world.scalar::<String>(rows).await, format!("one main, {now} main"));

        // Who comes with the old configuration waits in turn.
        let mut old = world.start();
        let waits = old.until("two", "waits", |s| s["phase"] == "parked").await;
        let reason = waits["reason"].as_str().unwrap();
        assert!(reason.contains("in group main, which has not let it go"), "{waits:#}");
        world.collection("two").insert_one(doc! { "_id": 102 }).await.unwrap();
        until_equal(&world, &["one", "two"]).await;
        assert_eq!(old.stop().0, Some(0));
    }
}

/// One process, and the last stream of its group is called otherwise and moved at once: by a
/// reload, by a restart, and in two steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_renamed_out_of_a_group_that_is_over_goes_on_without_a_walk() {
    let renamed = || {
        let mut config = of(&[("one", "")]);
        config.streams += &called("renamed", "two");
        config
    };
    for (is_reload, is_apart) in [(true, false), (false, false), (true, true), (false, true)] {
        let world = World::with(of(&[("one", ""), ("two", "group = \"other\"")])).await;
        for name in ["one", "two"] {
            fill(&world, name).await;
        }
        let mut daemon = world.start();
        until_streaming(&daemon, &["one", "two"]).await;
        until_equal(&world, &["one", "two"]).await;
        let steps = if is_apart { vec![of(&[("one", "")]), renamed()] } else { vec![renamed()] };
        for config in &steps {
            world.configure(config);
            if is_reload {
                let taken = daemon.log().matches("the configuration is taken anew").count();
                daemon.signal("HUP");
                eventually("it is taken", async || {
                    daemon.log().matches("the configuration is taken anew").count() > taken
                })
                .await;
            } else {
                assert_eq!(daemon.stop().0, Some(0));
                daemon = world.start();
            }
            until_streaming(&daemon, &["one"]).await;
            world.collection("two").insert_one(doc! { "n": 1 }).await.unwrap();
        }
        until_equal(&world, &["one", "two"]).await;
        until_streaming(&daemon, &["one", "renamed"]).await;
        let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
        assert_eq!(walks(&world).await, ["one", "renamed"].map(once).into());
        let rows = "select string_agg(stream || ' ' || \"group\", ', ' order by stream) from \
                    tidemark.stream";
        assert_eq!(world.scalar::<String>(rows).await, "one main, renamed main");
    }
}
