//! Guarantee 15 of a source transaction larger than any batch: a hundred thousand writes, over
//! 16 MB, arrive whole or not at all, whoever is killed in the middle, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::{ClientSession, Collection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Config, Daemon, World, peak_bytes, stream};

/// How long a transaction of so many writes may take while others compute on both cores.
const PATIENCE: Duration = Duration::from_secs(180);

const MANY: i64 = 100_000;
const MEMORY_MAX: u64 = 256 << 20;

/// Three writes of one transaction, told from one another by what they leave: none, or all.
async fn write(session: &mut ClientSession, world: &World, round: i32) {
    let many: Collection<Document> = world.collection("many");
    let mark: Collection<Document> = world.collection("mark");
    session.start_transaction().await.unwrap();
    let set = doc! { "$set": { "round": round } };
    mark.update_one(doc! { "_id": "first" }, set.clone()).session(&mut *session).await.unwrap();
    if round == 1 {
        let documents: Vec<Document> =
            (0..MANY).map(|n| doc! { "_id": n, "round": round, "text": "x".repeat(160) }).collect();
        for part in documents.chunks(20_000) {
            many.insert_many(part).session(&mut *session).await.unwrap();
        }
    } else {
        let text = char::from(b'a' + u8::try_from(round).unwrap()).to_string().repeat(160);
        let set = doc! { "$set": { "round": round, "text": text } };
        many.update_many(doc! {}, set).session(&mut *session).await.unwrap();
    }
    mark.update_one(doc! { "_id": "last" }, set).session(&mut *session).await.unwrap();
    session.commit_transaction().await.unwrap();
}

/// Looks at all three tables in one snapshot, over and over: what it saw that was neither the state
/// before a transaction nor the one after it.
fn watch(
    world: &World,
    stop: CancellationToken,
    looks: Arc<AtomicUsize>,
) -> JoinHandle<Vec<String>> {
    let url = world.target_url.clone();
    tokio::spawn(async move {
        let mut pg = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
        // Where processes have died time and again small steps are taken, which cut a transaction:
        // the tables are then said not to be exact.
        let sql = "select concat_ws(' ', (select round from public.mark where id = 'first'), \
                   (select string_agg(concat(round, '×', number), ' ') from (select round, \
                   count(*) as number from public.many group by round) as rounds), (select round \
                   from public.mark where id = 'last')), (select bool_and(exact) from \
                   tidemark.position)";
        let mut wrong = Vec::new();
        while !stop.is_cancelled() {
            let (seen, is_exact): (String, bool) =
                sqlx::query_as(sql).fetch_one(&mut pg).await.unwrap();
            let parts: Vec<&str> = seen.split(' ').collect();
            let is_whole = match parts.as_slice() {
                ["0", "0"] => true,
                [first, many, last] => first == last && *many == format!("{first}×{MANY}"),
                _ => false,
            };
            if !is_whole && is_exact {
                wrong.push(seen);
            }
            looks.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wrong
    })
}

/// Waits until the daemon has been in a transaction that writes for a while: longer than any batch
/// takes. False if the round was there before that was seen.
async fn in_the_middle(world: &World, round: i32) -> bool {
    let mut pg = world.pg().await;
    let writing = "select exists (select from pg_stat_activity where datname = current_database() \
                   and backend_xid is not null and clock_timestamp() - xact_start > interval \
                   '400 milliseconds')";
    let there = format!("select round = {round} from public.mark where id = 'last'");
    let deadline = Instant::now() + PATIENCE;
    loop {
        if sqlx::query_scalar(writing).fetch_one(&mut pg).await.unwrap() {
            return true;
        }
        let there = sqlx::query_scalar(sqlx::AssertSqlSafe(there.clone()));
        if there.fetch_one(&mut pg).await.unwrap() {
            return false;
        }
        assert!(Instant::now() < deadline, "round {round} never came\n{}", world.logs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn settled(world: &World, daemon: &Daemon, round: i32) {
    let there = format!("select round = {round} from public.mark where id = 'last'");
    world.until_within(PATIENCE, "the transaction is there", &there).await;
    let exact = "select bool_and(exact) from tidemark.position";
    world.until("and the group is exact", exact).await;
    assert!(peak_bytes(daemon) < MEMORY_MAX, "{} bytes of memory", peak_bytes(daemon));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_writes_of_one_transaction_arrive_whole_though_killed_in_the_middle() {
    let column = "column = [ { name = \"round\", field = \"round\", type = \"integer\" } ]";
    let streams = format!("{}{}", stream("many", "many", column), stream("mark", "mark", column));
    let extra = "batch.events_max = 2000\nbatch.bytes_max = \"1MiB\"".to_owned();
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    world.source.create_collection("many").await.unwrap();
    for id in ["first", "last"] {
        world.collection("mark").insert_one(doc! { "_id": id, "round": 0 }).await.unwrap();
    }
    let mut daemon = world.start();
    daemon.until_phase("many", "streaming").await;
    world.until_equal("mark", "public.mark").await;
    let stop = CancellationToken::new();
    let looks = Arc::new(AtomicUsize::new(0));
    let watching = watch(&world, stop.clone(), Arc::clone(&looks));
    let looks = || looks.load(Ordering::Relaxed);
    let mut session = world.source.client().start_session().await.unwrap();
    let mut killed = 0;
    // Inserted, then changed twice: documents of updates are read at the transaction's own time.
    for round in 1.. {
        if round > 3 && killed >= 2 && looks() > 50 {
            break;
        }
        assert!(round < 20, "killed {killed} times in the middle, {} looks", looks());
        write(&mut session, &world, round).await;
        if in_the_middle(&world, round).await {
            daemon.kill();
            let shown = "select coalesce(max(round), 0) from public.many";
            killed += i32::from(world.scalar::<i32>(shown).await == round - 1);
            daemon = world.start();
        }
        settled(&world, &daemon, round).await;
    }
    stop.cancel();
    let wrong = watching.await.unwrap();
    assert!(wrong.is_empty(), "{} looks saw a part: {:?}", wrong.len(), wrong.first());
    let logs = world.logs();
    assert!(!logs.contains("55P03") && !logs.contains("25P03"), "a long transaction is in the way");
    let walks: i64 = world.scalar("select count(*) from tidemark.resync").await;
    assert_eq!(walks, 2, "nothing was walked but at first");
    assert_eq!(world.until_equal("many", "public.many").await, 100_000);
    world.until_equal("mark", "public.mark").await;
}
