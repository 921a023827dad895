//! A changed configuration is taken without a restart: all of it, or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::doc;

use crate::alerting::until;
use crate::changing::{Load, fill, of, until_equal, until_streaming, walks};
use crate::support::{Config, Daemon, World, eventually, run};

/// How often the daemon has begun under a configuration.
fn taken(daemon: &Daemon) -> usize {
    daemon.log().matches("the configuration is taken anew").count()
}

/// No lease is lost to a busy machine: grants are counted.
fn lasting(config: Config) -> Config {
    let extra = format!("{}\nlease.duration = \"30s\"", config.extra);
    Config { extra, ..config }
}

/// How often a lease was granted.
fn grants(log: &str) -> usize {
    log.matches("lease granted").count()
}

/// Waits until both processes are known to run, and have looked for requests.
async fn until_both_look(world: &World) {
    world.until("both run", "select count(*) = 2 from tidemark.process").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// Waits until these are its streams.
async fn until_has(daemon: &Daemon, names: &[&str]) {
    eventually("it has the streams of the new configuration", async || {
        let status = daemon.status().await;
        let streams = status["streams"].as_array().unwrap();
        let of = streams.iter().map(|stream| stream["name"].as_str().unwrap());
        of.collect::<BTreeSet<_>>() == names.iter().copied().collect()
    })
    .await;
}

fn refused(daemon: &Daemon) -> usize {
    daemon.log().matches("the configuration is refused").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_come_go_move_and_change_under_load_by_a_signal() {
    let world = World::with(of(&[("one", "")])).await;
    for name in ["one", "two", "three"] {
        fill(&world, name).await;
    }
    let load = Load::of(&world, &["one", "two", "three"]);
    let mut daemon = world.start();
    until_streaming(&daemon, &["one"]).await;
    let (other, column) =
        ("group = \"other\"", "column = [ { name = \"n\", field = \"n\", type = \"bigint\" } ]");
    let sets: [&[(&str, &str)]; 5] = [
        &[("one", ""), ("two", "")],
        &[("one", ""), ("two", other), ("three", "")],
        &[("one", column), ("two", other), ("three", "")],
        // A walk that is open in the group it comes into would be one for it, too.
        &[("one", column), ("two", other), ("three", other)],
        &[("one", column), ("two", column), ("three", "")],
    ];
    for (turn, set) in sets.into_iter().enumerate() {
        world.configure(&of(set));
        daemon.signal("HUP");
        until("it is taken", &world, || taken(&daemon) == turn + 1).await;
        let names: Vec<&str> = set.iter().map(|(name, _)| *name).collect();
        until_has(&daemon, &names).await;
        until_streaming(&daemon, &names).await;
        for (name, more) in set {
            let group = if more.contains("other") { "other" } else { "main" };
            daemon.until(name, "is in its group", |s| s["group"] == group).await;
        }
    }
    load.end().await;
    until_equal(&world, &["one", "two", "three"]).await;
    assert!(daemon.is_running());
    let once = |name: &str| (name.to_owned(), "first_snapshot".to_owned());
    let mut walked = walks(&world).await;
    let filled = Some("first_snapshot mapping_changed".to_owned());
    assert_eq!((walked.remove("one"), walked.remove("two")), (filled.clone(), filled));
    assert_eq!(walked, [once("three")].into(), "its columns are the same");
    let crashes = "select not exists (select from tidemark.incident where code = 'crash_loop')";
    assert!(world.scalar::<bool>(crashes).await, "a process that reloads has not died");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_wrong_is_refused_whole_and_nothing_changes() {
    let world = World::with(lasting(of(&[("one", "")]))).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let daemon = world.start();
    until_streaming(&daemon, &["one"]).await;
    let two = |extra: &str| {
        let both = lasting(of(&[("one", ""), ("two", "")]));
        Config { extra: format!("{}\n{extra}", both.extra), ..both }
    };
    let wrong = [
        (two("batch.events_max = 0"), "batch.events_max"),
        (two("status.listen = \"127.0.0.1:1\""), "status.listen can be changed by a restart alone"),
        (
            two("target.url = \"postgres://nobody@127.0.0.1:1/x\""),
            "connection to postgres failed: refused",
        ),
        (two("log.filter = \"x=y=z\""), "is not a filter such as"),
    ];
    for (turn, (config, why)) in wrong.iter().enumerate() {
        world.configure(config);
        let asked = ["reload", "--reason", "test", "--execute"];
        let (code, told) = run(&world.beside(&lasting(of(&[("one", "")]))), &asked);
        assert!(code == Some(1) && told.contains(why), "{why}: {told}");
        // The log is written by a thread of its own.
        until("it is refused", &world, || refused(&daemon) == turn + 1).await;
        assert_eq!(taken(&daemon), 0);
        let id = i32::try_from(turn).unwrap();
        world.collection("one").delete_one(doc! { "_id": id }).await.unwrap();
        until_equal(&world, &["one"]).await;
        assert_eq!(daemon.status().await["streams"].as_array().unwrap().len(), 1);
    }
    // By word, and with what the log lets through.
    world.configure(&two("log.filter = \"warn\""));
    let (code, told) = run(&world, &["reload"]);
    assert!(code == Some(0) && told.contains("2 stream(s) in 1 group(s)"), "{told}");
    assert_eq!(taken(&daemon), 0, "only shown");
    let (code, told) = run(&world, &["reload", "--reason", "test", "--execute"]);
    let said = "streams added: two; sections changed: log";
    assert!(code == Some(0) && told.contains(said), "{told}");
    until_has(&daemon, &["one", "two"]).await;
    until_equal(&world, &["one", "two"]).await;
    assert_eq!(grants(&daemon.log()), 1, "what the log lets through is another, too");
}

/// As `check` does: it would be parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_could_not_be_followed_is_refused_with_the_whole() {
    let column = |name: &str, kind: &str| {
        format!("column = [ {{ name = \"{name}\", field = \"n\", type = \"{kind}\" }} ]")
    };
    let world = World::with(of(&[("one", &column("n", "bigint"))])).await;
    fill(&world, "one").await;
    let view = doc! { "create": "seen", "viewOn": "one", "pipeline": [] };
    world.source.run_command(view).await.unwrap();
    let daemon = world.start();
    until_streaming(&daemon, &["one"]).await;
    for (turn, (name, column, why)) in [
        ("one", column("n", "text"), "is bigint, the configuration says text"),
        ("seen", String::new(), "a view or a time-series collection has no change stream"),
    ]
    .into_iter()
    .enumerate()
    {
        world.configure(&of(&[(name, &column)]));
        let (code, told) = run(&world, &["check"]);
        assert!(code == Some(1) && told.contains(why), "{told}");
        let (code, told) = run(&world, &["reload"]);
        assert!(code == Some(1) && told.contains(why), "the preview says so, too: {told}");
        let (code, told) = run(&world, &["reload", "--reason", "test", "--execute"]);
        assert!(code == Some(1) && told.contains(why), "{told}");
        assert_eq!((refused(&daemon), taken(&daemon)), (turn + 1, 0));
    }
    assert_eq!(daemon.stream("one").await["phase"], "streaming");
    world.collection("one").delete_one(doc! { "_id": 7 }).await.unwrap();
    until_equal(&world, &["one"]).await;

    // An end that does not answer, and what no process can take.
    let ends = |extra: &str| Config { extra: extra.to_owned(), ..of(&[("one", "")]) };
    for (extra, code, why) in [
        ("target.url = \"postgres://nobody@127.0.0.1:1/x\"", 1, "refused: target: "),
        ("source.uri = \"mongodb://127.0.0.1:1/?directConnection=true\"", 1, "refused: source: "),
        ("log.filter = \"x=y=z\"", 78, "is not a filter such as"),
        ("environment = \"other\"", 0, "in environment other runs: nobody"),
    ] {
        let (got, told) = run(&world.beside(&ends(extra)), &["reload"]);
        assert!(got == Some(code) && told.contains(why), "{extra}: {got:?} {told}");
    }

    // What is made when it is taken is no reason to refuse.
    world.configure(&of(&[("one", &column("m", "bigint"))]));
    let (code, told) = run(&world, &["reload"]);
    assert!(code == Some(0) && told.contains("environment, status.listen"), "{told}");
    let (code, told) = run(&world, &["reload", "--reason", "test", "--execute"]);
    assert!(code == Some(0) && told.contains("streams changed: one"), "{told}");
    world.until("it is filled", "select count(m) > 40 from one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_takes_what_is_asked_once_and_nothing_happens_where_nothing_is_changed() {
    let world = World::with(lasting(of(&[("one", "")]))).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let (first, second) = (world.start(), world.start());
    until_equal(&world, &["one"]).await;
    until_both_look(&world).await;
    world.configure(&lasting(of(&[("one", ""), ("two", "")])));
    let (code, told) = run(&world, &["reload", "--reason", "test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.matches(": streams added: two").count(), 2, "a line a process: {told}");
    until("both have it", &world, || taken(&first) == 1 && taken(&second) == 1).await;
    until_equal(&world, &["one", "two"]).await;
    let both = "select result like '%streams added: two%streams added: two' from \
                tidemark.command where verb = 'reload'";
    world.until("both answered", both).await;
    drop((first, second));
    let recorded = "insert into tidemark.command (verb, stream, actor, reason, service, \
                    environment) select verb, stream, actor, reason, service, environment from \
                    tidemark.command";
    world.execute(recorded).await;
    let third = world.start();
    let done = "select count(*) = 2 and bool_and(done_at is not null) from tidemark.command";
    world.until("it is answered", done).await;
    until("it leads", &world, || grants(&third.log()) > 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let said = || third.log().contains("taken anew: nothing is changed");
    until("it is said", &world, said).await;
    assert_eq!(grants(&third.log()), 1, "{}", third.log());
}

/// Whichever answers first: who asks hears of all, and that one refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_one_of_two_processes_is_told_whoever_answers_first() {
    let config = |extra: &str| Config {
        extra: format!("resync.automatic_per_day_max = 1\n{extra}"),
        ..of(&[("one", "")])
    };
    let world = World::with(config("")).await;
    fill(&world, "one").await;
    let other = world.beside(&config(""));
    let daemons = [world.start(), other.start()];
    until_equal(&world, &["one"]).await;
    until_both_look(&world).await;
    for round in 0..2 {
        for (right, wrong) in [(&world, &other), (&other, &world)] {
            let number = 1_000 + round;
            right.configure(&config(&format!("batch.events_max = {number}\n")));
            wrong.configure(&config("batch.events_max = 0\nrow.bytes = 1\n"));
            let asked = ["reload", "--reason", "test", "--execute"];
            let (code, told) = run(&world.beside(&config("")), &asked);
            assert_eq!(code, Some(1), "{told}");
            let said = |what: &str| told.lines().filter(|line| line.contains(what)).count();
            assert_eq!((said(": refused: "), said("batch.events_max (")), (1, 1), "{told}");
            assert!(!told.contains("\\u{a}") && told.contains("check --offline"), "{told}");
            let taken = said(": sections changed: batch") + said(": nothing is changed");
            assert!(taken == 1 && told.contains("the others have taken it"), "{told}");
        }
    }
    drop(daemons);
}
