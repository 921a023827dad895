//! What becomes of arrays' tables when the configuration or the tables themselves are changed.

use std::time::Duration;

use mongodb::bson::doc;

use super::{COLUMN, ITEMS, config, document, followed, item, until_equal};
use crate::support::{Config, World, run, stream};

const PLAIN: &str = "column = [ { name = \"name\", field = \"name\", type = \"text\" } ]";

async fn reasons(world: &World) -> Vec<String> {
    world.column("select reason from tidemark.resync order by id").await
}

async fn until_walked(world: &World, reason: &str) {
    let sql = format!(
        "select state = 'completed' and reason = '{reason}' from tidemark.resync order by id desc \
         limit 1"
    );
    world.until("the walk is completed", &sql).await;
}

#[tokio::test]
async fn a_child_that_is_configured_later_is_filled_and_one_that_is_not_any_more_is_told_of() {
    for rest in ["", "doc = false"] {
        let plain = stream("odd", "odd", &format!("{rest}\n{PLAIN}"));
        let plain = || Config { streams: plain.clone(), ..Config::default() };
        let world = World::with(plain()).await;
        let odd = world.collection("odd");
        let many = (0..150).map(|id| document(id, vec![item("a", id), item("b", id)]));
        odd.insert_many(many).await.unwrap();
        let mut daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        world.until("all rows", "select count(*) = 150 from public.odd").await;
        assert_eq!(daemon.stop().0, Some(0));
        world.configure(&config(rest));
        let (code, told) = run(&world, &["check"]);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.contains("child table odd_item is new or made otherwise"), "{told}");
        assert!(told.contains("table public.odd_item does not exist"), "{told}");
        let mut daemon = world.start();
        until_walked(&world, "mapping_changed").await;
        odd.insert_one(document(200, vec![item("c", 1)])).await.unwrap();
        assert_eq!(until_equal(&world).await, 301);
        let (code, told) = run(&world, &["check"]);
        assert!(code == Some(0) && !told.contains("will be walked"), "{told}");
        assert_eq!(daemon.stop().0, Some(0));
        world.configure(&plain());
        let (code, told) = run(&world, &["check"]);
        assert_eq!(code, Some(0), "{told}");
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("public.odd_item is not configured any more: it keeps"), "{told}");
        assert!(told.contains("`drop table \"public\".\"odd_item\";`"), "{told}");
        // One that is configured again is filled again.
        let mut daemon = world.start();
        odd.delete_one(doc! { "_id": 3 }).await.unwrap();
        world.until("deleted", "select count(*) = 150 from public.odd").await;
        assert_eq!(daemon.stop().0, Some(0));
        world.configure(&config(rest));
        let _daemon = world.start();
        world.until("walked", "select count(*) = 3 from tidemark.resync").await;
        until_walked(&world, "mapping_changed").await;
        // Nobody deleted the elements of what was deleted meanwhile but that walk.
        assert_eq!(until_equal(&world).await, 299);
        assert_eq!(run(&world, &["compare", "odd"]).0, Some(0));
    }
}

/// Guarantee 1: what was made again, empty, is filled, by whomever it was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_table_or_column_that_was_dropped_is_made_again_and_filled() {
    let many = (0..150).map(|id| document(id, vec![item("a", id), item("b", id)]));
    let (world, mut daemon) = followed("doc = false", many.collect()).await;
    let odd = world.collection("odd");
    let drops = [
        "drop table public.odd_item",
        "alter table public.odd_item drop column n",
        "alter table public.odd drop column name",
    ];
    let filled = "select count(*) = 0 from public.odd where name is null";
    for (number, drop) in drops.iter().enumerate() {
        // Found when it is written to: parked, made again by a person.
        world.execute(drop).await;
        odd.update_many(doc! {}, doc! { "$inc": { "in.items.0.of.n": 1 } }).await.unwrap();
        daemon.until("odd", "waits", |s| s["phase"] != "streaming").await;
        let (code, told) = run(&world, &["migrate"]);
        assert!(code == Some(0) && told.contains("stream odd will be walked"), "{told}");
        world.until("filled", filled).await;
        assert_eq!(until_equal(&world).await, 300, "{drop}");
        daemon.until_phase("odd", "streaming").await;
        // Found at a start, which makes it by itself; killed meanwhile.
        assert_eq!(daemon.stop().0, Some(0));
        world.execute(drop).await;
        let slow = [("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "50")];
        daemon = world.start_with(&slow);
        let walks = format!("select count(*) >= {} from tidemark.resync", 3 + 2 * number);
        world.until("it is walked", &walks).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        daemon.kill();
        daemon = world.start();
        world.until("filled", filled).await;
        assert_eq!(until_equal(&world).await, 300, "{drop}");
        daemon.until_phase("odd", "streaming").await;
    }
    let mut reasons = reasons(&world).await;
    reasons.dedup();
    assert_eq!(reasons[0], "first_snapshot");
    assert!(reasons.iter().all(|reason| reason != "table_replaced"), "{reasons:?}");
}

#[tokio::test]
async fn what_cannot_be_a_child_table_is_refused_with_its_place() {
    let world = World::with(config("")).await;
    let refused = |child: &str, rest: &str| {
        let streams = stream("odd", "odd", &format!("{rest}\n{COLUMN}\n{child}"));
        world.configure(&Config { streams, ..Config::default() });
        let (code, told) = run(&world, &["check", "--offline"]);
        assert_eq!(code, Some(78), "{told}");
        told
    };
    for (child, says) in [
        ("child = [ { table = \"k\", field = \"a\" } ]", "[odd].child[0].column must be given"),
        ("child = [ { field = \"a\", column = [] } ]", "[odd].child[0].table must be given"),
        ("child = \"k\"", "child must be a list of tables"),
        (&ITEMS.replace("odd_item", "odd"), "table \"odd\" is used twice"),
        (&ITEMS.replace("\"sku\", field", "\"position\", field"), "\"position\" is used twice or"),
        (&ITEMS.replace("in.items", "_id.items"), "leads into _id"),
        (&ITEMS.replace("table =", "tabel ="), "tabel is not a key; did you mean table?"),
    ] {
        let told = refused(child, "");
        assert!(told.contains(says), "{says} is not in {told}");
    }
    let told = refused(ITEMS, "exclude = [\"in\"]");
    assert!(told.contains("leaves out \"in\", but column \"odd_item.sku\" reads"), "{told}");
    let told = refused(ITEMS, "history = true\ndoc = false");
    assert!(told.contains("needs doc = true beside [[stream.child]]"), "{told}");
    // A table of that name that is somebody else's.
    world.configure(&config(""));
    world.execute("create table public.odd_item (id int, sku text)").await;
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("public.odd_item has no column parent_id text"), "{told}");
}

/// Guarantee 1: the hashes of rows say what was written, not what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_parked_stream_lacked_is_filled_though_its_rows_have_the_hashes_of_their_documents()
{
    let other = stream("other", "other", "");
    let both = config("doc = false");
    let both = Config { streams: both.streams + &other, ..both };
    let world = World::with(both).await;
    let odd = world.collection("odd");
    let many = (0..150).map(|id| document(id, vec![item("a", id), item("b", id)]));
    odd.insert_many(many).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    until_equal(&world).await;
    for drop in ["table public.odd_item drop column sku", "table public.odd drop column name"] {
        world.execute(&format!("alter {drop}")).await;
        odd.update_one(doc! { "_id": 0 }, doc! { "$inc": { "in.items.0.of.n": 1 } }).await.unwrap();
        daemon.until_phase("odd", "parked").await;
        assert_eq!(run(&world, &["migrate"]).0, Some(0));
        let filled = "select count(name) = 150 from public.odd";
        world.until("filled", filled).await;
        assert_eq!(until_equal(&world).await, 300, "{drop}");
        until_walked(&world, "parked").await;
        daemon.until_phase("odd", "streaming").await;
    }
    assert_eq!(reasons(&world).await.iter().filter(|reason| *reason == "parked").count(), 2);
}

#[tokio::test]
async fn what_rows_of_an_older_release_lack_is_filled_and_nothing_else_is_walked() {
    let (world, mut daemon) = followed("", vec![document(1, vec![item("a", 1)])]).await;
    let older = "update tidemark.stream set mapping = null";
    assert_eq!(daemon.stop().0, Some(0));
    world.execute(older).await;
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(reasons(&world).await, ["first_snapshot"]);
    assert_eq!(daemon.stop().0, Some(0));
    // The first release had a position a stream, and bound it to nothing.
    let first = "insert into tidemark.stream_position (stream, source, options, resume_token, \
                 token, cluster_time, epoch, revision) select 'odd', database || '.odd', options, \
                 resume_token, token, cluster_time, epoch, revision from tidemark.checkpoint; \
                 delete from tidemark.checkpoint; delete from tidemark.lease; update \
                 tidemark.stream set table_schema = null, table_name = null, table_oid = null";
    for (round, and) in ["", first].into_iter().enumerate() {
        world.execute(&format!("{older}; alter table public.odd drop column name; {and}")).await;
        world.execute("drop table public.odd_item").await;
        let mut daemon = world.start();
        let walked = format!(
            "select count(*) = {} from tidemark.resync where reason = 'mapping_changed' and state \
             = 'completed'",
            round + 1
        );
        world.until("it is walked", &walked).await;
        assert_eq!(until_equal(&world).await, 1);
        assert_eq!(world.column("select name from public.odd").await, ["x"]);
        assert_eq!(daemon.stop().0, Some(0));
    }
    assert_eq!(reasons(&world).await.len(), 3, "for nothing else");
}

#[tokio::test]
async fn a_child_table_of_another_service_is_refused() {
    let (world, _daemon) = followed("", vec![document(1, vec![item("a", 1)])]).await;
    let theirs = config("").streams.replace("\"odd\"\n", "\"odd2\"\n");
    let theirs = theirs.replace("table = \"odd\"", "table = \"odd2\"");
    let other = world.beside(&Config {
        streams: theirs.replace("name = \"odd\"", "name = \"odd2\""),
        extra: "service = \"another\"".to_owned(),
        ..Config::default()
    });
    let (code, told) = run(&other, &["migrate"]);
    assert_eq!(code, Some(1), "{told}");
    let refused = "table public.odd_item is followed into by stream odd of";
    assert!(told.contains(refused), "{told}");
}

async fn no_element_is_left_over(world: &World) {
    let orphans = "select count(*) from public.odd_item as k where not exists (select from \
                   public.odd as t where t.id = k.parent_id)";
    assert_eq!(world.scalar::<i64>(orphans).await, 0);
}

/// Guarantee 1: the table alone is emptied while nothing is written to it, and documents go
/// meanwhile, of which no row tells any more.
#[tokio::test]
async fn elements_of_documents_that_went_while_their_table_was_emptied_go_too() {
    for rest in ["", "history = true", "on_delete = \"mark\""] {
        let many = (0..50).map(|id| document(id, vec![item("a", id), item("b", id)]));
        let (world, mut daemon) = followed(rest, many.collect()).await;
        let odd = world.collection("odd");
        let asked = ["--reason", "a test", "--execute"];
        let pause = [&["pause", "odd", "--until", "1h"], &asked[..]].concat();
        assert_eq!(run(&world, &pause).0, Some(0));
        daemon.until_phase("odd", "paused").await;
        world.execute("truncate public.odd").await;
        odd.delete_one(doc! { "_id": 3 }).await.unwrap();
        assert_eq!(run(&world, &[&["resume", "odd"], &asked[..]].concat()).0, Some(0));
        assert_eq!(until_equal(&world).await, 98, "{rest}");
        daemon.until_phase("odd", "streaming").await;
        assert_eq!(daemon.stop().0, Some(0));
        world.execute("truncate public.odd").await;
        odd.delete_one(doc! { "_id": 4 }).await.unwrap();
        daemon = world.start();
        assert_eq!(until_equal(&world).await, 96, "{rest}");
        daemon.until_phase("odd", "streaming").await;
        assert_eq!(run(&world, &["compare", "odd"]).0, Some(0));
        assert_eq!(daemon.stop().0, Some(0));
        if rest.contains("history") {
            let open = "select count(*) from public.odd_history where _valid_to is null";
            assert_eq!(world.scalar::<i64>(open).await, 48);
        }
        // A table that is made for the first time, beside one of its arrays that is there already.
        world.execute("drop table public.odd").await;
        let some = (10..20).map(|id| document(id, vec![item("c", id)]));
        world.collection("other").insert_many(some).await.unwrap();
        let other = stream("odd", "other", &format!("{rest}\n{COLUMN}\n{ITEMS}"));
        let streams = other.replacen("name = \"odd\"", "name = \"other\"", 1);
        world.configure(&Config { streams, ..Config::default() });
        daemon = world.start();
        daemon.until_phase("other", "streaming").await;
        world.until("filled", "select count(*) = 10 from public.odd_item").await;
        no_element_is_left_over(&world).await;
        assert_eq!(daemon.stream("other").await["dead_letters"], 0);
    }
}
