//! Connection strings that only a driver finds wrong, and ends that do not answer: named, and no
//! secret with them.

use devstack::Stack;

use crate::support::{Config, World, run, stream};

const CANARY: &str = "c4n4ry";

async fn with(uri: &str, url: &str) -> World {
    let world = World::with(Config::default()).await;
    let streams = stream("doctor", "doctorsForDB", "");
    std::fs::write(
        &world.config,
        format!(
            "source.uri = {uri:?}\ntarget.url = {url:?}\nstatus.listen = \"127.0.0.1:0\"\n{streams}"
        ),
    )
    .unwrap();
    world
}

#[tokio::test]
async fn a_connection_string_that_cannot_be_used_is_a_configuration_error() {
    let uri = Stack::shared().mongo.uri();
    let url = Stack::shared().postgres.url("postgres");
    for (uri, url, words) in [
        (format!("mongodb://u:{CANARY}@@h/"), url.clone(), "source.uri ("),
        (
            format!("mongodb://u:{CANARY}@localhost/?maxPoolSize=0"),
            url.clone(),
            "do not go together",
        ),
        (
            format!("mongodb://u:{CANARY}@localhost/?replicaSet=a&loadBalanced=true"),
            url.clone(),
            "do not go together",
        ),
        (
            "mongodb://localhost/?readPreference=nearest".to_owned(),
            url.clone(),
            "readpreference other than primary",
        ),
        ("mongodb://db.example.org/".to_owned(), url.clone(), "source.insecure = true"),
        (uri.clone(), format!("postgres://u:{CANARY}@127.0.0.1:notaport/x"), "target.url ("),
        (
            uri.clone(),
            format!("postgres://u:{CANARY}@127.0.0.1/x?sslmode={CANARY}"),
            "sslmode that is not one of",
        ),
        (
            uri.clone(),
            format!("postgres://u:{CANARY}@db.example.org/x?sslmode=require"),
            "target.insecure = true",
        ),
    ] {
        let world = with(&uri, &url).await;
        for command in [&["check", "--offline"][..], &["run"], &["status"]] {
            let (code, text) = run(&world, command);
            assert_eq!(code, Some(78), "{command:?} {uri} {url}: {text}");
            assert!(
                text.contains(words) && text.contains("tidemark.toml") && !text.contains(CANARY),
                "{text}"
            );
        }
    }
    // Both ends at once.
    let (code, text) =
        run(&with("mongodb://h:x/", "postgres://u@h:x/d").await, &["check", "--offline"]);
    assert_eq!(code, Some(78));
    assert!(text.contains("2 configuration errors"), "{text}");
}

#[tokio::test]
async fn a_variable_that_would_act_beside_the_url_is_refused_and_the_others_do_nothing() {
    let world = World::new().await;
    let output = |name: &str, value: &str| {
        let output = world.command(&["check", "--offline"]).env(name, value).output().unwrap();
        (output.status.code(), crate::support::text(&output))
    };
    let (code, text) = output("PGOPTIONS", CANARY);
    assert_eq!(code, Some(78));
    assert!(text.contains("PGOPTIONS") && !text.contains(CANARY), "{text}");
    for name in ["PGHOST", "PGPORT", "PGPASSWORD", "PGSSLMODE", "PGDATABASE", "PGSSLROOTCERT"] {
        assert_eq!(output(name, "1").0, Some(0), "{name}");
    }
}

#[tokio::test]
async fn an_end_that_does_not_answer_is_named_with_its_hosts_and_reasons() {
    // One at which nobody else begins to listen meanwhile.
    let port = 1;
    let uri = format!(
        "mongodb://u:{CANARY}@127.0.0.1:{port},nowhere.invalid:27017/\
         ?replicaSet=a&serverSelectionTimeoutMS=2000"
    );
    let tls = format!("{uri}&tls=true");
    let url = format!("postgres://u:{CANARY}@127.0.0.1:{port}/x");
    let (code, text) = run(&with(&tls, &url).await, &["check"]);
    assert_eq!(code, Some(69), "{text}");
    for words in [
        &format!("127.0.0.1:{port}: refused; nowhere.invalid:27017: no such name"),
        &format!("127.0.0.1:{port}: connection to postgres failed: refused"),
    ] {
        assert!(text.contains(words.as_str()), "{words}: {text}");
    }
    assert!(!text.contains(CANARY), "{text}");
    let nowhere = "postgres://u@nowhere.invalid/x";
    let (_, text) = run(&with(&tls, nowhere).await, &["check"]);
    assert!(
        text.contains("nowhere.invalid:5432: connection to postgres failed: no such name"),
        "{text}"
    );
}
