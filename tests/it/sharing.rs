//! Replicas share the groups of a configuration: one that comes later gets its part of them, while
//! the source is written to, and nothing is lost.

use std::time::Duration;

use crate::changing::{Load, fill, of, until_equal, until_streaming, walks};
use crate::support::{Config, Daemon, World};

const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// How many groups each process leads, in turn of its name.
const LED: &str = "select coalesce(string_agg(n::text, ' ' order by n), '') from (select \
                   count(*) as n from tidemark.lease where expires_at > now() group by holder) \
                   as each";

/// Until the groups are shared, and nothing goes to and fro any more: on a busy machine one that
/// was handed over may be taken back before the other process comes to it.
async fn until_shared(world: &World, daemons: [&Daemon; 2]) {
    let standing = format!(
        "select concat(({LED}), ': ', (select string_agg(\"group\" || epoch, ' ' order by \
         \"group\") from tidemark.lease))"
    );
    let mut seen = Vec::new();
    loop {
        let before: String = world.scalar(&standing).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let after: String = world.scalar(&standing).await;
        if before == after && after.starts_with("2 3: ") {
            return;
        }
        seen.push(after);
        let logs = || daemons.map(Daemon::log).concat();
        assert!(seen.len() < 12, "they do not come to rest: {seen:#?}\n{}", logs());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_comes_later_gets_its_part_of_the_groups_and_then_all_stays() {
    let groups = NAMES.map(|name| format!("group = {name:?}"));
    let set: Vec<(&str, &str)> = NAMES.into_iter().zip(groups.iter().map(String::as_str)).collect();
    // Long enough that nobody loses one to a busy machine: what counts here is who has which.
    let lasting = of(&set);
    let extra = format!("{}\nlease.duration = \"30s\"", lasting.extra);
    let world = World::with(Config { extra, ..lasting }).await;
    for name in NAMES {
        fill(&world, name).await;
    }
    let load = Load::of(&world, &NAMES);
    let first = world.start();
    until_streaming(&first, &NAMES).await;
    let second = world.start();
    until_shared(&world, [&first, &second]).await;
    second.kill();
    world.until("the one that is left has all", &format!("select ({LED}) = '5'")).await;
    until_streaming(&first, &NAMES).await;
    let third = world.start();
    until_shared(&world, [&first, &third]).await;
    load.end().await;
    until_equal(&world, &NAMES).await;
    let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
    assert_eq!(walks(&world).await, NAMES.map(once).into());
    for daemon in [first, third] {
        assert!(!daemon.log().contains("\"level\":\"ERROR\""), "{}", daemon.log());
    }
}
