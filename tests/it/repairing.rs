//! A table is repaired where it differs, and no further: what a comparison finds, or what a person
//! names, is read again and written beside the live stream.

use std::time::Instant;

use mongodb::bson::{doc, oid::ObjectId};
use serde_json::{Value, json};

use crate::alerting::{DOCTORS, TABLE, seed};
use crate::support::{Config, Daemon, World, run, stream};

async fn followed(documents: usize, extra: &str) -> (World, Daemon) {
    let config = Config {
        extra: extra.to_owned(),
        streams: stream("doctor", DOCTORS, ""),
        ..Config::default()
    };
    let world = World::with(config).await;
    seed(&world, documents).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    (world, daemon)
}

async fn number(world: &World, sql: &str) -> i64 {
    world.scalar(sql).await
}

/// Rows of documents that nothing touches, each damaged in its own way.
const SPOIL: &str = "delete from doctor where id = '1000001'; update doctor set doc = '{}' where \
                     id = '1000002'; update doctor set doc = '{}', _cluster_time = \
                     9000000000000000000 where id = '1000003'; insert into doctor (id, doc, \
                     _cluster_time) values ('ghost', '{}', 1), ('spectre', '{}', \
                     9000000000000000000)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_says_what_would_repair_and_repairs_only_once_it_is_told_to() {
    let (world, _daemon) = followed(50, "").await;
    world.execute(SPOIL).await;
    let commands = "select count(*) from tidemark.command";
    let (code, told) = run(&world, &["compare", "doctor", "--repair"]);
    assert_eq!(code, Some(1), "{told}");
    for line in [
        "missing    1\n",
        "extra      2\n",
        "different  2\n",
        "writes       3 rows: 1 the table lacks, 2 it has otherwise",
        "deletes      2 rows the source does not have",
        "nothing was changed; add --execute",
    ] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    let (code, told) = run(&world, &["compare", "doctor", "--repair", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let part = &told["planned"]["part"];
    let counts = [&part["named"], &part["rows_to_insert"], &part["rows_to_delete"]];
    assert_eq!((code, counts), (Some(1), [&json!(5), &json!(1), &json!(2)]), "{told:#}");
    assert_eq!(told["repair"], Value::Null);
    for usage in [&["--execute", "--repair"][..], &["--reason", "x", "--execute"]] {
        let (code, told) = run(&world, &[&["compare", "doctor"], usage].concat());
        assert_eq!(code, Some(2), "{usage:?}: {told}");
    }
    assert_eq!(number(&world, commands).await, 0, "nothing was asked for");
    assert_eq!(number(&world, "select count(*) from doctor where id = 'ghost'").await, 1);

    let repair = ["compare", "doctor", "--repair", "--execute", "--reason", "tampered with"];
    let (code, told) = run(&world, &repair);
    let done = "5 of 5 documents read, 3 rows written, 2 deleted";
    assert!(code == Some(1) && told.contains(done), "{told}");
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 50);
    let (code, told) = run(&world, &repair);
    assert!(code == Some(0) && told.contains("there is nothing to repair"), "{told}");
    let row: (String, String, String) =
        world.row("select verb, reason, outcome from tidemark.command").await;
    assert_eq!(row, ("resync_part".into(), "tampered with".into(), "done".into()));
    let kept = "select cardinality(ids)::bigint from tidemark.resync_part";
    assert_eq!(number(&world, kept).await, 0, "which they were is forgotten");
    assert_eq!(number(&world, "select count(*) from tidemark.resync").await, 1, "no walk");
    let (_, told) = run(&world, &["resync", "list", "--parts"]);
    assert!(told.contains("doctor") && told.contains("done"), "{told}");
    assert!(told.contains("tampered with"), "{told}");
}

/// More deletions than pass without asking are a resync's, which asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_would_delete_much_is_a_resync_that_asks_first() {
    let (world, daemon) = followed(200, "").await;
    let ghosts = "insert into doctor (id, doc, _cluster_time) select 'ghost ' || n, '{}', 1 from \
                  generate_series(1, 150) as n";
    world.execute(ghosts).await;
    let (code, told) = run(&world, &["compare", "doctor", "--repair"]);
    assert!(code == Some(1) && told.contains("resync of stream doctor: "), "{told}");
    assert!(told.contains("more than 99 ask first"), "{told}");
    let ids = (1..=150).map(|n| format!("ghost {n}")).collect::<Vec<_>>().join(",");
    let named = ["resync", "doctor", "--ids", &ids, "--reason", "x", "--execute"];
    let (code, told) = run(&world, &named);
    assert!(code == Some(1) && told.contains("150 rows would be deleted"), "{told}");
    assert!(told.contains("tidemark resync STREAM"), "{told}");
    let repair = ["compare", "doctor", "--repair", "--execute", "--reason", "ghosts"];
    let (_, told) = run(&world, &repair);
    assert!(told.contains("begun"), "{told}");
    daemon.until("doctor", "it is held", |s| s["resync"]["state"] == "held").await;
    let reason: String =
        world.scalar("select reason from tidemark.resync order by id desc limit 1").await;
    assert_eq!(reason, "divergence");
    assert_eq!(number(&world, "select count(*) from doctor").await, 350, "none is deleted");
}

/// Ids of many types, and what the source finds by a filter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_are_named_are_read_again_and_no_others() {
    let config = Config { streams: stream("odd", "odd", ""), ..Config::default() };
    let world = World::with(config).await;
    let odd = world.collection("odd");
    let oid = ObjectId::parse_str("5f0000000000000000000001").unwrap();
    let all = [
        doc! { "_id": 7, "kind": "a" },
        doc! { "_id": oid, "kind": "a" },
        doc! { "_id": "5f0000000000000000000001", "kind": "b" },
        doc! { "_id": { "a": 1, "b": "x,y" }, "kind": "b" },
        doc! { "_id": "plain", "kind": "a" },
        doc! { "_id": "left alone", "kind": "c" },
    ];
    odd.insert_many(all).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    let spoilt = "select count(*) from odd where doc = '{}'";
    world.execute("update odd set doc = '{}'").await;

    let ids = [
        r#"{"$numberInt":"7"}"#,
        "5f0000000000000000000001",
        r#""5f0000000000000000000001""#,
        r#"{"a":{"$numberInt":"1"},"b":"x,y"}"#,
    ];
    let ids = &ids.join(",");
    let named = ["resync", "odd", "--ids", ids, "--reason", "a test"];
    let (code, told) = run(&world, &named);
    assert!(code == Some(0) && told.contains("writes       4 rows"), "{told}");
    assert_eq!(number(&world, spoilt).await, 6, "a preview changes nothing");
    let (code, told) = run(&world, &[&named[..], &["--execute"]].concat());
    assert!(code == Some(0) && told.contains("4 of 4 documents read, 4 rows written"), "{told}");
    assert_eq!(number(&world, spoilt).await, 2);

    let filter = ["resync", "odd", "--filter", r#"{"kind": {"$in": ["a"]}}"#, "--reason", "again"];
    let (code, told) = run(&world, &[&filter[..], &["--execute"]].concat());
    assert!(code == Some(0) && told.contains("3 of 3 documents read, 1 row written"), "{told}");
    let left = world.column("select id from odd where doc = '{}'").await;
    assert_eq!(left, ["left alone"]);

    let file = world.config.with_file_name("ids.txt");
    std::fs::write(&file, "left alone\n\nnobody\n").unwrap();
    let by_file =
        ["resync", "odd", "--ids-file", file.to_str().unwrap(), "--reason", "x", "--execute"];
    let (code, told) = run(&world, &by_file);
    assert!(code == Some(0) && told.contains("2 of 2 documents read, 1 row written"), "{told}");
    assert_eq!(world.until_equal("odd", "public.odd").await, 6);

    for (wrong, says) in [
        (["--ids", "{"], "no id of a row"),
        (["--ids", "nobody"], "neither end has"),
        (["--ids", ""], "nothing to do"),
        (["--ids-file", "/nowhere"], "cannot be read"),
        (["--filter", "{"], "no document in Extended JSON (line 1"),
        (["--filter", r#"{"$frob": 1}"#], "the source refuses the filter"),
        (["--filter", r#"{"kind": "z"}"#], "nothing to do"),
    ] {
        let (code, told) = run(&world, &[&["resync", "odd", "--reason", "x"], &wrong[..]].concat());
        assert!(code == Some(1) && told.contains(says), "{wrong:?}: {code:?} {told}");
    }
    let both = ["resync", "odd", "--ids", "a", "--filter", "{}", "--reason", "x"];
    assert_eq!(run(&world, &both).0, Some(2), "one of them");
}

/// Guarantees 4, 5 and 7, of a part: a kill amid it costs a step, what changes meanwhile wins, what
/// cannot be stored is set aside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_goes_on_after_a_kill_beside_the_live_stream() {
    const DOCUMENTS: usize = 3_000;
    let extra = "resync.chunk_documents = 200\n";
    let (world, daemon) = followed(DOCUMENTS, extra).await;
    daemon.kill();
    // All but the row by which it would be noticed that the table is not what it was.
    let damage = "update doctor set doc = '{}'; delete from doctor where id < '1000100' and id <> \
                  (select witness_id from tidemark.stream where stream = 'doctor')";
    world.execute(damage).await;
    let picky = "alter table doctor add constraint picky check (id <> '1000500')";
    world.execute(&format!("delete from doctor where id = '1000500'; {picky}")).await;
    let file = world.config.with_file_name("ids.txt");
    let ids: Vec<String> = (0..DOCUMENTS).map(|n| (n + 1_000_000).to_string()).collect();
    std::fs::write(&file, ids.join("\n")).unwrap();
    let named =
        ["resync", "doctor", "--ids-file", file.to_str().unwrap(), "--reason", "x", "--execute"];
    let (code, told) = run(&world, &named);
    assert!(code == Some(0) && told.contains("as soon as a daemon leads"), "{told}");

    let mut daemon = world.start_with(&[("TIDEMARK_FAILPOINT", "part.step=abort@3")]);
    let begun = Instant::now();
    while daemon.is_running() {
        assert!(begun.elapsed().as_secs() < 120, "the failpoint was not passed");
        tokio::task::yield_now().await;
    }
    assert_eq!(number(&world, "select done::bigint from tidemark.resync_part").await, 600);
    let doctors = world.collection(DOCTORS);
    doctors.delete_one(doc! { "_id": "1002999" }).await.unwrap();
    let newer = doc! { "$set": { "doctorLastName": "Newer" } };
    doctors.update_one(doc! { "_id": "1002998" }, newer).await.unwrap();
    let _daemon = world.start();
    let done = "select outcome = 'done' from tidemark.command where verb = 'resync_part'";
    world.until("it is done", done).await;
    let letters = world.column("select document_id from tidemark.dead_letter").await;
    assert_eq!(letters, ["1000500"], "set aside once");
    world.execute("alter table doctor drop constraint picky").await;
    let again = ["dead-letter", "retry", "--all", "doctor", "--reason", "x", "--execute"];
    assert_eq!(run(&world, &again).0, Some(0));
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, DOCUMENTS - 1);
    let (code, told) = run(&world, &["compare", "doctor"]);
    assert_eq!(code, Some(0), "{told}");
}

/// A collection that is gone says nothing of its documents.
#[tokio::test]
async fn nothing_is_deleted_for_a_collection_that_is_gone() {
    let (world, daemon) = followed(20, "").await;
    world.collection(DOCTORS).drop().await.unwrap();
    daemon.until_phase("doctor", "halted").await;
    let ids = "1000001,1000002";
    let named = ["resync", "doctor", "--ids", ids, "--reason", "x", "--execute"];
    let (code, told) = run(&world, &named);
    assert!(code == Some(1) && told.contains("not the collection the table is of"), "{told}");
    assert_eq!(number(&world, "select count(*) from doctor").await, 20, "the rows are left");
}
