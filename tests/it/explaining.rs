//! What a person is told of one document, and what readers are given: no content unless it is asked
//! for.

use std::time::{Duration, Instant};

use mongodb::bson::{DateTime, doc};
use serde_json::{Value, json};

use crate::support::{Config, World, run, stream};

const COLUMNS: &str = r#"column = [
    { name = "last_name", field = "last", type = "text", aliases = ["surname"] },
    { name = "born", field = "born", type = "date", required = true },
    { name = "visits", field = "stats.visits", type = "integer" },
    { name = "tags", field = "tags", type = "text[]" },
    { name = "note", field = "it's\\odd", type = "jsonb" },
]
"#;

async fn followed() -> (World, crate::support::Daemon) {
    let streams = stream("person", "person", COLUMNS);
    let world = World::with(Config { streams, ..Config::default() }).await;
    let people = world.collection("person");
    let born = DateTime::from_millis(0);
    people
        .insert_many([
            doc! { "_id": "p1", "last": "Canary", "born": born, "stats": { "visits": 7 } },
            doc! { "_id": "p2", "surname": "Canary", "born": "Canary", "tags": ["Canary"] },
            doc! { "_id": 3, "last": null, "stats": { "visits": 1_i64 << 40 } },
        ])
        .await
        .unwrap();
    let daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    world.until_equal("person", "public.person").await;
    (world, daemon)
}

fn explain(world: &World, id: &str, more: &[&str]) -> Value {
    let (code, told) = run(world, &[&["explain", "person", id, "--json"], more].concat());
    assert_eq!(code, Some(0), "{told}");
    serde_json::from_str(&told).unwrap()
}

/// A group that is slow to pass the time of the first look is given others.
fn until_standing(world: &World, id: &str, standing: &str) -> Value {
    let begun = Instant::now();
    loop {
        let told = explain(world, id, &[]);
        if told["standing"] == json!(standing) {
            return told;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "never {standing}: {told:#}");
    }
}

/// By column: the field taken, how it fits, whether the row is the same.
fn columns(told: &Value) -> Vec<(Value, Value, Value)> {
    let all = told["columns"].as_array().unwrap().iter();
    all.map(|c| (c["field"].clone(), c["fitting"].clone(), c["is_same"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_explained_column_by_column_without_its_content() {
    let (world, daemon) = followed().await;
    let told = explain(&world, "p1", &[]);
    let fits = |field: &str| (json!(field), json!("fits"), json!(true));
    let missing = (Value::Null, json!("missing"), json!(true));
    let [last, born, visits] = ["last", "born", "stats.visits"].map(fits);
    assert_eq!(columns(&told), [last, born, visits, missing.clone(), missing.clone()]);
    assert_eq!((&told["standing"], &told["row"]["hash_fits"]), (&json!("equal"), &json!(true)));
    let told = explain(&world, "p2", &[]);
    let unfit = (json!("born"), json!("type"), json!(true));
    assert_eq!(columns(&told)[..2], [fits("surname"), unfit], "{told:#}");
    let told = explain(&world, r#"{"$numberInt":"3"}"#, &[]);
    assert_eq!(columns(&told)[0].1, json!("null"));
    assert_eq!(columns(&told)[1], missing, "required");
    assert_eq!(columns(&told)[2].1, json!("range"));

    for more in [&[][..], &["--json"]] {
        for id in ["p1", "p2"] {
            let (_, plain) = run(&world, &[&["explain", "person", id], more].concat());
            assert!(!plain.contains("Canary"), "no content: {plain}");
        }
    }
    let (code, plain) = run(&world, &["explain", "person", "p2"]);
    for part in ["from the alias surname", "date does not take a string: NULL, drift", "NULL"] {
        assert!(code == Some(0) && plain.contains(part), "{part} is not in {plain}");
    }
    assert!(plain.contains("string, 11 B") && !plain.contains('?'), "{plain}");
    let (_, plain) = run(&world, &["explain", "person", r#"{"$numberInt":"3"}"#]);
    assert!(plain.contains("required, and the document has none of born: drift"), "{plain}");
    let (_, shown) = run(&world, &["explain", "person", "p2", "--show-values"]);
    assert!(shown.matches("Canary").count() >= 4, "document and row: {shown}");

    // What differs, and why; while others write to the source.
    world.execute("update person set last_name = 'Other' where id = 'p1'").await;
    let others = world.collection("others");
    let busy = tokio::spawn(async move { while others.insert_one(doc! {}).await.is_ok() {} });
    let told = until_standing(&world, "p1", "different");
    busy.abort();
    assert_eq!(columns(&told)[0].2, json!(false));
    assert_eq!(
        (&told["row"]["doc_is_same"], &told["row"]["hash_fits"]),
        (&json!(true), &json!(true))
    );
    assert!(told["told"].as_str().unwrap().contains("tidemark resync person --ids"));
    world.execute("alter table person add constraint picky check (last_name <> 'Bad')").await;
    let bad = doc! { "$set": { "surname": "Bad" } };
    world.collection("person").update_one(doc! { "_id": "p2" }, bad).await.unwrap();
    world.until("it is set aside", "select count(*) = 1 from tidemark.dead_letter").await;
    let told = explain(&world, "p2", &[]);
    assert_eq!(told["standing"], json!("set_aside"));
    assert!(told["letters"][0]["id"].is_i64(), "{told:#}");
    drop(daemon);
    world.collection("person").delete_one(doc! { "_id": "p1" }).await.unwrap();
    let told = explain(&world, "p1", &[]);
    assert_eq!((&told["standing"], &told["document"]), (&json!("behind"), &Value::Null));

    let kept = "create table public.person_history (id text, _valid_from_at timestamptz); \
                insert into public.person_history values ('p1', '2026-01-01'), ('p1', \
                '2026-01-02')";
    world.execute(kept).await;
    let told = explain(&world, "p1", &[]);
    assert_eq!(told["history"]["versions"], json!(2), "{told:#}");
    let (code, told) = run(&world, &["explain", "person", "nobody"]);
    assert!(code == Some(1) && told.contains("neither end has it"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_sql_that_runs_and_runs_again_once_a_column_was_added() {
    let (world, _daemon) = followed().await;
    let (code, sql) = run(&world, &["views"]);
    assert_eq!(code, Some(0), "{sql}");
    world.execute(&sql).await;
    world.execute(&sql).await;
    world.until("it is exact", "select bool_and(_exact) from person_view").await;
    let row: (String, Option<String>, bool, bool) = world
        .row(
            "select last_name, visits::text, _changed_at <= _shown_at, _exact from person_view \
             where id = 'p1'",
        )
        .await;
    assert_eq!(row, ("Canary".into(), Some("7".into()), true, true));
    let comments = world
        .column(
            "select col_description('person_view'::regclass, attnum) from pg_attribute where \
             attrelid = 'person_view'::regclass and attnum > 0 order by attnum",
        )
        .await;
    assert!(comments.contains(&"field last, else surname; text".to_owned()), "{comments:?}");
    assert!(comments.contains(&r"field it's\odd; jsonb".to_owned()), "{comments:?}");
    assert_eq!(comments.len(), 10, "each has one");

    let file = world.config.with_file_name("views.sql");
    let file = file.to_str().unwrap();
    let (code, told) = run(&world, &["views", "--out", file]);
    assert!(code == Some(0) && std::fs::read_to_string(file).unwrap() == sql, "{told}");
    assert_eq!(run(&world, &["views", "--out", file]).0, Some(1), "it is there");
    assert_eq!(run(&world, &["views", "--out", file, "--force"]).0, Some(0));

    let last = "type = \"jsonb\" },\n";
    let one = "{ name = \"added\", field = \"added\", type = \"text\" },\n";
    let added = COLUMNS.replace(last, &format!("{last}{one}"));
    let wider =
        world.beside(&Config { streams: stream("person", "person", &added), ..Config::default() });
    assert_eq!(run(&wider, &["migrate"]).0, Some(0));
    let (_, sql) = run(&wider, &["views"]);
    world.execute(&sql).await;
    assert_eq!(world.scalar::<i64>("select count(added) from person_view").await, 0);
}
