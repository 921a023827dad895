//! `[[stream.child]]`: arrays of documents in tables of their own, with their document's row in
//! whatever becomes of it; guarantees 1, 4, 5, 6, 7 and 8 for them.

mod lasting;
mod meeting;

use std::time::Duration;

use fastrand::Rng;
use mongodb::bson::{Bson, Document, doc};

use crate::columns_only::until_same;
use crate::support::{Config, Daemon, World, run, stream};

/// The elements of `items`, by SKU and number.
const ITEMS: &str = "child = [ { table = \"odd_item\", field = \"in.items\", column = [ { name = \
                     \"sku\", field = \"sku\", type = \"text\" }, { name = \"n\", field = \
                     \"of.n\", type = \"integer\" } ] } ]";

const COLUMN: &str = "column = [ { name = \"name\", field = \"name\", type = \"text\" } ]";

/// Positions are lost all the time, and nobody is asked.
const ALLOWANCE: (&str, &str) = ("TIDEMARK__RESYNC__AUTOMATIC_PER_DAY_MAX", "100");

pub fn config(rest: &str) -> Config {
    let streams = stream("odd", "odd", &format!("{rest}\n{COLUMN}\n{ITEMS}"));
    Config { streams, ..Config::default() }
}

fn item(sku: &str, n: i32) -> Bson {
    doc! { "sku": sku, "of": { "n": n } }.into()
}

fn document(id: i32, items: Vec<Bson>) -> Document {
    doc! { "_id": id, "name": "x", "in": { "items": items } }
}

/// What the tables show: the elements, and documents that have none.
async fn shown(world: &World) -> Vec<String> {
    let mut all = world
        .column(
            "select concat(coalesce(t.id, 'nobody ' || k.parent_id), ' ', k.position, ' ', k.sku, \
             ' ', k.n) from public.odd as t full join public.odd_item as k on k.parent_id = t.id",
        )
        .await;
    all.sort();
    all
}

/// The same, made of the documents.
async fn should_be(world: &World) -> Vec<String> {
    let mut cursor = world.collection("odd").find(doc! {}).await.unwrap();
    let mut all = Vec::new();
    while cursor.advance().await.unwrap() {
        let document = cursor.deserialize_current().unwrap();
        let id = format!("{{\"$numberInt\":\"{}\"}}", document.get_i32("_id").unwrap());
        let items = document.get_document("in").and_then(|within| within.get_array("items"));
        let items = items.cloned().unwrap_or_default();
        for (position, item) in items.iter().enumerate() {
            let sku = item.as_document().and_then(|item| item.get_str("sku").ok());
            let of = item.as_document().and_then(|item| item.get_document("of").ok());
            let n = of.and_then(|of| of.get_i32("n").ok());
            let n = n.map_or_else(String::new, |n| n.to_string());
            all.push(format!("{id} {position} {} {n}", sku.unwrap_or_default()));
        }
        if items.is_empty() {
            all.push(format!("{id}   "));
        }
    }
    all.sort();
    all
}

async fn until_equal(world: &World) -> usize {
    until_same(world, shown, should_be).await
}

async fn followed(rest: &str, documents: Vec<Document>) -> (World, Daemon) {
    let world = World::with(config(rest)).await;
    world.collection("odd").insert_many(documents).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    until_equal(&world).await;
    (world, daemon)
}

/// The position is gone, as if history were lost.
async fn lose_position(world: &World) {
    let lost = "update tidemark.checkpoint set resume_token = null, token = null, cluster_time = \
                null";
    world.execute(lost).await;
}

#[tokio::test]
async fn elements_are_rows_that_are_replaced_with_their_document() {
    for rest in ["", "doc = false", "history = true"] {
        let many = (0..300).map(|id| document(id, vec![item("a", id), item("b", id)]));
        let (world, daemon) = followed(rest, many.collect()).await;
        let odd = world.collection("odd");
        let set = |id: i32, change: Document| odd.update_one(doc! { "_id": id }, change);
        let items = |items: Vec<Bson>| doc! { "$set": { "in.items": items } };
        set(0, doc! { "$push": { "in.items": item("c", 7) } }).await.unwrap();
        set(1, doc! { "$pop": { "in.items": -1 } }).await.unwrap();
        set(2, items(vec![])).await.unwrap();
        set(3, doc! { "$unset": { "in": "" } }).await.unwrap();
        set(4, doc! { "$set": { "in.items.1.of.n": 9 } }).await.unwrap();
        set(5, items(vec![item("b", 5), item("a", 5)])).await.unwrap();
        // What is no document is a row without values.
        set(6, items(vec![Bson::Null, item("a", 6), 7.into(), vec![1].into()])).await.unwrap();
        odd.delete_one(doc! { "_id": 7 }).await.unwrap();
        odd.insert_one(document(300, vec![item("new", 1)])).await.unwrap();
        odd.replace_one(doc! { "_id": 8 }, document(8, vec![item("z", 1)])).await.unwrap();
        assert_eq!(until_equal(&world).await, 600 + 1 - 1 - 1 - 1 + 2 - 2 + 1 - 1, "{rest}");
        let told = daemon.until("odd", "drift is told", |s| s["drift"] != serde_json::json!([]));
        assert_eq!(told.await["drift"][0]["column"], "odd_item", "an element is no document");
        // Nor does a field that is no array have elements.
        set(9, doc! { "$set": { "in.items": "none" } }).await.unwrap();
        let none = "select not exists (select from public.odd_item where parent_id like '%\"9\"%')";
        world.until("its rows are gone", none).await;
        assert_eq!(run(&world, &["compare", "odd"]).0, Some(0));
        set(9, items(vec![item("again", 1)])).await.unwrap();
        until_equal(&world).await;
        // What is told once more, or changes nothing that is kept, writes nothing.
        let written = "select string_agg(xmin::text, ',' order by parent_id, position) from \
                       public.odd_item";
        let before: String = world.scalar(written).await;
        odd.update_many(doc! {}, doc! { "$set": { "rest": "else" } }).await.unwrap();
        odd.insert_one(document(1_000, vec![])).await.unwrap();
        until_equal(&world).await;
        assert_eq!(world.scalar::<String>(written).await, before, "{rest}");
        assert_eq!(daemon.stream("odd").await["dead_letters"], 0);
    }
}

#[tokio::test]
async fn what_was_lost_meanwhile_is_repaired_with_its_elements() {
    let many = (0..200).map(|id| document(id, vec![item("a", id), item("b", id)]));
    let (world, mut daemon) = followed("doc = false", many.collect()).await;
    let odd = world.collection("odd");
    assert_eq!(daemon.stop().0, Some(0));
    let few = |from: i32, to: i32| doc! { "_id": { "$gte": from, "$lt": to } };
    odd.update_many(few(0, 9), doc! { "$inc": { "in.items.0.of.n": 1 } }).await.unwrap();
    odd.update_many(few(9, 12), doc! { "$pop": { "in.items": 1 } }).await.unwrap();
    odd.delete_many(few(190, 200)).await.unwrap();
    odd.insert_one(document(500, vec![item("new", 1)])).await.unwrap();
    lose_position(&world).await;
    let _daemon = world.start();
    assert_eq!(until_equal(&world).await, 400 - 3 - 20 + 1);
    let repaired = "select concat(rows_inserted, ' ', rows_changed, ' ', rows_deleted) from \
                    tidemark.gap_report order by resync_id desc limit 1";
    world.until("told", "select exists (select from tidemark.gap_report)").await;
    assert_eq!(world.scalar::<String>(repaired).await, "1 12 10");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_elements_are_the_source_and_no_reader_sees_a_part() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let world = World::with(config("doc = false")).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let odd = world.collection("odd");
    let changing = tokio::spawn(async move {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..1_200 {
            let id = rng.i32(0..60);
            if rng.u8(0..4) == 0 {
                odd.delete_one(doc! { "_id": id }).await.unwrap();
            } else {
                // All elements of a document have one number.
                let number = rng.i32(0..1_000);
                let items = (0..rng.i32(0..6)).map(|_| item("a", number)).collect();
                let document = document(id, items);
                odd.replace_one(doc! { "_id": id }, document).upsert(true).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
    let torn = "select count(*) from (select parent_id from public.odd_item group by parent_id \
                having min(n) <> max(n) or max(position) + 1 <> count(*)) as torn";
    let orphans = "select count(*) from public.odd_item as k where not exists (select from \
                   public.odd as t where t.id = k.parent_id)";
    let mut rng = Rng::with_seed(seed);
    let (mut kills, mut looks) = (0, 0);
    while !changing.is_finished() || kills < 4 {
        let place = ["apply.begun=abort@2", "apply.before_commit=abort@20"][kills % 2];
        let daemon = world.start_with(&[("TIDEMARK_FAILPOINT", place), ALLOWANCE]);
        let until = tokio::time::Instant::now() + Duration::from_millis(rng.u64(500..2_000));
        while tokio::time::Instant::now() < until {
            assert_eq!(world.scalar::<i64>(torn).await, 0, "seed {seed}");
            assert_eq!(world.scalar::<i64>(orphans).await, 0, "seed {seed}");
            looks += 1;
        }
        if rng.u8(0..3) == 0 {
            lose_position(&world).await;
        }
        daemon.kill();
        kills += 1;
    }
    changing.await.unwrap();
    println!("{looks} looks, {kills} kills");
    let _daemon = world.start_with(&[ALLOWANCE]);
    until_equal(&world).await;
}

#[tokio::test]
async fn what_a_child_table_refuses_is_set_aside_with_its_document_and_alone() {
    let (world, daemon) = followed("", vec![document(0, vec![item("a", 0)])]).await;
    world.execute("alter table public.odd_item add constraint few check (n < 1000)").await;
    let odd = world.collection("odd");
    let many = (1..200).map(|id| {
        let last = if id % 50 == 7 { 5_000 } else { 5 };
        document(id, vec![item("a", id), item("b", last)])
    });
    odd.insert_many(many).await.unwrap();
    odd.update_one(doc! { "_id": 0 }, doc! { "$push": { "in.items": item("b", 9_999) } })
        .await
        .unwrap();
    crate::refusals::letters(&world, 5).await;
    world.until("the rest is there", "select count(*) = 1 + 2 * 195 from public.odd_item").await;
    world.until("with its rows", "select count(*) = 196 from public.odd").await;
    world.execute("alter table public.odd_item drop constraint few").await;
    let retry = ["dead-letter", "retry", "--all", "odd", "--reason", "mended", "--execute"];
    assert_eq!(run(&world, &retry).0, Some(0));
    assert_eq!(until_equal(&world).await, 400);
    daemon.until_phase("odd", "streaming").await;
}

#[tokio::test]
async fn what_somebody_changed_in_a_child_table_is_found_and_repaired_and_orphans_are_taken_away() {
    for rest in ["", "doc = false", "on_delete = \"mark\""] {
        let any = |id| document(id, vec![item("a", id), item("b", id), item("c", id)]);
        let (world, _daemon) = followed(rest, (0..40).map(any).collect()).await;
        world
            .execute(
                "delete from public.odd_item where parent_id like '%\"1\"%' and position = 1; \
                 update public.odd_item set n = null where parent_id like '%\"2\"%'; insert into \
                 public.odd_item (parent_id, position) select parent_id, 3 from public.odd_item \
                 where parent_id like '%\"3\"%' and position = 0; insert into public.odd_item \
                 (parent_id, position) select parent_id, -1 from public.odd_item where parent_id \
                 like '%\"5\"%' and position = 0; insert into public.odd_item (parent_id, \
                 position, n) values ('nobody', 0, 1), ('nobody', 5, 2); delete from \
                 public.odd where id like '%\"4\"%'",
            )
            .await;
        let (code, told) = run(&world, &["compare", "odd", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let found = &told["compared"];
        assert_eq!(code, Some(1), "{told}");
        assert_eq!(found["extra_ids"], serde_json::json!(["nobody"]), "{rest}: {told}");
        assert_eq!(found["different"], 5, "{rest}: {told}");
        let repair = ["compare", "odd", "--repair", "--reason", "a test", "--execute"];
        let (code, told) = run(&world, &repair);
        assert_eq!(code, Some(1), "{rest}: {told}");
        assert_eq!(until_equal(&world).await, 120, "{rest}");
    }
}
