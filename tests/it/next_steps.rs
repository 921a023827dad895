//! Every error of the command line ends with what to type next: a command, an option, or a key of
//! the configuration.

use std::collections::BTreeSet;

use clap::CommandFactory;
use tidemark::cli::Cli;

use crate::support::{Config, World, stream, text};

/// Each command as it is asked when nothing is wrong with the asking, with what it does without
/// either end; those that need none are not asked then.
const COMMANDS: &[(&[&str], bool)] = &[
    (&["run"], false),
    (&["init"], true),
    (&["check"], true),
    (&["migrate"], true),
    (&["status"], true),
    (&["resync", "doctor", "--reason", "x"], true),
    (&["resync", "list"], true),
    (&["resync", "list", "--parts"], true),
    (&["resync", "cancel", "1"], true),
    (&["compare", "doctor"], true),
    (&["explain", "doctor", "1"], true),
    (&["checkpoint", "show", "doctor"], true),
    (&["checkpoint", "history", "doctor"], true),
    (&["source", "adopt", "doctor", "--reason", "x"], true),
    (&["wait", "doctor", "--for", "1.1", "--timeout", "1s"], true),
    (&["reload", "--reason", "x", "--execute"], true),
    (&["pause", "doctor", "--until", "2h", "--reason", "x"], true),
    (&["resume", "doctor", "--reason", "x"], true),
    (&["log", "level", "debug", "--for", "1h", "--reason", "x", "--execute"], true),
    (&["dead-letter", "list"], true),
    (&["dead-letter", "show", "1"], true),
    (&["purge", "--before", "1d"], true),
    (&["incident", "list"], true),
    (&["incident", "mute", "stalled", "--until", "1h", "--by", "x", "--reason", "x"], true),
    (&["views"], false),
    (&["schema"], false),
    (&["alert", "test"], true),
    (&["completions", "bash"], false),
    (&["man", "--out", "/dev/null/x"], true),
    (&["healthcheck"], true),
];

/// Streams, ids and files that are not there, and what there is nothing to do about.
const UNKNOWN: &[&[&str]] = &[
    &["status", "--stream", "nurse"],
    &["resync", "nurse", "--reason", "x"],
    &["resync", "doctor", "--reason", "x", "--ids", "nobody"],
    &["resync", "doctor", "--reason", "x", "--ids", "{"],
    &["resync", "doctor", "--reason", "x", "--ids-file", "/nowhere"],
    &["resync", "doctor", "--reason", "x", "--filter", "{"],
    &["resync", "cancel", "99"],
    &["resync", "approve", "99"],
    &["compare", "nurse"],
    &["explain", "nurse", "1"],
    &["explain", "doctor", "nobody"],
    &["checkpoint", "show", "nurse"],
    &["checkpoint", "history", "nurse"],
    &["checkpoint", "rewind", "doctor", "--to", "99", "--reason", "x"],
    &["checkpoint", "rewind", "doctor", "--to", "nonsense", "--reason", "x"],
    &["source", "adopt", "nurse", "--reason", "x"],
    &["wait", "nurse", "--for", "1.1"],
    &["wait", "doctor", "--for", "4000000000.1", "--timeout", "1s"],
    &["dead-letter", "show", "99"],
    &["dead-letter", "retry", "99", "--reason", "x"],
    &["dead-letter", "retry", "--all", "nurse", "--reason", "x"],
    &["dead-letter", "accept", "nurse", "--count", "1", "--reason", "x"],
    &["incident", "show", "99"],
    &["incident", "ack", "99", "--by", "x", "--until", "1h"],
    &["incident", "mute", "nothing", "--until", "1h", "--by", "x", "--reason", "x"],
    &["incident", "mute", "stalled", "--until", "90d", "--by", "x", "--reason", "x"],
    &["pause", "nurse", "--until", "2h", "--reason", "x"],
    &["pause", "doctor", "--until", "90d", "--reason", "x"],
    &["resume", "doctor", "--reason", "x"],
    &["log", "level", "inof", "--for", "1h"],
    &["init", "--collection", "nowhere"],
    &["init", "--collection", "doctorsForDB", "--out", "/nowhere/x.toml"],
    &["views", "--out", "/nowhere/x.sql"],
    &["check"],
    &["alert", "test"],
    &["healthcheck"],
];

/// Keys of the configuration, dotted.
fn keys() -> BTreeSet<String> {
    const DEFAULTS: &str = include_str!("../../config/default.toml");
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_matches(['[', ']']).clone_into(&mut section);
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !section.is_empty()) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    assert!(keys.contains("source.uri") && keys.len() > 30, "{keys:?}");
    keys
}

/// The last line of what was said, if it names something that can be typed.
fn ends_with_a_step(said: &str, keys: &BTreeSet<String>) -> bool {
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let option = last.split(' ').any(|word| word.trim_matches(['\'', '`']).starts_with("--"));
    last.contains("`tidemark ") || option || keys.iter().any(|key| last.contains(key.as_str()))
}

/// Runs a command that fails; what it said.
fn fails(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = world.command(arguments);
    command.envs(environment.iter().copied());
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{arguments:?} did not fail: {}", text(&output));
    (output.status.code(), text(&output))
}

#[tokio::test]
async fn every_command_is_walked() {
    let walked: BTreeSet<&str> = COMMANDS.iter().map(|(arguments, _)| arguments[0]).collect();
    let all = Cli::command();
    let all: BTreeSet<&str> = all.get_subcommands().map(clap::Command::get_name).collect();
    assert_eq!(walked, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_configuration_and_ends_that_are_away_are_told_with_what_to_type_next() {
    // A port at which nobody else begins to listen meanwhile.
    let extra = "target.url = \"postgres://127.0.0.1:1/x\"\nsource.uri = \
                 \"mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500\"\n"
        .to_owned();
    let streams = stream("doctor", "doctorsForDB", "");
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    let keys = keys();
    for (arguments, needs_ends) in COMMANDS {
        let (code, said) = fails(&world, &[*arguments, &["--frobnicate"]].concat(), &[]);
        assert!(code == Some(2) && ends_with_a_step(&said, &keys), "{arguments:?}: {said}");
        if !["completions", "man", "schema"].contains(&arguments[0]) {
            let wrong = [("TIDEMARK__STATUS__LISTEN", "nowhere")];
            let (_, said) = fails(&world, arguments, &wrong);
            assert!(ends_with_a_step(&said, &keys), "{arguments:?}: {said}");
        }
        if *needs_ends {
            let (_, said) = fails(&world, arguments, &[]);
            assert!(ends_with_a_step(&said, &keys), "{arguments:?}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unknown_and_what_is_nothing_is_told_with_what_to_type_next() {
    let streams = stream("doctor", "doctorsForDB", "");
    let world = World::with(Config { streams, ..Config::default() }).await;
    world.collection("doctorsForDB").insert_one(mongodb::bson::doc! { "_id": "1" }).await.unwrap();
    let keys = keys();
    let (_, said) = fails(&world, &["explain", "doctor", "1"], &[]);
    assert!(ends_with_a_step(&said, &keys), "before there are any tables: {said}");
    assert_eq!(crate::support::run(&world, &["migrate"]).0, Some(0));
    for arguments in UNKNOWN {
        let output = world.command(arguments).output().unwrap();
        let said = text(&output);
        let is_check = arguments[0] == "check" && output.status.success();
        assert!(is_check || !output.status.success(), "{arguments:?}: {said}");
        assert!(is_check || ends_with_a_step(&said, &keys), "{arguments:?}: {said}");
    }
}

/// Each command, however deep, with the words that call it.
fn all_commands() -> Vec<(Vec<String>, clap::Command)> {
    let mut open = vec![(Vec::new(), Cli::command())];
    let mut all = Vec::new();
    while let Some((words, command)) = open.pop() {
        for below in command.get_subcommands() {
            let words = [&words[..], &[below.get_name().to_owned()]].concat();
            open.push((words, below.clone()));
        }
        all.push((words, command));
    }
    all
}

#[tokio::test]
async fn every_argument_says_what_it_is_and_every_reason_says_something() {
    let world = World::new().await;
    let mut reasons = 0;
    for (words, command) in all_commands() {
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{words:?} {}", argument.get_id());
            if argument.get_long() != Some("reason") {
                continue;
            }
            reasons += 1;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (code, said) = fails(&world, &[&words[..], &["--reason", " "]].concat(), &[]);
            assert!(code == Some(2) && said.contains("say why, in a few words"), "{said}");
        }
    }
    assert!(reasons > 12, "{reasons}");
    for acts in [
        &["reload"][..],
        &["log", "level", "debug", "--for", "1h"],
        &["resync", "cancel", "1"],
        &["resync", "approve", "1"],
        &["purge", "--before", "1d"],
    ] {
        let (code, said) = fails(&world, &[acts, &["--execute"]].concat(), &[]);
        assert!(code == Some(2) && said.contains("--reason <TEXT>"), "{acts:?}: {said}");
    }
    let (code, said) = fails(&world, &["compare", "doctor", "--sample", "0"], &[]);
    assert!(code == Some(2) && said.contains("0 is not in 1.."), "{said}");
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_of_the_file() {
    let world = World::new().await;
    let short = world.config.with_file_name("short");
    std::fs::write(&short, "short\n").unwrap();
    let secret = format!("alert.webhook.secret_file = {short:?}\n");
    let url = "alert.webhook.url = \"https://example.com/\"\n";
    world.configure(&Config { extra: format!("{url}{secret}"), ..Config::default() });
    let (code, said) = fails(&world, &["check", "--offline"], &[]);
    let names = said.contains("alert.webhook.secret_file") && said.contains("/short holds must be");
    assert!(code == Some(78) && names && !said.contains("(defaults)"), "{said}");

    std::fs::remove_file(&world.config).unwrap();
    let (code, said) = fails(&world, &["check", "--offline"], &[]);
    let names = said.contains("--config FILE") && !said.contains("mend these keys");
    assert!(code == Some(78) && names, "{said}");
}
