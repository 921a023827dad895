//! Guarantees 4 and 5: applied twice or from an earlier position, the tables end the same; what
//! does not change is not written.

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation, gmc_number};
use mongodb::bson::{Document, doc};

use crate::killing::{assert_audit, audit};
use crate::support::{Config, World, state, stream};

#[tokio::test]
async fn an_older_position_replayed_ends_in_the_same_tables() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 21);
    data.load(500, 500).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.until_phase("recommendation", "streaming").await;
    daemon.stop();
    world.execute(&state::keep_positions()).await;
    data.work(4_000).await.unwrap();
    for _ in 0..3 {
        let mut daemon = world.start();
        world.until_equal(DOCTORS, "public.doctor").await;
        world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
        daemon
            .until("doctor", "caught up", |s| {
                s["lag_seconds"] == 0.0 && s["events_applied"].as_u64() > Some(0)
            })
            .await;
        daemon.stop();
        world.execute(&state::take_positions_back()).await;
    }
}

#[tokio::test]
async fn an_older_change_never_overwrites_a_newer_row() {
    let world = World::new().await;
    let doctors = world.collection(DOCTORS);
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    doctors
        .insert_one(doc! { "_id": "1000001", "doctorLastName": "Old", "doctorStatus": "DRAFT" })
        .await
        .unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    daemon.kill();
    // A row from the future stands for one that a newer event has written already.
    world
        .execute(
            "update public.doctor set _cluster_time = _cluster_time + (1::bigint << 32) * \
             3600, doc = '{\"new\": true}'",
        )
        .await;
    doctors
        .update_one(doc! { "_id": "1000001" }, doc! { "$set": { "doctorLastName": "Older" } })
        .await
        .unwrap();
    doctors.insert_one(doc! { "_id": "1000002", "doctorStatus": "DRAFT" }).await.unwrap();
    let _daemon = world.start();
    world
        .until(
            "the later event is there",
            "select exists (select from public.doctor where id = '1000002')",
        )
        .await;
    assert!(
        world
            .scalar::<bool>(
                "select doc = '{\"new\": true}' from public.doctor where id = '1000001'"
            )
            .await
    );
    // Nor does an older delete remove it.
    doctors.delete_one(doc! { "_id": "1000001" }).await.unwrap();
    doctors.delete_one(doc! { "_id": "1000002" }).await.unwrap();
    world
        .until(
            "the later delete is done",
            "select not exists (select from public.doctor where id = '1000002')",
        )
        .await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 1);
}

#[tokio::test]
async fn a_nightly_rewrite_of_twenty_thousand_unchanged_documents_writes_no_row() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 22);
    data.load(20_000, 0).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world
        .execute("create table versions as select id, xmin::text as version from public.doctor")
        .await;
    // The server writes no event for a replacement equal to the byte; another order of fields is
    // one.
    let doctors = world.collection(DOCTORS);
    let mut cursor = doctors.find(doc! {}).await.unwrap();
    let mut updates = Vec::new();
    while cursor.advance().await.unwrap() {
        let mut document = cursor.deserialize_current().unwrap();
        let first = document.remove("doctorFirstName").unwrap();
        document.insert("doctorFirstName", first);
        updates.push(doc! { "q": { "_id": document.get_str("_id").unwrap() }, "u": document });
    }
    for chunk in updates.chunks(1_000) {
        let reply = world
            .source
            .run_command(doc! { "update": DOCTORS, "updates": chunk.to_vec() })
            .await
            .unwrap();
        assert_eq!(reply.get_i32("nModified").unwrap(), 1_000);
    }
    let stream =
        daemon.until("doctor", "saw every rewrite", |s| s["events_applied"] == 20_000).await;
    assert_eq!(stream["rows_changed"], 20_000, "the snapshot's, none of the rewrite's");
    let changed = "select count(*) from public.doctor d join versions v on v.id = d.id and \
                   v.version <> d.xmin::text";
    assert_eq!(world.scalar::<i64>(changed).await, 0);
    assert_eq!(world.until_equal(DOCTORS, "public.doctor").await, 20_000);
}

#[tokio::test]
async fn changes_of_one_key_in_one_batch_come_to_the_last() {
    let world = World::new().await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.execute(&audit()).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let doctors = world.collection(DOCTORS);
    for n in 0..50 {
        let id = gmc_number(n);
        let key = doc! { "_id": &id };
        doctors.insert_one(doc! { "_id": &id, "n": 1 }).await.unwrap();
        doctors.update_one(key.clone(), doc! { "$set": { "n": 2 } }).await.unwrap();
        doctors.delete_one(key.clone()).await.unwrap();
        if n % 2 == 0 {
            doctors.insert_one(doc! { "_id": &id, "n": 3 }).await.unwrap();
            doctors.update_one(key, doc! { "$set": { "n": 4 } }).await.unwrap();
        }
    }
    doctors.delete_one(doc! { "_id": "never seen" }).await.unwrap();
    assert_eq!(world.until_equal(DOCTORS, "public.doctor").await, 25);
    let caught_up = |s: &serde_json::Value| {
        let number = |name: &str| s[name].as_u64().unwrap();
        // Received = applied + skipped.
        let received = number("events_received");
        received >= 200 && received == number("events_applied") + number("events_skipped")
    };
    daemon.until("doctor", "caught up", caught_up).await;
    assert_audit(&world).await;
}

/// A transaction over both collections, larger than a batch, cut in the middle by a kill.
#[tokio::test]
async fn a_transaction_over_both_collections_arrives_whole_after_a_kill() {
    let world = World::with(crate::support::Config {
        extra: "batch.events_max = 7".into(),
        ..Default::default()
    })
    .await;
    for collection in [DOCTORS, RECOMMENDATIONS] {
        world.source.create_collection(collection).await.unwrap();
    }
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.until_phase("recommendation", "streaming").await;
    daemon.kill();
    let mut session = world.source.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let both: [mongodb::Collection<Document>; 2] =
        [world.collection(DOCTORS), world.collection(RECOMMENDATIONS)];
    for n in 0..300 {
        for collection in &both {
            let document = doc! { "_id": gmc_number(n % 100), "n": i32::try_from(n).unwrap() };
            let replace =
                collection.replace_one(doc! { "_id": gmc_number(n % 100) }, document).upsert(true);
            replace.session(&mut session).await.unwrap();
        }
    }
    session.commit_transaction().await.unwrap();
    let mut daemon = world.start_with(&[("TIDEMARK_FAILPOINT", "apply.after_commit=abort@9")]);
    while daemon.is_running() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let _daemon = world.start();
    assert_eq!(world.until_equal(DOCTORS, "public.doctor").await, 100);
    assert_eq!(world.until_equal(RECOMMENDATIONS, "public.recommendation").await, 100);
}

/// A document is looked up later than its event was written: the row carries the time of the look,
/// so that what happened in between is known to be older.
#[tokio::test]
async fn a_row_never_shows_what_is_older_than_it_has_shown() {
    let config = Config {
        extra: "batch.events_max = 1".into(),
        streams: stream("odd", "odd", ""),
        ..Config::default()
    };
    let world = World::with(config).await;
    let odd = world.collection("odd");
    odd.insert_one(doc! { "_id": "a", "n": 0 }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    world
        .execute(
            "create table public.shown (at bigint generated always as identity, n int); create \
             function show() returns trigger language plpgsql as $$ begin insert into public.shown \
             (n) values ((new.doc ->> 'n')::int); return new; end $$; create trigger show after \
             insert or update on public.odd for each row execute function show()",
        )
        .await;
    for round in 0..20 {
        daemon.signal("STOP");
        let set = |n| doc! { "$set": { "n": round * 3 + n } };
        odd.update_one(doc! { "_id": "a" }, set(1)).await.unwrap();
        odd.replace_one(doc! { "_id": "a" }, doc! { "n": round * 3 + 2 }).await.unwrap();
        odd.update_one(doc! { "_id": "a" }, set(3)).await.unwrap();
        daemon.signal("CONT");
        world.until_equal("odd", "public.odd").await;
    }
    let back: i64 = world
        .scalar(
            "select count(*) from (select n, lag(n) over (order by at) as before from shown) \
             as s where n < before",
        )
        .await;
    assert_eq!(back, 0, "{:?}", world.column("select n::text from shown order by at").await);
}
