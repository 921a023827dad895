//! What a stream may ask for, all of it at once: a filter, fields that are hidden, rows that stay
//! marked, versions, columns alone. Each has tests of its own; here they meet.

use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};

use crate::support::{Config, Daemon, World, run, stream};

const LIVING: &str = "select string_agg(concat_ws(' ', id, name, born, visits), ', ' order by id) \
                      from public.person where _deleted_at is null";

const ASKED: &str = r#"
filter = '{"status": {"$in": ["open", "held"]}}'
exclude = ["secret"]
on_delete = "mark"
history = true
doc = false
column = [
    { name = "name", field = "name", type = "text", mask = "first_2" },
    { name = "born", field = "born", type = "date", zone = "Europe/London" },
    { name = "visits", field = "visits", type = "integer" },
]
"#;

fn config() -> Config {
    Config { streams: stream("person", "person", ASKED), ..Config::default() }
}

/// Born on the first of July, in London.
fn person(id: &str, status: &str, visits: i32) -> Document {
    let born = DateTime::parse_rfc3339_str("1990-06-30T23:00:00Z").unwrap();
    doc! {
        "_id": id, "status": status, "name": "Canary", "secret": "Canary", "born": born,
        "visits": visits,
    }
}

async fn followed() -> (World, Daemon) {
    let world = World::with(config()).await;
    let people = world.collection("person");
    people
        .insert_many([person("a", "open", 1), person("b", "closed", 1), person("c", "held", 1)])
        .await
        .unwrap();
    let daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    (world, daemon)
}

async fn until(world: &World, what: &str, living: &str) {
    world.until(what, &format!("select coalesce(({LIVING}), '') = '{living}'")).await;
}

fn explained(world: &World, id: &str) -> Value {
    let (code, told) = run(world, &["explain", "person", id, "--show-values", "--json"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("Canary"), "{told}");
    serde_json::from_str(&told).unwrap()
}

/// By the time at which it was asked for, so that its document can be there again.
async fn what_is_of_a_time_to_come_goes(world: &World) {
    let people = world.collection("person");
    let astray = "insert into public.person (id, _cluster_time) values ('z', (extract(epoch from \
                  now())::bigint + 1000000) << 32)";
    world.execute(astray).await;
    let part = ["resync", "person", "--ids", "z", "--reason", "a test", "--execute"];
    let (code, said) = run(world, &part);
    assert_eq!(code, Some(0), "{said}");
    until(world, "what is astray is gone", "b Ca 1990-07-01 1").await;
    people.insert_one(person("z", "open", 2)).await.unwrap();
    until(world, "it is there again", "b Ca 1990-07-01 1, z Ca 1990-07-01 2").await;
    people.delete_one(doc! { "_id": "z" }).await.unwrap();
    until(world, "and is deleted", "b Ca 1990-07-01 1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_may_ask_for_holds_together() {
    let (world, mut daemon) = followed().await;
    let people = world.collection("person");
    until(&world, "the walk", "a Ca 1990-07-01 1, c Ca 1990-07-01 1").await;

    // It enters, it leaves, it is deleted; and one that was never followed changes.
    let set = |field: &str, to: &str| doc! { "$set": { field: to } };
    people.update_one(doc! { "_id": "b" }, set("status", "open")).await.unwrap();
    people.update_one(doc! { "_id": "a" }, set("status", "closed")).await.unwrap();
    people.delete_one(doc! { "_id": "c" }).await.unwrap();
    people.insert_one(person("d", "closed", 1)).await.unwrap();
    until(&world, "the changes", "b Ca 1990-07-01 1").await;
    let marked = "select string_agg(id, ' ' order by id) from public.person where _deleted_at is \
                  not null";
    assert_eq!(world.scalar::<String>(marked).await, "a c");
    let ended = "select string_agg(id, ' ' order by id) from public.person_history where _valid_to \
                 is not null";
    assert_eq!(world.scalar::<String>(ended).await, "a c");
    let (code, told) = run(&world, &["compare", "person"]);
    assert_eq!(code, Some(0), "{told}");

    // A person is told why there is a row, and why there is none.
    let told = explained(&world, "b");
    let name = &told["columns"][0];
    assert_eq!((&told["standing"], &name["mask"]), (&json!("equal"), &json!("first_2")));
    assert_eq!(
        (&name["value"], &told["columns"][1]["zone"]),
        (&json!("Ca"), &json!("Europe/London"))
    );
    let told = explained(&world, "a");
    assert_eq!((&told["standing"], &told["row"]), (&json!("equal"), &Value::Null), "{told:#}");
    let why = told["document"]["unwritable"].as_str().unwrap_or_default();
    assert!(why.contains("filter"), "{told:#}");

    // Some documents read again mend what was tampered with; a comparison's repair, too.
    let execute = ["--reason", "a test", "--execute"];
    world.execute("update public.person set visits = 9, _hash = 1").await;
    world.execute("update public.person set _deleted_at = null where id = 'a'").await;
    let part = [&["resync", "person", "--ids", "a,b"][..], &execute].concat();
    let (code, said) = run(&world, &part);
    assert_eq!(code, Some(0), "{said}");
    until(&world, "the part", "b Ca 1990-07-01 1").await;
    world.execute("update public.person set visits = 9, _hash = 1").await;
    let repair = [&["compare", "person", "--repair"][..], &execute].concat();
    let (code, said) = run(&world, &repair);
    assert_eq!(code, Some(1), "it differed: {said}");
    until(&world, "the repair", "b Ca 1990-07-01 1").await;

    what_is_of_a_time_to_come_goes(&world).await;

    // What is marked is no row whose number a cap is a share of.
    let (_, told) = run(&world, &["resync", "person", "--reason", "a test", "--json"]);
    assert!(told.contains("\"rows\": 1,"), "{told}");

    // Views are of what is there.
    let (code, sql) = run(&world, &["views"]);
    assert_eq!(code, Some(0), "{sql}");
    world.execute(&sql).await;
    let seen = "select string_agg(concat_ws(' ', id, name, visits), ', ') from public.person_view";
    assert_eq!(world.scalar::<String>(seen).await, "b Ca 1");
    assert_eq!(daemon.stop().0, Some(0), "{}", daemon.log());
}

/// Each change of it is a walk, and the walk is announced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_otherwise_makes_the_rows_anew() {
    let (world, mut daemon) = followed().await;
    until(&world, "the walk", "a Ca 1990-07-01 1, c Ca 1990-07-01 1").await;
    assert_eq!(daemon.stop().0, Some(0));
    let (mut walks, mut asked) = (1, config());
    for (from, to, rows) in [
        ("first_2", "first_3", "a Can 1990-07-01 1, c Can 1990-07-01 1"),
        ("Europe/London", "UTC", "a Can 1990-06-30 1, c Can 1990-06-30 1"),
        ("held", "closed", "a Can 1990-06-30 1, b Can 1990-06-30 1"),
        ("\"secret\"", "\"secret\", \"other\"", "a Can 1990-06-30 1, b Can 1990-06-30 1"),
    ] {
        assert!(asked.streams.contains(from), "{from} is not in the configuration");
        asked.streams = asked.streams.replace(from, to);
        world.configure(&asked);
        let (_, told) = run(&world, &["check"]);
        assert!(told.contains("stream person will be walked"), "{from} → {to}: {told}");
        let mut daemon = world.start();
        walks += 1;
        let ended = format!(
            "select count(*) = {walks} and bool_and(state = 'completed') from tidemark.resync"
        );
        world.until(&format!("the walk of {from} → {to}"), &ended).await;
        until(&world, to, rows).await;
        assert_eq!(daemon.stop().0, Some(0));
        let (_, told) = run(&world, &["check"]);
        assert!(!told.contains("will be walked"), "{told}");
    }
    // A filter that lets nothing through empties no table, and its walk is not cancelled: the table
    // would be of two mappings, and nothing would say so.
    asked.streams = asked.streams.replace("\"open\", \"closed\"", "\"nobody\"");
    world.configure(&asked);
    let _daemon = world.start();
    let held = "select state = 'held' from tidemark.resync order by id desc limit 1";
    world.until("nothing is deleted without a person", held).await;
    until(&world, "all is there", "a Can 1990-06-30 1, b Can 1990-06-30 1").await;
    let id: i64 = world.scalar("select max(id) from tidemark.resync").await;
    let (code, said) =
        run(&world, &["resync", "cancel", &id.to_string(), "--reason", "x", "--execute"]);
    assert!(code == Some(1) && said.contains("cannot be cancelled"), "{said}");
    let (code, said) =
        run(&world, &["resync", "approve", &id.to_string(), "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    until(&world, "a person has said so", "").await;
}
