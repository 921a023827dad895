//! Guarantee 8: what is set aside is kept whole, can be looked at, and gets into the table once
//! that is possible.

use mongodb::bson::doc;
use serde_json::Value;

use crate::support::{Config, Daemon, World, run, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

/// A table that refuses who is called Bad, followed.
async fn picky() -> (World, Daemon) {
    let world = World::new().await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
        .execute("alter table public.doctor add constraint picky check (last_name <> 'Bad')")
        .await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    (world, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_shown_retried_and_discarded() {
    let (world, mut daemon) = picky().await;
    let doctors = world.collection(DOCTORS);
    for (id, name) in [("1", "Bad"), ("2", "Good"), ("3", "Bad"), ("4", "Bad"), ("5", "Bad")] {
        doctors
            .insert_one(doc! { "_id": id, "doctorLastName": name, "doctorStatus": "DRAFT" })
            .await
            .unwrap();
    }
    world.until("four are set aside", "select count(*) = 4 from tidemark.dead_letter").await;
    is_exact(&daemon, &world, false).await;
    let ids = ids(&world).await;

    let (code, said) = run(&world, &["dead-letter", "list"]);
    assert!(
        code == Some(0) && said.matches("picky").count() == 4 && !said.contains("Bad"),
        "{said}"
    );
    let (code, said) = run(&world, &["dead-letter", "show", &ids[0], "--json"]);
    assert!(code == Some(0) && !said.contains("Bad"), "{said}");
    let (code, said) = run(&world, &["dead-letter", "show", &ids[0], "--json", "--event"]);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert!(code == Some(0) && shown["event"]["fullDocument"]["doctorLastName"] == "Bad", "{said}");
    assert_eq!(run(&world, &["dead-letter", "show", "99999"]).0, Some(1));

    // A preview changes nothing; while the table refuses, so does the retry, and nothing is set
    // aside twice.
    let (code, said) = run(&world, &["dead-letter", "retry", &ids[0], "--reason", "look"]);
    assert!(code == Some(0) && said.contains("--execute"), "{said}");
    let (code, said) =
        run(&world, &["dead-letter", "retry", "--all", "doctor", "--reason", "again", "--execute"]);
    assert!(
        code == Some(1) && said.contains("0 written, 4 still refused") && said.contains("picky"),
        "{said}"
    );
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 4);
    assert_eq!(
        world.scalar::<String>("select outcome from tidemark.command order by id desc").await,
        "failed",
        "the exit code says what the request's row says"
    );

    let (code, said) =
        run(&world, &["dead-letter", "discard", &ids[3], "--reason", "not needed", "--execute"]);
    assert!(code == Some(0) && said.contains("1 discarded"), "{said}");
    let twice = ["dead-letter", "discard", &ids[3], "--reason", "twice", "--execute"];
    assert_eq!(run(&world, &twice).0, Some(1));

    // Mended: what is in the source by now is what is written, a deletion too.
    world.execute("alter table public.doctor drop constraint picky").await;
    doctors.delete_many(doc! { "_id": { "$in": ["3", "5"] } }).await.unwrap();
    world.until("the deletions are applied", "select count(*) = 1 from public.doctor").await;
    let mended = ["dead-letter", "retry", "--all", "doctor", "--reason", "mended", "--execute"];
    let (code, said) = run(&world, &mended);
    assert!(code == Some(0) && said.contains("3 written"), "{said}");
    let left = world.column("select resolution from tidemark.dead_letter order by id").await;
    assert_eq!(left, ["retried", "retried", "retried", "discarded"]);
    world.until_equal(DOCTORS, TABLE).await;
    is_exact(&daemon, &world, true).await;
    assert_eq!(daemon.stop().0, Some(0), "{}", daemon.log());
}

/// Of the letters, as they came: a try that is rolled back takes numbers, too.
async fn ids(world: &World) -> Vec<String> {
    world.column("select id::text from tidemark.dead_letter order by id").await
}

/// Status and view say the same: a table that lacks what was set aside is not the source.
async fn is_exact(daemon: &Daemon, world: &World, exact: bool) {
    daemon.until("doctor", "says whether it is exact", |s| s["exact"] == exact).await;
    let told = format!("select exact = {exact} from tidemark.position where stream = 'doctor'");
    world.until("the view says the same", &told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_before_a_kill_is_lacking_after_it() {
    let (world, daemon) = picky().await;
    let bad = doc! { "_id": "1", "doctorLastName": "Bad", "doctorStatus": "DRAFT" };
    world.collection(DOCTORS).insert_one(bad).await.unwrap();
    world.until("it is set aside", "select count(*) = 1 from tidemark.dead_letter").await;
    is_exact(&daemon, &world, false).await;
    daemon.kill();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let good = doc! { "_id": "2", "doctorLastName": "Good", "doctorStatus": "DRAFT" };
    world.collection(DOCTORS).insert_one(good).await.unwrap();
    world.until("the other is written", "select count(*) = 1 from public.doctor").await;
    is_exact(&daemon, &world, false).await;
    let id = &ids(&world).await[0];
    let discard = ["dead-letter", "discard", id, "--reason", "not needed", "--execute"];
    let (code, said) = run(&world, &discard);
    assert_eq!(code, Some(0), "{said}");
    is_exact(&daemon, &world, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_never_takes_a_row_back_in_time() {
    let (world, _daemon) = picky().await;
    let doctors = world.collection(DOCTORS);
    doctors
        .insert_one(doc! { "_id": "1", "doctorLastName": "Bad", "doctorStatus": "DRAFT" })
        .await
        .unwrap();
    world.until("it is set aside", "select count(*) = 1 from tidemark.dead_letter").await;
    doctors
        .update_one(doc! { "_id": "1" }, doc! { "$set": { "doctorLastName": "Good" } })
        .await
        .unwrap();
    world.until_equal(DOCTORS, TABLE).await;
    let id = &ids(&world).await[0];
    let (code, said) = run(&world, &["dead-letter", "retry", id, "--reason", "late", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(world.column("select last_name from public.doctor").await, ["Good"]);
    doctors
        .update_one(doc! { "_id": "1" }, doc! { "$set": { "doctorLastName": "Better" } })
        .await
        .unwrap();
    world.until_equal(DOCTORS, TABLE).await;
}

/// A collection that is gone says nothing of its documents.
#[tokio::test]
async fn a_letter_is_not_retried_against_a_collection_that_is_gone() {
    let config = Config { streams: stream("odd", "odd", ""), ..Config::default() };
    let world = World::with(config).await;
    let odd = world.collection("odd");
    odd.insert_one(doc! { "_id": "a", "n": 1 }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    world
        .execute("alter table public.odd add constraint small check ((doc ->> 'n')::int < 5)")
        .await;
    odd.update_one(doc! { "_id": "a" }, doc! { "$set": { "n": 7 } }).await.unwrap();
    world.until("it is set aside", "select count(*) = 1 from tidemark.dead_letter").await;
    odd.drop().await.unwrap();
    daemon.until_phase("odd", "halted").await;
    let (code, told) =
        run(&world, &["dead-letter", "retry", "--all", "odd", "--reason", "a test", "--execute"]);
    assert!(code == Some(1) && told.contains("not the collection the table is of"), "{told}");
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd").await, 1, "the row is left");
}
