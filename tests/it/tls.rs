//! Real TLS at both ends, with certificates that are right and that are not.
//!
//! The address 0.0.0.0 stands for a host beyond this machine: it is none of its names, and leads
//! here.

use std::path::PathBuf;

use devstack::{Authority, Certificate, Mongo, MongoOptions, Postgres, PostgresOptions, Stack};
use mongodb::bson::doc;

use crate::support::{Config, World, run, stream};

const FAR: &str = "0.0.0.0";

/// A file of this test's.
fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(devstack::unique(name));
    std::fs::write(&path, text).unwrap();
    path
}

async fn world(uri: &str, url: &str, extra: &str) -> World {
    let world = World::with(Config::default()).await;
    let streams = stream("doctor", "doctorsForDB", "");
    let text = format!(
        "source.uri = {uri:?}\ntarget.url = {url:?}\nstatus.listen \
         = \"127.0.0.1:0\"\n{extra}\n{streams}"
    );
    std::fs::write(&world.config, text).unwrap();
    world
}

/// Servers take up a new certificate a moment after they are told to.
async fn until_check_says(world: &World, words: &str) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let text = run(world, &["check"]).1;
        if text.contains(words) {
            return text;
        }
        assert!(std::time::Instant::now() < deadline, "never said: {words}\n{text}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// By name (`UnknownIssuer`) or, where the names are the same, by key (`BadSignature`).
const STRANGER: &str = "signed by none of the authorities that are trusted";

/// What is presented, and what is said of it: no two the same one after the other, so that each is
/// seen.
fn cases(ours: &Authority) -> Vec<(Certificate, &'static str)> {
    vec![
        (Authority::new().unwrap().sign(FAR).unwrap(), STRANGER),
        (ours.sign("db.example.org").unwrap(), "certificate not valid for name"),
        (Certificate::self_signed(FAR).unwrap(), STRANGER),
        (ours.sign_expired(FAR).unwrap(), "certificate expired"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_believed_only_with_the_right_certificate() {
    let ours = Authority::new().unwrap();
    let roots = file("roots.pem", &ours.pem());
    let right = ours.sign(FAR).unwrap();
    let postgres = Postgres::start(&PostgresOptions {
        certificate: Some(right.clone()),
        ..PostgresOptions::default()
    })
    .unwrap();
    let uri = Stack::shared().mongo.uri();
    let url = format!(
        "postgres://tidemark@{FAR}:{}/postgres?sslrootcert={}",
        postgres.port(),
        roots.display()
    );
    let far = world(&uri, &url, "").await;
    let text = until_check_says(&far, "0.0.0.0: name and authority verified").await;
    assert!(text.contains("target's wire") && text.contains("TLSv1.3, TLS_AES"), "{text}");
    for (presented, words) in cases(&ours) {
        postgres.present(&presented).unwrap();
        let text = until_check_says(&far, words).await;
        assert!(
            text.contains("the certificate of postgres is not accepted")
                && text.contains("→ check sslrootcert"),
            "{text}"
        );
    }
    // On this machine, too, if it is asked for: the roots given are the only ones, whatever the
    // mode.
    let others = file("others.pem", &Authority::new().unwrap().pem());
    postgres.present(&right).unwrap();
    until_check_says(&far, "0.0.0.0: name and authority verified").await;
    for (mode, words) in [("verify-ca", STRANGER), ("verify-full", STRANGER)] {
        let url = format!(
            "postgres://tidemark@127.0.0.1:{}/postgres?sslmode={mode}&sslrootcert={}",
            postgres.port(),
            others.display()
        );
        until_check_says(&world(&uri, &url, "").await, words).await;
    }
    // Without sslrootcert the machine's own authorities are asked, which have not signed it.
    let machine =
        world(&uri, &format!("postgres://tidemark@{FAR}:{}/postgres", postgres.port()), "").await;
    let output = machine.command(&["check"]).env("SSL_CERT_FILE", &others).output().unwrap();
    assert!(crate::support::text(&output).contains(STRANGER), "{}", crate::support::text(&output));
    let output = machine.command(&["check"]).env("SSL_CERT_FILE", &roots).output().unwrap();
    assert!(
        crate::support::text(&output).contains("name and authority verified"),
        "{}",
        crate::support::text(&output)
    );
    // The daemon waits, and says why.
    postgres.present(&Certificate::self_signed(FAR).unwrap()).unwrap();
    until_check_says(&far, STRANGER).await;
    let mut daemon = far.start();
    daemon.until_metric("the refusal is logged", async || daemon.log().contains(STRANGER)).await;
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_spoken_to_on_this_machine_or_if_insecure() {
    let port = Stack::shared().postgres.port();
    let uri = Stack::shared().mongo.uri();
    let url = format!("postgres://tidemark@{FAR}:{port}/postgres");
    let text = run(&world(&uri, &url, "").await, &["check"]).1;
    assert!(text.contains("the server speaks no TLS"), "{text}");
    let text = run(&world(&uri, &url, "target.insecure = true").await, &["check"]).1;
    assert!(text.contains("no TLS; 0.0.0.0: nobody verified"), "{text}");
    let near = run(&world(&uri, &Stack::shared().postgres.url("postgres"), "").await, &["check"]).1;
    assert!(near.contains("no TLS; 127.0.0.1: this machine"), "{near}");
    // MongoDB the same.
    let uri = format!("mongodb://{FAR}:{}/?directConnection=true", Stack::shared().mongo.port());
    let url = Stack::shared().postgres.url("postgres");
    assert_eq!(run(&world(&uri, &url, "").await, &["check"]).0, Some(78));
    let text = run(&world(&uri, &url, "source.insecure = true").await, &["check"]).1;
    assert!(text.contains("source's wire") && text.contains("no TLS"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongodb_is_believed_only_with_the_right_certificate_and_believes_a_clients() {
    let ours = Authority::new().unwrap();
    let roots = file("roots.pem", &ours.pem());
    let right = (ours.sign(FAR).unwrap(), ours.pem());
    let mongo =
        Mongo::start(&MongoOptions { certificate: Some(right), ..MongoOptions::small_oplog() })
            .unwrap();
    let url = Stack::shared().postgres.url("postgres");
    let far = format!(
        "mongodb://{FAR}:{}/?directConnection=true&serverSelectionTimeoutMS=2000&tls=true",
        mongo.port()
    );
    let roots = format!("&tlsCAFile={}", roots.display());
    let trusting = world(&format!("{far}{roots}"), &url, "").await;
    let text = until_check_says(&trusting, "TLS 1.2 or later; name and authority verified").await;
    assert!(text.contains("source's wire"), "{text}");
    // X.509: whom the certificate names logs in by it alone.
    let client = ours.sign("follower").unwrap();
    let key = file("client.pem", &client.together());
    let x509 =
        format!("{far}{roots}&tlsCertificateKeyFile={}&authMechanism=MONGODB-X509", key.display());
    let by_certificate = world(&x509, &url, "").await;
    until_check_says(&by_certificate, "check the user, password and authSource").await;
    let user = doc! { "createUser": "CN=follower", "roles": [{ "role": "root", "db": "admin" }] };
    mongo.client().await.unwrap().database("$external").run_command(user).await.unwrap();
    until_check_says(&by_certificate, "TLS 1.2 or later; name and authority verified").await;
    // And certificates that are not right.
    for (presented, words) in cases(&ours) {
        if words == "certificate expired" {
            // mongod itself refuses to present one.
            continue;
        }
        mongo.present(&presented).await.unwrap();
        let text = until_check_says(&trusting, words).await;
        assert!(
            text.contains("the certificate of mongodb is not accepted")
                && text.contains("→ check tlsCAFile"),
            "{text}"
        );
    }
}
