//! Which walks a person may end. One that a loss began in the place of one that was asked for makes
//! no rows anew: it may be ended, and what was doubted is looked at by whichever comes after it.

use mongodb::bson::doc;

use crate::support::{Config, World, run, state, stream};

const SLOW: &str = "resync.documents_per_second_max = 40\nresync.chunk_documents = 10\n";

/// A part of the newest walk is done; its id.
async fn until_walked(world: &World, reason: &str) -> String {
    let walked = format!(
        "select reason = '{reason}' and state = 'running' and documents_read > 9 from \
         tidemark.resync order by id desc limit 1"
    );
    world.until(&format!("it is walked: {reason}"), &walked).await;
    world.scalar("select max(id)::text from tidemark.resync").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_a_loss_began_in_the_place_of_one_that_was_asked_for_may_be_cancelled() {
    let config = |extra: &str| Config {
        extra: format!("resync.automatic_per_day_max = 9\n{extra}"),
        streams: stream("odd", "odd", ""),
        ..Config::default()
    };
    let world = World::with(config("")).await;
    let documents = (0..200).map(|n| doc! { "_id": format!("{n:03}"), "n": n });
    world.collection("odd").insert_many(documents).await.unwrap();
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(daemon.stop().0, Some(0));
    // Its hash and its time are what they were.
    world.execute("update odd set doc = '{}' where id = '199'").await;
    world.configure(&config(SLOW));
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    let (code, told) = run(&world, &["resync", "odd", "--reason", "doubted", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    until_walked(&world, "requested").await;
    daemon.kill();

    state::lose_position(&world, "odd").await;
    let daemon = world.start();
    let id = until_walked(&world, "position_unreadable").await;
    let (code, told) = run(&world, &["resync", "cancel", &id, "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    daemon.until_phase("odd", "streaming").await;
    daemon.kill();

    state::lose_position(&world, "odd").await;
    let daemon = world.start();
    until_walked(&world, "position_unreadable").await;
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    let states = "select string_agg(state, ' ' order by id) from tidemark.resync";
    let states: String = world.scalar(states).await;
    assert_eq!(states, "completed failed cancelled completed");
}
