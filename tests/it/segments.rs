//! What a resync finds as it is is neither sent nor listed; what is left over is found wherever it
//! lies.

use fastrand::Rng;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};

use crate::support::{Config, World, stream};

/// Documents of a world; a find takes seven, so that a round meets its edges often.
const DOCUMENTS: usize = 300;

async fn world(id: impl Fn(usize) -> Bson) -> World {
    let extra = "resync.chunk_documents = 7\nresync.automatic_per_day_max = \
         1000\nresync.delete_fraction_max = 1.0"
        .into();
    let world =
        World::with(Config { extra, streams: stream("odd", "odd", ""), ..Config::default() }).await;
    let documents: Vec<Document> = (0..DOCUMENTS).map(|n| doc! { "_id": id(n), "n": 0 }).collect();
    world.collection("odd").insert_many(documents).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    daemon.stop();
    world
        .execute(
            "create table public.noted (like tidemark.resync_seen);
             create function note() returns trigger language plpgsql as $$ begin insert into \
             public.noted select new.*; return null; end $$;
             create trigger note after insert on tidemark.resync_seen for each row execute \
             function note()",
        )
        .await;
    world
}

/// What one resync came to: rows inserted, changed and deleted; ids kept one by one; segments.
type Repair = (i64, i64, i64, i64, i64);

/// Loses the position, resyncs, and compares.
async fn resync(world: &World) -> Repair {
    world
        .execute("update tidemark.checkpoint set resume_token = null; truncate public.noted")
        .await;
    let before: i64 = world.scalar("select count(*) from tidemark.gap_report").await;
    let mut daemon = world.start();
    world
        .until(
            "the resync is completed",
            &format!("select count(*) > {before} from tidemark.gap_report"),
        )
        .await;
    daemon.stop();
    assert_eq!(world.until_equal("odd", "public.odd").await, world.count().await);
    world
        .row(
            "select rows_inserted, rows_changed, rows_deleted, \
             (select coalesce(sum(cardinality(ids)), 0) from public.noted), (select \
             coalesce(sum(cardinality(lows)), 0) from public.noted) \
             from tidemark.gap_report order by resync_id desc limit 1",
        )
        .await
}

impl World {
    async fn count(&self) -> usize {
        usize::try_from(self.collection("odd").count_documents(doc! {}).await.unwrap()).unwrap()
    }
}

/// Nobody follows meanwhile. Returns how many documents are new, changed, gone.
async fn change(world: &World, rng: &mut Rng, id: impl Fn(usize) -> Bson) -> (i64, i64, i64) {
    let odd = world.collection("odd");
    let present = async |n: usize| odd.count_documents(doc! { "_id": id(n) }).await.unwrap() > 0;
    let mut expected = (0, 0, 0);
    let mut changed = std::collections::HashSet::new();
    // The very first, the very last, a run that swallows whole finds, and some anywhere.
    let from = rng.usize(..DOCUMENTS - 30);
    let run = from..from + rng.usize(..30);
    let mut chosen: Vec<usize> =
        [0, 1, DOCUMENTS - 1].into_iter().filter(|_| rng.bool()).chain(run).collect();
    chosen.extend((0..12).map(|_| rng.usize(..DOCUMENTS)));
    for n in chosen {
        if !changed.insert(n) {
            continue;
        }
        match (present(n).await, rng.u8(..4)) {
            (false, _) => {
                odd.insert_one(doc! { "_id": id(n), "n": rng.i32(..) }).await.unwrap();
                expected.0 += 1;
            }
            (true, 0) => {
                odd.update_one(doc! { "_id": id(n) }, doc! { "$set": { "n": rng.i32(1..) } })
                    .await
                    .unwrap();
                expected.1 += 1;
            }
            (true, _) => {
                odd.delete_one(doc! { "_id": id(n) }).await.unwrap();
                expected.2 += 1;
            }
        }
    }
    expected
}

async fn rounds(
    id: impl Fn(usize) -> Bson + Copy,
    collation: Option<&str>,
    seed: u64,
) -> Vec<Repair> {
    let world = world(id).await;
    if let Some(collation) = collation {
        world
            .execute(&format!("alter table public.odd alter id type text collate \"{collation}\""))
            .await;
    }
    let mut rng = Rng::with_seed(seed);
    let mut repairs = vec![resync(&world).await];
    assert_eq!((repairs[0].0, repairs[0].1, repairs[0].2), (0, 0, 0), "nothing was missed");
    for round in 0..6 {
        let expected = change(&world, &mut rng, id).await;
        let repair = resync(&world).await;
        assert_eq!((repair.0, repair.1, repair.2), expected, "seed {seed}, round {round}");
        repairs.push(repair);
    }
    repairs
}

#[tokio::test]
async fn where_the_table_sorts_as_the_source_does_nothing_unchanged_is_listed() {
    let repairs = rounds(|n| Bson::from(format!("s{n:04}")), None, 1).await;
    // But for the first find, before which there is no row to ask the table from.
    assert_eq!(
        (repairs[0].3, repairs[0].4),
        (7, i64::try_from(DOCUMENTS.div_ceil(7)).unwrap() - 1)
    );
    assert!(repairs[1..].iter().all(|repair| repair.3 > 0 && repair.4 > 0), "{repairs:?}");
}

#[tokio::test]
async fn where_the_table_sorts_otherwise_what_was_missed_is_found_all_the_same() {
    // Numbers as text, two types one after the other, upper and lower case under a language's
    // collation.
    let any_type = |n: usize| match n % 3 {
        0 => Bson::from(i32::try_from(n).unwrap()),
        1 => Bson::from(format!("s{n}")),
        _ => Bson::from(ObjectId::from_bytes([
            u8::try_from(n % 256).unwrap(),
            u8::try_from(n / 256).unwrap(),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
        ])),
    };
    rounds(any_type, None, 2).await;
    let world = World::with(Config {
        extra: String::new(),
        streams: stream("odd", "odd", ""),
        ..Config::default()
    })
    .await;
    let english: Option<String> = world
        .scalar(
            "select max(collname::text) from pg_collation where collname in ('en-x-icu', \
             'en_US.utf8')",
        )
        .await;
    let mixed = |n: usize| Bson::from(format!("{}{n}", ["b", "A", "a", "B", "_", "Z-"][n % 6]));
    rounds(mixed, english.as_deref(), 3).await;
}
