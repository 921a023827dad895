//! Guarantee 10, of what people ask: a request that cannot be obeyed ends with a reason and holds
//! up nothing else.

use crate::alerting::{DOCTORS, TABLE, seed};
use crate::support::{Config, Daemon, World, run, stream};

fn doctor(n: usize) -> mongodb::bson::Document {
    devstack::revalidation::doctor(&mut fastrand::Rng::with_seed(13), n)
}

async fn followed(extra: &str) -> (World, Daemon) {
    let config = Config {
        extra: extra.to_owned(),
        streams: stream("doctor", DOCTORS, ""),
        ..Config::default()
    };
    let world = World::with(config).await;
    seed(&world, 50).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    (world, daemon)
}

async fn ask(world: &World, verb: &str) {
    let sql = format!(
        "insert into tidemark.command (verb, stream, actor, reason) values ('{verb}', 'doctor', \
         'test', 'a test')"
    );
    world.execute(&sql).await;
}

/// Times the pipeline was taken up.
fn starts(daemon: &Daemon) -> usize {
    daemon.phases("doctor").iter().filter(|phase| *phase == "resuming").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_obeyed_is_counted_ends_with_a_reason_and_holds_up_nothing() {
    let (world, daemon) = followed("").await;
    // No resync can be begun, and finding that out takes longer than the lease is renewed.
    let refuse = "create function no() returns trigger language plpgsql as 'begin perform \
                  pg_sleep(2.2); raise exception ''not now'' using errcode = ''55P03''; end'; \
                  create trigger no before insert on tidemark.resync for each row execute function \
                  no()";
    world.execute(refuse).await;
    ask(&world, "resync").await;
    ask(&world, "dead_letter_discard").await;
    let other = "select outcome = 'done' from tidemark.command where verb = 'dead_letter_discard'";
    world.until("the next request has its turn", other).await;
    world.until("it is tried again", "select max(attempts) > 1 from tidemark.command").await;
    world.collection(DOCTORS).insert_one(doctor(60)).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
    world.until("it ends", "select bool_and(done_at is not null) from tidemark.command").await;
    let between = "select _applied_at < (select done_at from tidemark.command where verb = \
                   'resync') from public.doctor where id = '1000060'";
    assert!(world.scalar::<bool>(between).await, "the stream goes on between the tries");
    let row = "select outcome, result, attempts from tidemark.command where verb = 'resync'";
    let (outcome, result, attempts): (String, String, i32) = world.row(row).await;
    assert_eq!(outcome, "failed");
    assert!(result.starts_with("failed after ") && result.contains("55P03"), "{result}");
    assert!((5..=20).contains(&attempts), "{attempts}");
    // On a busy machine a lease may run out.
    let (starts, grants) = (starts(&daemon), daemon.log().matches("lease granted").count());
    let most = usize::try_from(attempts).unwrap() + grants + 3;
    assert!(starts <= most, "one start a try: {starts} of {attempts}, {grants} leases");

    world.execute("drop trigger no on tidemark.resync").await;
    assert_eq!(run(&world, &["resync", "doctor", "--reason", "again", "--execute"]).0, Some(0));
    world.until("a resync is completed", "select exists (select from tidemark.gap_report)").await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_ends_the_process_is_counted_and_does_not_end_the_next_at_once() {
    let (world, daemon) = followed("").await;
    daemon.kill();
    let mut daemon = world.start_with(&[("TIDEMARK_FAILPOINT", "obey.taken=abort")]);
    daemon.until_phase("doctor", "streaming").await;
    ask(&world, "resync").await;
    world.until("it is tried", "select attempts = 1 from tidemark.command").await;
    let begun = std::time::Instant::now();
    while daemon.is_running() {
        assert!(begun.elapsed().as_secs() < 60, "the failpoint was not passed");
        tokio::task::yield_now().await;
    }
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world
        .until("it is obeyed", "select outcome = 'done' and attempts >= 2 from tidemark.command")
        .await;
    world.until("the resync is completed", "select exists (select from tidemark.gap_report)").await;
    world.until_equal(DOCTORS, TABLE).await;
}
