//! What a person configures is no loss: another collection, another table, another name and group
//! at once. The stream is walked, and nobody is woken.

use mongodb::bson::doc;

use crate::changing::{fill, of, until_streaming, walks};
use crate::support::{Config, World, run, stream};

/// The streams `one`, of this collection in this table, and `two`.
fn one_of(collection: &str, table: &str) -> Config {
    let one =
        stream("one", collection, "").replace("table = \"one\"", &format!("table = {table:?}"));
    Config { streams: one + &stream("two", "two", ""), ..of(&[("two", "")]) }
}

/// But that processes were killed.
async fn nobody_is_told(world: &World) {
    let told = "select concat_ws(' ', code, stream, summary) from tidemark.incident where code <> \
                'crash_loop'";
    assert_eq!(world.column(told).await, [""; 0]);
}

/// The position is of an event of the collection that is not followed any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_collection_for_a_stream() {
    let silent = |mut config: Config| {
        config.extra += "\ncheckpoint.idle_interval = \"1h\"";
        config
    };
    let world = World::with(silent(one_of("one", "one"))).await;
    for name in ["one", "two", "uno"] {
        fill(&world, name).await;
    }
    for n in 0..5 {
        world.collection("uno").delete_one(doc! { "_id": n }).await.unwrap();
    }
    let mut before = "one";
    for (turn, now) in ["one", "uno", "one", "uno"].into_iter().enumerate() {
        let other = world.beside(&silent(one_of(now, "one")));
        if turn == 1 {
            let (code, told) = run(&other, &["check"]);
            let said = "collection uno is followed now, its rows are of one: stream one will be";
            assert!(code == Some(0) && told.contains(said), "{told}");
        }
        let daemon = other.start();
        until_streaming(&daemon, &["one", "two"]).await;
        world.until_equal(now, "public.one").await;
        world.until_equal("two", "public.two").await;
        let id = 1_000 + i32::try_from(turn).unwrap();
        world.collection(before).insert_one(doc! { "_id": id }).await.unwrap();
        world.collection(now).insert_one(doc! { "_id": 10 * id }).await.unwrap();
        world.until_equal(now, "public.one").await;
        nobody_is_told(&world).await;
        daemon.kill();
        before = now;
    }
    let walked = walks(&world).await;
    let thrice = "first_snapshot mapping_changed mapping_changed mapping_changed";
    assert_eq!((&*walked["one"], &*walked["two"]), (thrice, "first_snapshot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_table_for_a_stream_and_the_one_before_again() {
    let world = World::with(one_of("one", "one")).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    for (turn, table) in ["one", "other", "one", "other"].into_iter().enumerate() {
        let mut daemon = world.beside(&one_of("one", table)).start();
        until_streaming(&daemon, &["one", "two"]).await;
        let id = 1_000 + i32::try_from(turn).unwrap();
        world.collection("one").insert_one(doc! { "_id": id }).await.unwrap();
        world.collection("one").delete_one(doc! { "_id": id - 1_000 }).await.unwrap();
        world.until_equal("one", &format!("public.{table}")).await;
        nobody_is_told(&world).await;
        assert_eq!(daemon.stop().0, Some(0));
    }
    let walked = walks(&world).await;
    let reasons = "first_snapshot first_snapshot mapping_changed mapping_changed";
    assert_eq!((&*walked["one"], &*walked["two"]), (reasons, "first_snapshot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_and_another_group_at_once() {
    let world = World::with(of(&[("one", ""), ("two", "")])).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let mut daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    assert_eq!(daemon.stop().0, Some(0));
    world.collection("two").insert_one(doc! { "_id": 100 }).await.unwrap();
    let deux = stream("deux", "two", "group = \"other\"");
    let deux = deux.replace("table = \"deux\"", "table = \"two\"");
    let streams = stream("one", "one", "") + &deux;
    let world = world.beside(&Config { streams, ..of(&[("one", "")]) });
    let daemon = world.start();
    until_streaming(&daemon, &["one", "deux"]).await;
    for name in ["one", "two"] {
        world.until_equal(name, &format!("public.{name}")).await;
    }
    nobody_is_told(&world).await;
    // Its group takes it with its walks while nobody leads the one that it was in; else that one
    // lets it go under its old name, and its table is walked.
    let walked = walks(&world).await;
    let once = "first_snapshot";
    let of = |all: &[(&str, &str)]| {
        all.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect()
    };
    let taken = of(&[("one", once), ("deux", once)]);
    let let_go = of(&[("one", once), ("two", once), ("deux", "mapping_changed")]);
    assert!(walked == taken || walked == let_go, "{walked:?}");
}
