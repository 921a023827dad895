//! A configuration that makes other rows of the same documents: the table is made anew by a walk
//! beside live changes, and what is a person's to alter is said in SQL before.

use std::time::Duration;

use mongodb::bson::doc;

use crate::alerting::until;
use crate::changing::{Load, fill, of, until_equal, until_streaming, walks};
use crate::support::{Config, World, run};

const N: &str = "{ name = \"n\", field = \"n\", type = \"bigint\" }";
const RARE: &str = "{ name = \"rare\", field = \"deep.rare\", type = \"text\" }";

fn columns(columns: &[&str]) -> String {
    format!("column = [ {} ]", columns.join(", "))
}

/// One and two, the columns of one, under a limit of documents a second.
fn config(one: &[&str], limit: u32) -> Config {
    let (one, two) = (columns(one), columns(&[N]));
    let streams = of(&[("one", &one), ("two", &two)]);
    let extra = format!(
        "{}\nresync.documents_per_second_max = {limit}\nresync.chunk_documents = 20",
        streams.extra
    );
    Config { extra, ..streams }
}

/// Waits until the last walk of a stream is of this reason and completed.
async fn until_walked(world: &World, stream: &str, reason: &str) {
    let sql = format!(
        "select state = 'completed' and reason = '{reason}' from tidemark.resync where stream = \
         '{stream}' order by id desc limit 1"
    );
    world.until("the walk is completed", &sql).await;
}

async fn filled() -> World {
    let world = World::with(config(&[N], 0)).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let more = (100..400).map(|n| {
        let deep = if n % 10 == 0 {
            doc! { "rare": format!("r{n}") }
        } else {
            doc! {}
        };
        doc! { "_id": n, "n": n, "deep": deep }
    });
    world.collection("one").insert_many(more).await.unwrap();
    let mut daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    until_equal(&world, &["one", "two"]).await;
    daemon.stop();
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_column_fills_itself_beside_live_changes_over_a_kill_and_with_right_hashes() {
    let world = filled().await;
    let load = Load::of(&world, &["one", "two"]);
    let slow = world.beside(&config(&[N, RARE], 60));
    let (code, told) = run(&slow, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("column rare is new: stream one will be walked (about "), "{told}");
    assert!(!told.contains("stream two will be walked"), "{told}");
    let (code, told) = run(&slow, &["migrate"]);
    assert!(code == Some(0) && told.contains("column rare is new: stream one will"), "{told}");

    let daemon = slow.start();
    let walking = "select documents_read >= 80 from tidemark.resync where reason = \
                   'mapping_changed'";
    slow.until("it is walked", walking).await;
    daemon.kill();
    let read: i64 = slow
        .scalar("select documents_read from tidemark.resync where reason = 'mapping_changed'")
        .await;
    let daemon = world.beside(&config(&[N, RARE], 0)).start();
    until_walked(&world, "one", "mapping_changed").await;
    load.end().await;
    until_streaming(&daemon, &["one", "two"]).await;
    until_equal(&world, &["one", "two"]).await;
    let read_once = format!(
        "select count(*) = 1 and max(documents_read) between {read} and (select count(*) + 50 \
         from public.one) from tidemark.resync where reason = 'mapping_changed'"
    );
    assert!(world.scalar::<bool>(&read_once).await, "the kill costs a chunk, not the walk");
    let filled = "select count(*) filter (where rare = 'r' || n) from public.one";
    assert_eq!(world.scalar::<i64>(filled).await, 30);
    drop(daemon);

    // The hashes are those of a table that was made so from the beginning.
    let both = [("one", columns(&[N, RARE])), ("fresh", columns(&[N, RARE]))];
    let both: Vec<(&str, &str)> = both.iter().map(|(name, of)| (*name, of.as_str())).collect();
    let fresh = of(&both);
    let streams = fresh.streams.replace("collection = \"fresh\"", "collection = \"one\"");
    let daemon = world.beside(&Config { streams, ..fresh }).start();
    until_streaming(&daemon, &["one", "fresh"]).await;
    let hashes = "select count(*), count(*) filter (where o._hash is distinct from f._hash) from \
                  public.one as o full join public.fresh as f using (id)";
    let (rows, differ): (i64, i64) = world.row(hashes).await;
    assert!(rows >= 350 && differ == 0, "{differ} of {rows}");

    let walked = walks(&world).await;
    assert_eq!(walked["one"], "first_snapshot mapping_changed");
    assert_eq!(walked["two"], "first_snapshot", "its neighbour is not disturbed");
    let counted = "select count(*) from tidemark.resync where automatic";
    assert_eq!(world.scalar::<i64>(counted).await, 0, "nothing of the day's allowance is used");
    let told = "select count(*) from tidemark.incident where severity = 'critical' and code <> \
                'crash_loop'";
    assert_eq!(world.scalar::<i64>(told).await, 0, "nobody is woken for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_fills_a_new_column_too_and_walks_nothing_for_one_that_is_removed() {
    let world = filled().await;
    let daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    let taken = || daemon.log().matches("the configuration is taken anew").count();
    world.configure(&config(&[N, RARE], 0));
    daemon.signal("HUP");
    until("it is taken", &world, || taken() == 1).await;
    until_walked(&world, "one", "mapping_changed").await;
    let filled = "select count(*) filter (where rare is not null) from public.one";
    assert_eq!(world.scalar::<i64>(filled).await, 30);

    world.configure(&config(&[N], 0));
    let (code, told) = run(&world, &["check"]);
    let stray = "column rare of table public.one is not configured: it keeps the values it has";
    assert!(code == Some(0) && told.contains(stray), "{told}");
    assert!(told.contains("`alter table \"public\".\"one\" drop column \"rare\";`"), "{told}");
    assert!(!told.contains("will be walked"), "{told}");
    daemon.signal("HUP");
    until("it is taken", &world, || taken() == 2).await;
    until_streaming(&daemon, &["one", "two"]).await;
    world.collection("one").delete_one(doc! { "_id": 110 }).await.unwrap();
    until_equal(&world, &["one"]).await;
    assert_eq!(world.scalar::<i64>(filled).await, 29);
    assert_eq!(walks(&world).await["one"], "first_snapshot mapping_changed");
    // What is not remembered any more is new when it comes back: what changed meanwhile is seen.
    world
        .collection("one")
        .update_one(doc! { "_id": 120 }, doc! { "$unset": { "deep": "" } })
        .await
        .unwrap();
    until_equal(&world, &["one"]).await;
    assert_eq!(world.scalar::<i64>(filled).await, 29, "the column is not written");
    world.configure(&config(&[N, RARE], 0));
    daemon.signal("HUP");
    until("it is taken", &world, || taken() == 3).await;
    world.until("it is filled anew", "select count(rare) = 28 from public.one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_retyped_or_renamed_is_altered_as_check_says() {
    let world = filled().await;
    let other = N.replace("bigint", "integer");
    let retyped = world.beside(&config(&[&other], 0));
    let (code, told) = run(&retyped, &["check"]);
    let sql = "alter table \"public\".\"one\" drop column \"n\";";
    assert!(code == Some(1) && told.contains(&format!("→ `{sql}`")), "{told}");
    let daemon = retyped.start();
    daemon.until_phase("one", "parked").await;
    daemon.until_phase("two", "streaming").await;
    world.execute(sql).await;
    assert_eq!(run(&retyped, &["migrate"]).0, Some(0));
    daemon.until_phase("one", "streaming").await;
    until_equal(&world, &["one"]).await;
    let filled =
        "select count(*) filter (where n = (doc->>'n')::integer), count(*) from public.one";
    let (right, rows): (i64, i64) = world.row(filled).await;
    assert_eq!((right, rows), (350, 350));
    drop(daemon);

    let called = other.replace("name = \"n\"", "name = \"number\"");
    let renamed = world.beside(&config(&[&called], 0));
    let (code, told) = run(&renamed, &["check"]);
    let sql = "alter table \"public\".\"one\" rename column \"n\" to \"number\";";
    assert!(code == Some(0) && told.contains(sql), "{told}");
    world.execute(sql).await;
    let daemon = renamed.start();
    until_walked(&world, "one", "mapping_changed").await;
    daemon.until_phase("one", "streaming").await;
    let kept = "select count(*) from public.one where number = (doc->>'n')::integer";
    assert_eq!(world.scalar::<i64>(kept).await, 350);
    let (code, told) = run(&renamed, &["check"]);
    assert!(code == Some(0) && !told.contains("mapping of"), "{told}");
}

#[tokio::test]
async fn what_an_older_release_made_is_taken_as_it_is_but_for_what_its_table_lacks() {
    let world = filled().await;
    world.execute("update tidemark.stream set mapping = null").await;
    let mut daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    let known = "select bool_and(mapping is not null) from tidemark.stream";
    world.until("it is remembered from now on", known).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(walks(&world).await["one"], "first_snapshot");
    daemon.stop();
    world.execute("update tidemark.stream set mapping = null").await;
    let mut daemon = world.beside(&config(&[N, RARE], 0)).start();
    until_walked(&world, "one", "mapping_changed").await;
    let filled = "select count(*) filter (where rare is not null) from public.one";
    assert_eq!(world.scalar::<i64>(filled).await, 30);
    until_streaming(&daemon, &["one", "two"]).await;
    assert_eq!(walks(&world).await["two"], "first_snapshot");
    daemon.stop();
}
