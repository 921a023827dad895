//! `history = true`: every version written is kept, in the transaction that writes the row;
//! guarantees 1, 3, 4, 5, 7 and 8 for the versions, too.

mod endings;
mod renaming;
mod replaying;

use fastrand::Rng;
use mongodb::bson::{Document, doc};
use std::time::{Duration, Instant};

use crate::marking::come_and_go;
use crate::refusals::letters;
use crate::support::{Config, Daemon, World, run, state, stream};

const COLUMN: &str = "column = [ { name = \"n\", field = \"n\", type = \"integer\" } ]";

/// Positions are lost all the time, and nobody is asked.
const ALLOWANCE: (&str, &str) = ("TIDEMARK__RESYNC__AUTOMATIC_PER_DAY_MAX", "100");

fn config(rest: &str, extra: &str) -> Config {
    let streams = stream("odd", "odd", &format!("{rest}\n{COLUMN}"));
    Config { extra: extra.to_owned(), streams, ..Config::default() }
}

/// The rows of documents that there are.
fn living(rest: &str) -> &'static str {
    if rest.contains("mark") {
        "(select * from public.odd where _deleted_at is null) as living"
    } else {
        "public.odd"
    }
}

async fn followed(rest: &str, extra: &str) -> (World, Daemon) {
    let world = World::with(config(rest, extra)).await;
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    (world, daemon)
}

/// What must never be, each with a query that counts it.
const NEVER: [(&str, &str); 4] = [
    (
        "a row whose version of now is another",
        "select count(*) from LIVING join public.odd_history as h on h.id = living.id and \
         h._valid_to is null where (h._valid_from, h.n, h.doc) is distinct from \
         (living._cluster_time, living.n, living.doc)",
    ),
    (
        "a version of now without its row",
        "select count(*) from public.odd_history as h where _valid_to is null and not exists \
         (select from LIVING where living.id = h.id)",
    ),
    (
        "two versions at one time, or one that ends before it begins",
        "select count(*) from (select _valid_from, _valid_to, lead(_valid_from) over (partition by \
         id order by _valid_from) as next from public.odd_history) as v where _valid_to < \
         _valid_from or coalesce(_valid_to, 9223372036854775807) > next",
    ),
    (
        "a version that is the one before it, unless a resync wrote it",
        "select count(*) from (select _operation, _valid_from, n, doc, lag(_valid_to) over w as \
         until, lag(n) over w as n1, lag(doc) over w as doc1 from public.odd_history window w as \
         (partition by id order by _valid_from)) as v where until = _valid_from and (n, doc) is \
         not distinct from (n1, doc1) and _operation = 'update'",
    ),
];

async fn assert_versions(world: &World, rest: &str) {
    assert_none(world, rest, &NEVER).await;
}

async fn assert_none(world: &World, rest: &str, never: &[(&str, &str)]) {
    let rows = match living(rest) {
        "public.odd" => "public.odd as living",
        marked => marked,
    };
    for (what, sql) in never {
        let sql = sql.replace("LIVING", rows);
        assert_eq!(world.scalar::<i64>(&sql).await, 0, "{what}: {rest}");
    }
}

/// The versions of one document, oldest first: its content, whether it is the one of now, and what
/// wrote it.
async fn versions(world: &World, id: &str) -> Vec<String> {
    world
        .column(&format!(
            "select concat(n, case when _valid_to is null then ' now ' else ' was ' end, \
             _operation) from public.odd_history where id = '{id}' order by _valid_from"
        ))
        .await
}

#[tokio::test]
async fn each_version_is_kept_from_its_change_to_the_next() {
    for rest in ["history = true", "history = true\non_delete = \"mark\""] {
        let (world, mut daemon) = followed(rest, "").await;
        let odd = world.collection("odd");
        world.execute(&state::keep_positions()).await;
        for n in [1, 2, 2, 3] {
            odd.replace_one(doc! { "_id": "a" }, doc! { "n": n }).upsert(true).await.unwrap();
            world.until_equal("odd", living(rest)).await;
        }
        odd.delete_one(doc! { "_id": "a" }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        odd.insert_one(doc! { "_id": "a", "n": 3 }).await.unwrap();
        odd.insert_one(doc! { "_id": "b", "n": 1 }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        let kept = ["1 was insert", "2 was update", "3 was update", "3 now insert"];
        assert_eq!(versions(&world, "a").await, kept, "{rest}");
        assert_versions(&world, rest).await;
        let told: (i64, bool) = world
            .row(
                "select count(*), bool_and(_valid_from_at = to_timestamp(_valid_from >> 32) and \
                 (_valid_to is null) = (_valid_to_at is null)) from public.odd_history",
            )
            .await;
        assert_eq!(told, (5, true), "{rest}");
        // All of it once more.
        let every = "select string_agg(h::text, ',' order by id, _valid_from) from \
                     public.odd_history as h";
        let before: String = world.scalar(every).await;
        assert_eq!(daemon.stop().0, Some(0));
        world.execute(&state::take_positions_back()).await;
        let daemon = world.start();
        odd.insert_one(doc! { "_id": "last" }).await.unwrap();
        world.until_equal("odd", living(rest)).await;
        assert_eq!(daemon.stream("odd").await["dead_letters"], 0);
        world.execute("delete from public.odd_history where id = 'last'").await;
        assert_eq!(world.scalar::<String>(every).await, before, "a replay changes nothing");
    }
}

/// A table as it was at a time is asked for as the reference says.
#[tokio::test]
async fn what_was_at_a_time_is_had_again() {
    let rest = "history = true\non_delete = \"mark\"";
    let world = World::with(config(rest, "")).await;
    let odd = world.collection("odd");
    odd.insert_many((0..20).map(|n| doc! { "_id": n.to_string(), "n": n })).await.unwrap();
    let _daemon = world.start();
    world.until_equal("odd", living(rest)).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let is_alone = |next: usize| next.is_multiple_of(5);
    let shown = "select concat(string_agg(concat(id, '=', n), ',' order by id)) from ";
    let mut moments: Vec<(i64, String)> = Vec::new();
    for round in 0..25 {
        // Nothing else happens in the second of the moment before.
        if is_alone(round) {
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        for _ in 0..rng.u32(1..6) {
            let key = doc! { "_id": rng.u32(0..25).to_string() };
            if rng.u8(0..3) == 0 {
                odd.delete_one(key).await.unwrap();
            } else {
                let n = rng.i32(0..9);
                odd.replace_one(key, doc! { "n": n }).upsert(true).await.unwrap();
            }
        }
        world.until_equal("odd", living(rest)).await;
        // At one moment: what is put back as it was may still be on its way.
        let is = format!(
            "select (select max(_cluster_time) from public.odd), ({shown}{})",
            living(rest)
        );
        moments.push(world.row(&is).await);
    }
    // Of a second in which nothing else happened the function tells the same.
    for (round, (time, was)) in moments.iter().enumerate() {
        if is_alone(round + 1) {
            let as_of = format!("public.odd_as_of(to_timestamp({time} >> 32)) as as_of");
            assert_eq!(world.scalar::<String>(&format!("{shown}{as_of}")).await, *was);
        }
    }
    for (time, was) in moments {
        let as_of = format!(
            "(select id, n from public.odd_history where _valid_from <= {time} and (_valid_to > \
             {time} or _valid_to is null) union all select id, n from public.odd as t where \
             _cluster_time <= {time} and _deleted_at is null and not exists (select from \
             public.odd_history as h where h.id = t.id and h._valid_to is null)) as as_of"
        );
        assert_eq!(world.scalar::<String>(&format!("{shown}{as_of}")).await, was);
    }
    assert_versions(&world, rest).await;
}

#[tokio::test]
async fn rows_of_before_have_their_first_version_with_the_next() {
    let world = World::with(config("", "")).await;
    let odd = world.collection("odd");
    let documents: Vec<Document> = (0..4).map(|n| doc! { "_id": n.to_string(), "n": n }).collect();
    odd.insert_many(documents).await.unwrap();
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    let rest = "history = true";
    world.configure(&config(rest, ""));
    let (code, told) = run(&world, &["check"]);
    assert!(code == Some(0) && told.contains("public.odd_history does not exist"), "{told}");
    let mut daemon = world.start();
    odd.update_one(doc! { "_id": "1" }, doc! { "$set": { "n": 11 } }).await.unwrap();
    odd.delete_one(doc! { "_id": "2" }).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(versions(&world, "0").await, [""; 0]);
    assert_eq!(versions(&world, "1").await, ["1 was snapshot", "11 now update"]);
    assert_eq!(versions(&world, "2").await, ["2 was snapshot"]);
    // Not kept for a while: what is newer than the last version has one of its own.
    assert_eq!(daemon.stop().0, Some(0));
    world.configure(&config("", ""));
    let mut daemon = world.start();
    odd.update_one(doc! { "_id": "1" }, doc! { "$set": { "n": 12 } }).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    world.configure(&config(rest, ""));
    let _daemon = world.start();
    odd.update_one(doc! { "_id": "1" }, doc! { "$set": { "n": 13 } }).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    let kept = ["1 was snapshot", "11 was update", "12 was snapshot", "13 now update"];
    assert_eq!(versions(&world, "1").await, kept);
    assert_versions(&world, rest).await;
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
}

#[tokio::test]
async fn what_a_resync_repairs_and_sweeps_is_a_version_of_its_own() {
    let rest = "history = true";
    let (world, mut daemon) = followed(rest, "").await;
    let odd = world.collection("odd");
    odd.insert_many((0..6).map(|n| doc! { "_id": n.to_string(), "n": n })).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    odd.delete_one(doc! { "_id": "1" }).await.unwrap();
    odd.update_one(doc! { "_id": "2" }, doc! { "$set": { "n": 22 } }).await.unwrap();
    odd.insert_one(doc! { "_id": "7", "n": 7 }).await.unwrap();
    world
        .execute(
            "update tidemark.checkpoint set resume_token = null, token = null, cluster_time = null",
        )
        .await;
    let daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    daemon
        .until("odd", "is repaired", |s| s["resync"].is_null() && s["phase"] == "streaming")
        .await;
    assert_eq!(versions(&world, "1").await, ["1 was insert"]);
    assert_eq!(versions(&world, "2").await, ["2 was insert", "22 now resync"]);
    assert_eq!(versions(&world, "7").await, ["7 now resync"]);
    let lasted = "select bool_and(_valid_to > _valid_from) from public.odd_history where \
                  _valid_to is not null";
    assert!(world.scalar::<bool>(lasted).await);
    assert_versions(&world, rest).await;
}

#[tokio::test]
async fn a_version_that_is_refused_is_set_aside_with_its_row_alone() {
    let rest = "history = true";
    let (world, _daemon) = followed(rest, "").await;
    world
        .execute(
            "alter table public.odd_history add constraint no_seven check (n <> 7) ; create \
             function refuse() returns trigger language plpgsql as $$ begin if old.id = '5' and \
             new._valid_to is not null then raise exception 'no'; end if; return new; end $$; \
             create trigger refuse before update on public.odd_history for each row execute \
             function refuse()",
        )
        .await;
    let odd = world.collection("odd");
    odd.insert_many((0..10).map(|n| doc! { "_id": n.to_string(), "n": n })).await.unwrap();
    letters(&world, 1).await;
    odd.delete_many(doc! {}).await.unwrap();
    letters(&world, 2).await;
    let left = "select string_agg(id, ',') = '5' from public.odd";
    world.until("the rest is deleted", left).await;
    assert_eq!(versions(&world, "7").await, [""; 0]);
    assert_eq!(versions(&world, "5").await, ["5 now insert"]);
    assert_versions(&world, rest).await;
    world.execute("drop trigger refuse on public.odd_history").await;
    let retry = ["dead-letter", "retry", "--all", "odd", "--reason", "mended", "--execute"];
    assert_eq!(run(&world, &retry).0, Some(0));
    world.until_equal("odd", "public.odd").await;
    assert_eq!(versions(&world, "5").await, ["5 was insert"]);
    assert_versions(&world, rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_rows_and_versions_tell_the_same() {
    for rest in ["history = true", "history = true\non_delete = \"mark\""] {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let world = World::with(config(rest, "")).await;
        assert_eq!(run(&world, &["migrate"]).0, Some(0));
        let changing = come_and_go(&world, seed);
        let mut rng = Rng::with_seed(seed);
        let mut kills = 0;
        while !changing.is_finished() || kills < 4 {
            let place = ["apply.begun=abort@2", "apply.before_commit=abort@25"][kills % 2];
            let daemon = world.start_with(&[("TIDEMARK_FAILPOINT", place), ALLOWANCE]);
            tokio::time::sleep(Duration::from_millis(rng.u64(200..900))).await;
            if rng.u8(0..4) == 0 {
                let lost = "update tidemark.checkpoint set resume_token = null, token = null";
                world.execute(lost).await;
            }
            daemon.kill();
            kills += 1;
        }
        changing.await.unwrap();
        let daemon = world.start_with(&[ALLOWANCE]);
        world.until_equal("odd", living(rest)).await;
        assert_versions(&world, rest).await;
        daemon
            .until("odd", "is repaired", |s| s["resync"].is_null() && s["phase"] == "streaming")
            .await;
        // Changes that are followed one by one have a version each.
        let odd = world.collection("odd");
        let kept = "select count(*) from public.odd_history";
        let before: i64 = world.scalar(kept).await;
        let documents = odd.count_documents(doc! {}).await.unwrap();
        for n in 0..8 {
            odd.update_many(doc! {}, doc! { "$set": { "n": 100 + n } }).await.unwrap();
            world.until_equal("odd", living(rest)).await;
        }
        let since = world.scalar::<i64>(kept).await - before;
        assert_eq!(since, 8 * i64::try_from(documents).unwrap());
        assert_versions(&world, rest).await;
    }
}

#[tokio::test]
async fn versions_replaced_long_ago_are_forgotten() {
    let rest = "history = true";
    let (world, mut daemon) = followed(rest, "retention.history = \"1h\"").await;
    let odd = world.collection("odd");
    for n in 0..3 {
        odd.replace_one(doc! { "_id": "a" }, doc! { "n": n }).upsert(true).await.unwrap();
        world.until_equal("odd", "public.odd").await;
    }
    assert_eq!(daemon.stop().0, Some(0));
    let long_ago = "update public.odd_history set _valid_from = _valid_from - (9000::bigint << \
                    32), _valid_to = _valid_to - (8000::bigint << 32) where n = 0; insert into \
                    public.odd_history (id, n, _valid_from, _valid_to, _operation) select 'x', n, \
                    n, n + 1, 'update' from generate_series(1, 2500) as n";
    world.execute(long_ago).await;
    let _daemon = world.start();
    world.until("forgotten", "select count(*) = 2 from public.odd_history").await;
    assert_eq!(versions(&world, "a").await, ["1 was update", "2 now update"]);
}

/// Also of changes that are applied in one batch: its documents are looked up as they were at its
/// end.
#[tokio::test]
async fn a_version_begins_with_its_change_not_with_its_batch() {
    let (world, mut daemon) = followed("history = true", "").await;
    let odd = world.collection("odd");
    odd.insert_many((1..=2).map(|id| doc! { "_id": id, "n": 0 })).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    let begun = Instant::now();
    for id in 1..=2 {
        odd.update_one(doc! { "_id": id }, doc! { "$set": { "n": id } }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    let most = begun.elapsed().as_secs();
    odd.insert_one(doc! { "_id": 3, "n": 3 }).await.unwrap();
    let _daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    let apart = format!(
        "select extract(epoch from max(_valid_from_at) - min(_valid_from_at))::bigint between 1 \
         and {most} from public.odd_history where _operation = 'update'"
    );
    assert!(world.scalar::<bool>(&apart).await);
    let one = "select bool_and(_cluster_time = _valid_from) from public.odd join \
               public.odd_history as h using (id) where h._valid_to is null and odd.n > 0";
    assert!(world.scalar::<bool>(one).await);
    assert_versions(&world, "").await;
}
