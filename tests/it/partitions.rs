//! Tables that are partitioned: followed as any other.

use mongodb::bson::doc;

use crate::support::{Config, World, run, stream};

const COLLECTION: &str = "visits";

/// As a person would make it: every unique index of a partitioned table holds its partition key.
const TABLE: &str = "create table public.visit (id text primary key, ward text, doc jsonb not \
                     null, _cluster_time bigint not null, _applied_at timestamptz not null default \
                     now(), _hash bigint) partition by hash (id); create table public.visit_0 \
                     partition of public.visit for values with (modulus 3, remainder 0); create \
                     table public.visit_1 partition of public.visit for values with (modulus 3, \
                     remainder 1); create table public.visit_2 (_hash bigint, doc jsonb not null, \
                     ward text, _cluster_time bigint not null, _applied_at timestamptz not null \
                     default now(), id text not null); alter table public.visit attach partition \
                     public.visit_2 for values with (modulus 3, remainder 2)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partitioned_table_is_filled_followed_and_repaired() {
    let column = "column = [ { name = \"ward\", field = \"ward\", type = \"text\" }, \
                  { name = \"beds\", field = \"beds\", type = \"integer\" } ]";
    let config = Config { streams: stream("visit", COLLECTION, column), ..Config::default() };
    let world = World::with(config).await;
    let visits = world.collection(COLLECTION);
    let all = (0..500).map(|n| doc! { "_id": format!("v{n:03}"), "ward": "w", "beds": n });
    visits.insert_many(all).await.unwrap();
    world.execute(TABLE).await;
    let daemon = world.start();
    daemon.until_phase("visit", "streaming").await;
    assert_eq!(world.until_equal(COLLECTION, "public.visit").await, 500);
    for partition in ["visit_0", "visit_1", "visit_2"] {
        let held = format!("select count(*) > 50 from public.{partition}");
        assert!(world.scalar::<bool>(&held).await, "{partition} has its share");
    }
    visits
        .update_many(doc! { "beds": { "$lt": 100 } }, doc! { "$set": { "ward": "x" } })
        .await
        .unwrap();
    visits.delete_many(doc! { "beds": { "$gte": 450 } }).await.unwrap();
    visits.insert_one(doc! { "_id": "new", "ward": "n" }).await.unwrap();
    assert_eq!(world.until_equal(COLLECTION, "public.visit").await, 451);

    // Ten rows are missing, twenty are different, five are too many: each is told apart.
    world
        .execute(
            "delete from public.visit where id between 'v100' and 'v109'; \
             update public.visit set ward = 'wrong', _hash = 0 where id between 'v200' and 'v219'; \
             insert into public.visit (id, doc, _cluster_time) select 'extra' || n, '{}', 1 from \
             generate_series(1, 5) as n",
        )
        .await;
    assert_eq!(run(&world, &["compare", "visit"]).0, Some(1));
    let (code, told) = run(&world, &["resync", "visit", "--reason", "test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    let done = "select state = 'completed' from tidemark.resync where reason = 'requested'";
    world.until("the resync completes", done).await;
    assert_eq!(world.until_equal(COLLECTION, "public.visit").await, 451);
    let counted: (i64, i64, i64) = world
        .row("select rows_inserted, rows_changed, rows_deleted from tidemark.gap_report")
        .await;
    assert_eq!(counted, (10, 20, 5));
    let (code, told) = run(&world, &["compare", "visit"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("executed over no row and rolled back"), "{told}");
}
