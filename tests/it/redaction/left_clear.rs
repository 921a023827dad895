//! What a stream begins to hide stays clear where no walk comes: `check` counts it, and what it
//! says to do takes it away.

use mongodb::bson::doc;

use super::letters;
use crate::support::{Config, World, run, stream};

const KEEPS: &str = "history = true\non_delete = \"mark\"";

fn config(hides: &str, mask: &str) -> Config {
    let column = format!(
        "column = [ {{ name = \"name\", field = \"name\", type = \"text\"{mask} }} ]\nchild = [ {{ \
         table = \"odd_item\", field = \"items\", column = [ {{ name = \"k\", field = \"k\", type \
         = \"text\"{mask} }} ] }} ]"
    );
    let streams = stream("odd", "odd", &format!("{KEEPS}\n{hides}\n{column}"));
    Config { streams, ..Config::default() }
}

/// What `check` says of clear values, in the order of the tables.
fn told(world: &World) -> Vec<String> {
    let (code, told) = run(world, &["check", "--json"]);
    assert_eq!(code, Some(0), "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let findings = told["findings"].as_array().unwrap_or_else(|| told.as_array().unwrap());
    let clear = findings.iter().filter(|f| f["what"] == "clear values in public.odd");
    clear
        .map(|f| format!("{} | {}", f["detail"].as_str().unwrap(), f["remedy"].as_str().unwrap()))
        .collect()
}

/// The SQL of a remedy.
fn sql(told: &str) -> &str {
    told.split('`').nth(1).unwrap()
}

#[tokio::test]
async fn clear_values_that_no_walk_takes_away_are_counted_with_what_does() {
    let world = World::with(config("", "")).await;
    let odd = world.collection("odd");
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    let document = |id: i32| {
        let items = vec![doc! { "k": format!("item {id}") }];
        doc! { "_id": id.to_string(), "name": format!("name {id}"), "in": [[{ "secret": id }]],
        "items": items }
    };
    odd.insert_many((0..6).map(document)).await.unwrap();
    odd.delete_one(doc! { "_id": "0" }).await.unwrap();
    world
        .until("deleted", "select count(*) = 1 from public.odd where _deleted_at > '2000-1-1'")
        .await;
    world.until("written", "select count(*) = 6 from public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    assert_eq!(told(&world), [""; 0], "nothing is hidden yet");
    world.configure(&config("exclude = [\"in.secret\"]", ", mask = \"first_1\""));
    world.execute("alter table public.odd add constraint picky check (id <> '3') not valid").await;
    let numbers = |clear: &[String]| -> Vec<String> {
        let number =
            |told: &String| told.split(": ").nth(1).unwrap().split(" |").next().unwrap().to_owned();
        clear.iter().map(number).collect()
    };
    assert_eq!(numbers(&told(&world)), ["5", "1", "6", "6"]);

    let mut daemon = world.start();
    letters(&world, 1).await;
    daemon.until("odd", "is walked", |s| s["resync"].is_null() && s["phase"] == "streaming").await;
    let clear = told(&world);
    assert_eq!(numbers(&clear), ["1", "1", "6", "2"], "{clear:?}");
    world.execute("alter table public.odd drop constraint picky").await;
    assert!(clear[0].contains("`tidemark dead-letter retry --all odd"), "{clear:?}");
    let retry = ["dead-letter", "retry", "--all", "odd", "--reason", "mended", "--execute"];
    assert_eq!(run(&world, &retry).0, Some(0));
    for told in &clear[1..] {
        world.execute(sql(told)).await;
    }
    assert_eq!(told(&world), ["nothing that is hidden is shown | "]);
    let kept = "select count(*) = 5 and bool_and(_valid_to is null) from public.odd_history";
    assert!(world.scalar::<bool>(kept).await, "what is not clear stays");
    assert_eq!(daemon.stop().0, Some(0));
}
