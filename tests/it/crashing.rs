//! A process that dies as soon as it leads is told of by the next ones, before they lead.

use devstack::{Fakes, Message};

use crate::alerting::{DOCTORS, TABLE, seed, until, world};

fn of_the_loop(message: &Message) -> bool {
    message.body.to_string().contains("the process keeps ending by itself")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_die_one_after_the_other_are_told_of_by_the_fourth_before_it_leads() {
    let fakes = Fakes::start().unwrap();
    let world = world(&fakes, "").await;
    seed(&world, 20).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    assert_eq!(daemon.stop().0, Some(0));
    let mut told_by = None;
    for process in 1..=9 {
        let mut daemon = world.start_with(&[("TIDEMARK_FAILPOINT", "apply.begun=abort")]);
        until("the process is gone", &world, || !daemon.is_running()).await;
        if told_by.is_none() && fakes.roots().iter().any(of_the_loop) {
            told_by = Some(process);
        }
        if told_by.is_some() && process >= 6 {
            break;
        }
    }
    // The look is waited for, but not for long: on a slow machine one of the next tells.
    assert!(told_by.is_some_and(|process| process >= 4), "{told_by:?}\n{}", world.logs());
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(
        fakes.roots().iter().filter(|root| of_the_loop(root)).count(),
        1,
        "one thread for all of them"
    );
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_other_hosts_count_once_they_are_silent_and_replicas_that_live_do_not() {
    let fakes = Fakes::start().unwrap();
    let world = world(&fakes, "").await;
    seed(&world, 20).await;
    let first = world.start();
    first.until_phase("doctor", "streaming").await;
    let (second, third, fourth) = (world.start(), world.start(), world.start());
    let looked = "select count(*) = 4 and bool_and(seen_at > started_at) from tidemark.process";
    world.until("all of them have registered, and again", looked).await;
    let other = "insert into tidemark.process (id, service, environment, holder, version, seen_at) \
                 select gen_random_uuid(), 'tidemark', 'development', 'other/' || n, '0', now() - \
                 interval '10 s' from generate_series(1, 2) n";
    world.execute(other).await;
    assert!(
        fakes.roots().is_empty(),
        "two that may yet live, and four that do: {:#?}",
        fakes.roots()
    );
    let one_more = other.replace("generate_series(1, 2)", "generate_series(3, 3)");
    world.execute(&one_more).await;
    until("they are told of", &world, || fakes.roots().iter().any(of_the_loop)).await;
    drop((second, third, fourth));
    world.until_equal(DOCTORS, TABLE).await;
}
