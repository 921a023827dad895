//! `doc = false`: the columns alone; guarantees 1, 4, 5 and 7 for them.

use fastrand::Rng;
use mongodb::bson::{Bson, Document, doc};
use std::time::Duration;

use crate::support::{Config, World, run, stream};

const COLUMNS: &str = "column = [ { name = \"n\", field = \"a.n\", type = \"integer\" }, { name = \
                       \"t\", field = \"t\", type = \"text[]\" } ]";

/// What no column reads.
const CANARY: &str = "c4n4ry";

fn config(rest: &str) -> Config {
    let streams = stream("odd", "odd", &format!("{rest}\n{COLUMNS}"));
    Config { streams, ..Config::default() }
}

fn document(id: i32, n: i32) -> Document {
    doc! { "_id": id, "a": { "n": n }, "t": ["x", n.to_string()], "rest": CANARY }
}

/// What the table shows, as it should be of these documents.
async fn shown(world: &World) -> Vec<String> {
    let mut all = world.column("select concat(id, ' ', n, ' ', t) from public.odd").await;
    all.sort();
    all
}

async fn should_be(world: &World) -> Vec<String> {
    let mut cursor = world.collection("odd").find(doc! {}).await.unwrap();
    let mut all = Vec::new();
    while cursor.advance().await.unwrap() {
        let document = cursor.deserialize_current().unwrap();
        let n = document.get_document("a").unwrap().get_i32("n").unwrap();
        let id = document.get_i32("_id").unwrap();
        let texts: Vec<&str> =
            document.get_array("t").unwrap().iter().filter_map(Bson::as_str).collect();
        all.push(format!("{{\"$numberInt\":\"{id}\"}} {n} {{{}}}", texts.join(",")));
    }
    all.sort();
    all
}

async fn until_equal(world: &World) -> usize {
    until_same(world, shown, should_be).await
}

/// Waits until what tables show of `odd` is what the source has, and compares them by the command,
/// too.
pub async fn until_same(
    world: &World,
    shown: impl AsyncFn(&World) -> Vec<String>,
    should_be: impl AsyncFn(&World) -> Vec<String>,
) -> usize {
    let (mut is, mut should) = (shown(world).await, should_be(world).await);
    for _ in 0..1_200 {
        if is == should {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        (is, should) = (shown(world).await, should_be(world).await);
    }
    assert_eq!(is, should, "{}", world.logs());
    let (code, told) = run(world, &["compare", "odd"]);
    assert_eq!(code, Some(0), "{told}");
    is.len()
}

#[tokio::test]
async fn the_columns_are_the_source_and_nothing_of_the_rest_is_there() {
    let world = World::with(config("doc = false")).await;
    let odd = world.collection("odd");
    odd.insert_many((0..300).map(|n| document(n, n))).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    odd.insert_many((300..400).map(|n| document(n, n))).await.unwrap();
    odd.update_many(doc! { "_id": { "$lt": 50 } }, doc! { "$inc": { "a.n": 1 } }).await.unwrap();
    odd.delete_many(doc! { "_id": { "$gte": 390 } }).await.unwrap();
    assert_eq!(until_equal(&world).await, 390);
    let columns = "select attname::text from pg_attribute where attrelid = 'public.odd'::regclass \
                   and attnum > 0 order by attnum";
    assert_eq!(
        world.column(columns).await,
        ["id", "_cluster_time", "_applied_at", "_hash", "n", "t"]
    );
    let all = "select count(*) from public.odd as o where o::text like '%c4n4ry%'";
    assert_eq!(world.scalar::<i64>(all).await, 0);
    // A change of what no column reads writes nothing.
    let written = "select string_agg(xmin::text, ',' order by id) from public.odd";
    let before: String = world.scalar(written).await;
    odd.update_many(doc! {}, doc! { "$set": { "rest": "else" } }).await.unwrap();
    odd.insert_one(document(1_000, 1)).await.unwrap();
    odd.delete_one(doc! { "_id": 1_000 }).await.unwrap();
    assert_eq!(until_equal(&world).await, 390);
    assert_eq!(world.scalar::<String>(written).await, before);
    // Lost, changed and deleted meanwhile: repaired by hashes, which most rows have no more.
    assert_eq!(daemon.stop().0, Some(0));
    odd.update_many(doc! { "_id": { "$lt": 9 } }, doc! { "$inc": { "a.n": 1 } }).await.unwrap();
    odd.delete_many(doc! { "_id": { "$gte": 380 } }).await.unwrap();
    let lost = "update tidemark.checkpoint set resume_token = null, token = null";
    world.execute(lost).await;
    let _daemon = world.start();
    assert_eq!(until_equal(&world).await, 380);
    let repaired = "select concat(rows_changed, ' ', rows_deleted) from tidemark.gap_report order \
                    by resync_id desc limit 1";
    world.until("told", "select exists (select from tidemark.gap_report)").await;
    assert_eq!(world.scalar::<String>(repaired).await, "9 10");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_columns_are_the_source() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let world = World::with(config("doc = false")).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let odd = world.collection("odd");
    let changing = tokio::spawn(async move {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..1_000 {
            let id = rng.i32(0..60);
            if rng.u8(0..3) == 0 {
                odd.delete_one(doc! { "_id": id }).await.unwrap();
            } else {
                let document = document(id, rng.i32(0..3));
                odd.replace_one(doc! { "_id": id }, document).upsert(true).await.unwrap();
            }
        }
    });
    let mut rng = Rng::with_seed(seed);
    let mut kills = 0;
    while !changing.is_finished() || kills < 4 {
        let daemon = world.start_with(&[("TIDEMARK_FAILPOINT", "apply.before_commit=abort@3")]);
        tokio::time::sleep(Duration::from_millis(rng.u64(500..2_500))).await;
        daemon.kill();
        kills += 1;
    }
    changing.await.unwrap();
    let _daemon = world.start();
    until_equal(&world).await;
}

#[tokio::test]
async fn a_doc_that_is_there_stays_and_one_that_is_wanted_again_is_a_persons_to_make() {
    let world = World::with(config("")).await;
    let odd = world.collection("odd");
    odd.insert_many((0..5).map(|n| document(n, n))).await.unwrap();
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    world.configure(&config("doc = false"));
    let (code, told) = run(&world, &["check"]);
    assert!(code == Some(0) && told.contains("doc of public.odd refuses null"), "{told}");
    let mut daemon = world.start();
    odd.insert_many((5..9).map(|n| document(n, n))).await.unwrap();
    assert_eq!(until_equal(&world).await, 9);
    assert_eq!(world.scalar::<i64>("select count(doc) from public.odd").await, 5, "left");
    let (code, told) = run(&world, &["check"]);
    assert!(code == Some(0) && told.contains("its column doc is not written any more"), "{told}");
    assert_eq!(daemon.stop().0, Some(0));
    world.execute("alter table public.odd drop column doc").await;
    world.configure(&config("doc = true"));
    let (code, told) = run(&world, &["check"]);
    assert!(code == Some(1) && told.contains("no column doc jsonb"), "{told}");
    world.execute("alter table public.odd add column doc jsonb").await;
    let _daemon = world.start();
    odd.insert_one(document(9, 9)).await.unwrap();
    let request = ["resync", "odd", "--reason", "doc is wanted again", "--execute"];
    assert_eq!(run(&world, &request).0, Some(0));
    assert_eq!(world.until_equal("odd", "public.odd").await, 10);
}

#[tokio::test]
async fn there_must_be_something_to_keep() {
    let streams = stream("odd", "odd", "doc = false");
    let world = World::with(Config { streams, ..Config::default() }).await;
    let (code, told) = run(&world, &["check", "--offline"]);
    assert!(code == Some(78) && told.contains("doc must be true where no"), "{told}");
}
