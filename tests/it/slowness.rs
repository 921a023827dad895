//! Guarantees 8 and 11 where a table is slow: what runs out of time is written in smaller parts
//! until it passes, and a row that does not pass alone is set aside.

use std::time::{Duration, Instant};

use devstack::revalidation::RECOMMENDATIONS;

use crate::alerting::{DOCTORS, TABLE, until_incident};
use crate::refusals::{insert, letters, migrated, retried, the_other_goes_on};

/// A statement may take two seconds.
const QUICK: &str =
    "lease.duration = \"2s\"\nretry.escalate_after = \"1s\"\nalert.resolve_hold = \"1s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_runs_out_of_time_is_halved_until_it_passes_and_grows_again() {
    let world = migrated(QUICK).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    world
        .execute(
            "create function public.slow() returns trigger language plpgsql as \
             $$ begin perform pg_sleep(0.02); return null; end $$; \
             create trigger slow after insert or update or delete on public.doctor \
             for each row execute function public.slow()",
        )
        .await;
    insert(&world, 0..250, "Any").await;
    let mut daemon = world.start();
    let is_slow = |status: &serde_json::Value| {
        status["failing"].as_array().unwrap().iter().any(|failing| failing["code"] == "target_slow")
    };
    daemon.until("doctor", "says that it is slow", is_slow).await;
    the_other_goes_on(&world, &mut daemon).await;
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 250);
    until_incident(&daemon, "it is told", |i| i.iter().any(|i| i["code"] == "target_slow")).await;
    // Deletes, too, which are in one batch as a transaction's.
    let mut session = world.source.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let all = mongodb::bson::doc! {};
    world.collection(DOCTORS).delete_many(all).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 0);
    daemon.until("doctor", "says so still", is_slow).await;
    world.execute("drop trigger slow on public.doctor").await;
    let begun = Instant::now();
    for id in 0.. {
        insert(&world, [id], "Any").await;
        world.until_equal(DOCTORS, TABLE).await;
        if daemon.stream("doctor").await["failing"] == serde_json::json!([]) {
            break;
        }
        let status = daemon.stream("doctor").await;
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came back: {status:#}");
    }
    until_incident(&daemon, "it is over", <[serde_json::Value]>::is_empty).await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_does_not_pass_alone_is_set_aside_as_slow() {
    let world = migrated(QUICK).await;
    world
        .execute(
            "create function public.stuck() returns trigger language plpgsql as $$ begin \
             if new.last_name = 'Slow' then perform pg_sleep(60); end if; return new; end $$; \
             create trigger stuck before insert or update on public.doctor \
             for each row execute function public.stuck()",
        )
        .await;
    insert(&world, [0], "Slow").await;
    insert(&world, 1..20, "Any").await;
    let mut daemon = world.start();
    // In the midst of others, and alone.
    letters(&world, 1).await;
    world.until("the rest is there", "select count(*) = 19 from public.doctor").await;
    daemon.until_phase("doctor", "streaming").await;
    insert(&world, [100], "Slow").await;
    letters(&world, 2).await;
    let said =
        world.column("select distinct code || ': ' || error from tidemark.dead_letter").await;
    assert_eq!(said, ["slow: a statement ran longer than it may (SQLSTATE 57014)"]);
    assert_eq!(
        daemon.metric("tidemark_dead_letters_total{code=\"slow\",stream=\"doctor\"}").await,
        2.0
    );
    the_other_goes_on(&world, &mut daemon).await;
    retried(&world, 1, "0 written, 2 still refused");
    world.execute("drop trigger stuck on public.doctor").await;
    retried(&world, 0, "2 written");
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 21);
}
