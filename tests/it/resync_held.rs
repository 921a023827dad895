//! Guarantee 7: a resync that is beyond its bounds waits for a person, and does as it is told.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};

use crate::resync::{DOCTORS, TABLE, follow_once, insert, until_repaired, world};
use crate::support::{Config, World, run};

#[tokio::test]
async fn an_emptied_source_never_empties_the_table_until_a_person_says_so() {
    let (mongo, world) = world(60, Config::default()).await;
    follow_once(&world).await;
    world.collection(DOCTORS).delete_many(doc! {}).await.unwrap();
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start();
    let held =
        daemon.until("doctor", "the sweep is held", |s| s["resync"]["state"] == "held").await;
    assert_eq!(held["resync"]["held_code"], "resync_held");
    assert_eq!(held["resync"]["rows_to_delete"], 60);
    assert_eq!(held["phase"], "resyncing");
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 60);
    // The stream goes on meanwhile.
    world
        .collection(DOCTORS)
        .insert_one(doc! { "_id": "new", "doctorStatus": "NEW" })
        .await
        .unwrap();
    world.until("the live stream is applied", "select count(*) = 61 from public.doctor").await;
    let status = daemon.status().await;
    assert_eq!(status["verdict"], "critical");
    let id = held["resync"]["id"].to_string();
    assert!(
        status["action"].as_str().unwrap().contains(&format!("tidemark resync approve {id}")),
        "{status}"
    );
    let (code, told) = run(&world, &["resync", "approve", &id]);
    assert!(code == Some(0) && told.contains("--execute"), "{told}");
    assert_eq!(
        world.scalar::<i64>("select count(*) from public.doctor").await,
        61,
        "a preview changes nothing"
    );
    let (code, told) =
        run(&world, &["resync", "approve", &id, "--reason", "emptied on purpose", "--execute"]);
    assert!(code == Some(0) && told.contains("approved"), "{told}");
    until_repaired(&world, &daemon).await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 1);
    let recorded: (String, String, bool) =
        world.row("select verb, reason, done_at is not null from tidemark.command").await;
    assert_eq!(recorded, ("resync_approve".to_owned(), "emptied on purpose".to_owned(), true));
}

#[tokio::test]
async fn more_losses_in_a_day_than_allowed_halt_the_stream_until_a_person_asks_for_a_resync() {
    let extra = "resync.automatic_per_day_max = 1".to_owned();
    let (mongo, world) = world(200, Config { apart: true, extra, ..Config::default() }).await;
    follow_once(&world).await;
    for round in 0..2 {
        insert(&world, 300 + round * 10..305 + round * 10).await;
        mongo.roll_oplog(2).await.unwrap();
        let mut daemon = world.start();
        if round == 0 {
            until_repaired(&world, &daemon).await;
            daemon.stop();
            continue;
        }
        let halted = daemon.until_phase("doctor", "halted").await;
        assert_eq!(halted["halt_code"], "history_lost");
        assert!(halted["reason"].as_str().unwrap().contains("automatic_per_day_max"), "{halted}");
        let (code, told) = run(&world, &["resync", "doctor", "--reason", "looked into it"]);
        assert!(code == Some(0) && told.contains("about 210 documents"), "{told}");
        let (code, told) =
            run(&world, &["resync", "doctor", "--reason", "looked into it", "--execute"]);
        assert!(code == Some(0) && told.contains("begun"), "{told}");
        daemon.until_phase("doctor", "streaming").await;
        world.until_equal(DOCTORS, TABLE).await;
    }
    let off = World::beside(
        &world,
        &Config { apart: true, extra: "resync.automatic = false".to_owned(), ..Config::default() },
    );
    mongo.roll_oplog(2).await.unwrap();
    let daemon = off.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert!(halted["reason"].as_str().unwrap().contains("resync.automatic is off"), "{halted}");
}

#[tokio::test]
async fn a_resync_over_its_duration_waits_for_a_person_and_can_go_on_or_be_cancelled() {
    let extra = "resync.duration_max = \"1s\"\nresync.documents_per_second_max = \
         100\nresync.chunk_documents = 50"
        .to_owned();
    let (mongo, world) = world(1_000, Config { extra, ..Config::default() }).await;
    let mut first = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    first.until_phase("doctor", "streaming").await;
    first.stop();
    mongo.roll_oplog(2).await.unwrap();
    let mut daemon = world.start();
    let held = daemon.until("doctor", "it is held", |s| s["resync"]["state"] == "held").await;
    assert_eq!(held["resync"]["held_code"], "resync_over_budget");
    let id = held["resync"]["id"].to_string();
    daemon.stop();
    let daemon = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    daemon.until("doctor", "it is still held", |s| s["resync"]["state"] == "held").await;
    let (code, told) = run(&world, &["resync", "approve", &id, "--reason", "x", "--execute"]);
    assert!(code == Some(0) && told.contains("approved"), "{told}");
    until_repaired(&world, &daemon).await;
    drop(daemon);

    // Asked for while no daemon is up: obeyed by the next one.
    world.execute("update tidemark.lease set expires_at = '-infinity'").await;
    let (code, told) = run(&world, &["resync", "doctor", "--reason", "again", "--execute"]);
    assert!(code == Some(0) && told.contains("is recorded"), "{told}");
    let slow = world.start();
    let held = slow.until("doctor", "the second is held", |s| s["resync"]["state"] == "held").await;
    let id = held["resync"]["id"].to_string();
    let (code, told) = run(&world, &["resync", "cancel", &id, "--reason", "not now", "--execute"]);
    assert!(code == Some(0) && told.contains("cancelled"), "{told}");
    slow.until_phase("doctor", "streaming").await;
    // Nothing was missed before it was asked for, so nothing is lacking.
    slow.until("doctor", "is exact", |s| s["exact"] == true).await;
    world.until("and is said to be", "select bool_and(exact) from tidemark.position").await;
}

#[tokio::test]
async fn what_a_source_transaction_of_many_batches_leaves_as_it_is_counts_as_seen() {
    let extra = "batch.events_max = 50".to_owned();
    let (mongo, world) = world(220, Config { extra, ..Config::default() }).await;
    follow_once(&world).await;
    let gone = doc! { "_id": { "$lt": "1000200" } };
    let doctors = world.collection(DOCTORS);
    let found = doctors.find(gone.clone()).await.unwrap();
    let documents: Vec<Document> = found.try_collect().await.unwrap();
    doctors.delete_many(gone).await.unwrap();
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start();
    let held = daemon.until("doctor", "is held", |s| s["resync"]["state"] == "held").await;
    assert_eq!(held["resync"]["rows_to_delete"], 200);
    // Put back as they were, in one transaction.
    let mut session = world.source.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    doctors.insert_many(&documents).session(&mut session).await.unwrap();
    let last = doc! { "_id": "last" };
    doctors.insert_one(last).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    world.until("it is there", "select count(*) = 221 from public.doctor").await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.resync_kept").await, 200);
    let id = held["resync"]["id"].to_string();
    let (code, told) = run(&world, &["resync", "approve", &id, "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    until_repaired(&world, &daemon).await;
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 221);
}
