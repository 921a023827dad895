//! Guarantee 9 under kills, changes of leader, and a Postgres that is away: one cause, one thread.

use std::collections::BTreeSet;
use std::time::Duration;

use devstack::{Fakes, Postgres, PostgresOptions, Stack};

use crate::alerting::{DOCTORS, TABLE, is_resolved, seed, until, until_incident, world};
use crate::support::{Config, World, run, state};

pub fn resync(world: &World) {
    let (code, said) = run(world, &["resync", "doctor", "--reason", "lost", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
}

/// A stream that was followed, and whose position is lost while no daemon runs.
pub async fn follow_then_lose(world: &World) {
    seed(world, 20).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.stop();
    state::lose_position(world, "doctor").await;
}

/// The incidents that the messages in the channel say they are of.
fn tags(fakes: &Fakes) -> BTreeSet<String> {
    let tag = |m: devstack::Message| {
        m.body["metadata"]["event_payload"]["incident"].as_str().unwrap().to_owned()
    };
    fakes.messages().into_iter().map(tag).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_any_two_steps_of_sending_it_doubles_a_message_once_at_most() {
    let fakes = Fakes::start().unwrap();
    let world = world(&fakes, "resync.automatic = false\n").await;
    follow_then_lose(&world).await;
    // Slack and Sentry each pass these points at their own pace: each may be between sending and
    // noting.
    let mut doubled = 0;
    for step in ["alert.recorded", "alert.sent", "alert.noted"] {
        for pass in [1, 2] {
            world
                .execute(
                    "delete from tidemark.incident; delete from tidemark.watch; delete from \
                     tidemark.process",
                )
                .await;
            fakes.delete_messages();
            let events = fakes.events().len();
            let mut daemon =
                world.start_with(&[("TIDEMARK_FAILPOINT", &format!("{step}=abort@{pass}"))]);
            until("the process is gone", &world, || !daemon.is_running()).await;
            let daemon = world.start();
            until("Slack and Sentry are told", &world, || {
                !fakes.roots().is_empty() && fakes.events().len() > events
            })
            .await;
            world
                .until(
                    "nothing is pending",
                    "select count(*) = 0 from tidemark.outbox where pending",
                )
                .await;
            let (roots, events) = (fakes.roots().len(), fakes.events().len() - events);
            doubled += roots + events - 2;
            assert!(roots <= 2 && events <= 2, "{step} {pass}: {roots} messages, {events} events");
            assert_eq!(tags(&fakes).len(), 1, "{step} {pass}");
            drop(daemon);
        }
    }
    assert!(doubled >= 1, "no kill fell between sending and noting");
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_and_a_change_of_leader_are_one_thread() {
    let fakes = Fakes::start().unwrap();
    let world = world(&fakes, "resync.automatic = false\n").await;
    follow_then_lose(&world).await;
    let first = world.start();
    until("the opening is posted", &world, || !fakes.roots().is_empty()).await;
    let second = world.start();
    until_incident(&second, "both show it", |incidents| incidents.len() == 1).await;
    first.kill();
    world
        .until(
            "the other watches",
            "select count(*) = 1 from tidemark.watch w join tidemark.process p on p.id = w.nonce \
             and p.started_at = (select max(started_at) from tidemark.process)",
        )
        .await;
    let third = world.start();
    resync(&world);
    until("the message is green", &world, || fakes.roots().iter().all(is_resolved)).await;
    assert_eq!((fakes.roots().len(), fakes.events().len()), (1, 1));
    drop((second, third));
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_away_is_one_thread_before_during_and_after() {
    let fakes = Fakes::start().unwrap();
    let mut postgres = Postgres::start(&PostgresOptions::durable()).unwrap();
    let database = postgres.database().await.unwrap();
    // A cause that is away for a moment only, on a busy machine, is not over.
    let quick =
        "alert.resolve_hold = \"5s\"\nretry.escalate_after = \"1s\"\nresync.automatic = false\n";
    let config =
        Config { apart: true, extra: format!("{}{quick}", fakes.config()), ..Config::default() };
    let world = World::of(&Stack::shared().mongo.uri(), &postgres.url(&database), config).await;
    follow_then_lose(&world).await;
    let (one, two) = (world.start(), world.start());
    until("what was lost is told", &world, || fakes.roots().len() == 1).await;

    postgres.kill().unwrap();
    until("that Postgres is away is told, from memory", &world, || fakes.roots().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(fakes.roots().len(), 2, "{:#?}", fakes.roots());
    postgres.restart().unwrap();
    until("that one is green", &world, || {
        fakes.roots().iter().filter(|root| is_resolved(root)).count() == 1
    })
    .await;
    resync(&world);
    until("both are green", &world, || fakes.roots().iter().all(is_resolved)).await;
    assert_eq!((fakes.roots().len(), fakes.events().len()), (2, 2));
    let ended = "select array_agg(code || ' ' || state order by code) = \
        '{history_lost resolved,target_unreachable resolved}' from tidemark.incident";
    world.until("both are written down as resolved", ended).await;
    drop((one, two));
    world.until_equal(DOCTORS, TABLE).await;
}
