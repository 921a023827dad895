//! Client certificates that are replaced while streams are followed, at both ends: the servers
//! trust another authority first, and every session ends; nothing halts, nothing is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use devstack::{Authority, Certificate, Mongo, MongoOptions, Postgres, PostgresOptions};
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use tokio::task::JoinHandle;

use crate::support::{Config, Daemon, World, stream};

const HOST: &str = "127.0.0.1";

/// Only by a certificate of its own name; the test itself comes as it is.
const ACCESS: &str =
    "host all tidemark 127.0.0.1/32 trust\nhostssl all follower 127.0.0.1/32 cert\n";

/// A file is replaced as a mounted one is: whole, under its name.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(devstack::unique("tidemark-certificates"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes until it is told to stop, whatever refuses it.
pub fn write_on(doctors: Collection<Document>, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut written = 0;
        while !stop.load(Ordering::Relaxed) {
            let write = doctors
                .update_one(doc! { "_id": written }, doc! { "$set": { "n": written } })
                .upsert(true);
            written += i32::from(write.await.is_ok());
        }
    })
}

/// Waits until some of what is written meanwhile has arrived.
pub async fn until_more(world: &World) {
    let rows: i64 = world.scalar("select count(*) from public.doctor").await;
    let more = format!("select count(*) >= {rows} + 25 from public.doctor");
    world.until("what is written all the while arrives", &more).await;
}

/// Replaces the certificate twice under load.
async fn follow(world: &World, mut replace: impl AsyncFnMut(usize, &Daemon)) {
    let doctors = world.collection("doctorsForDB");
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = write_on(doctors.clone(), Arc::clone(&stop));
    for number in 1..=2 {
        until_more(world).await;
        replace(number, &daemon).await;
        let marker = format!("after-{number}");
        let insert = || async { doctors.insert_one(doc! { "_id": &marker }).await };
        while insert().await.is_err_and(|error| !error.to_string().contains("E11000")) {}
        let sql = format!("select exists (select from public.doctor where id = '{marker}')");
        world.until("what is written after the change arrives", &sql).await;
    }
    until_more(world).await;
    stop.store(true, Ordering::Relaxed);
    writing.await.unwrap();
    world.until_equal("doctorsForDB", "doctor").await;
    stay_quiet(world, &daemon).await;
    assert_eq!(daemon.stop().0, Some(0));
}

/// Waits until the daemon has met what was done to it once more.
async fn until_said_again(daemon: &Daemon, words: &str, before: usize) {
    let said = async || daemon.log().matches(words).count() > before;
    daemon.until_metric(words, said).await;
}

async fn stay_quiet(world: &World, daemon: &Daemon) {
    let told = world.column("select code from tidemark.incident").await;
    assert_eq!(told, [""; 0], "{}", daemon.log());
    let phases = daemon.phases("doctor");
    assert!(!phases.contains(&"halted".to_owned()), "{phases:?}\n{}", daemon.log());
    assert!(!daemon.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_shown_to_postgres_is_replaced_file_by_file() {
    let folder = folder();
    let file = |name: &str| folder.join(name).display().to_string();
    let ours = Authority::new().unwrap();
    let clients: Vec<Authority> = (0..3).map(|_| Authority::new().unwrap()).collect();
    write(&folder.join("roots.pem"), &ours.pem());
    write(&folder.join("clients.pem"), &clients[0].pem());
    let postgres = Postgres::start(&PostgresOptions {
        certificate: Some(ours.sign(HOST).unwrap()),
        access: Some(ACCESS.to_owned()),
        settings: vec![format!("ssl_ca_file={}", file("clients.pem"))],
        ..PostgresOptions::default()
    })
    .unwrap();
    let first = clients[0].sign("follower").unwrap();
    write(&folder.join("client.pem"), &first.pem);
    write(&folder.join("client.key"), &first.key);
    let database = postgres.database().await.unwrap();
    let url = format!(
        "postgres://follower@{HOST}:{}/{database}?sslrootcert={}&sslcert={}&sslkey={}",
        postgres.port(),
        file("roots.pem"),
        file("client.pem"),
        file("client.key")
    );
    let config = Config {
        extra: format!("target.url = {url:?}\n"),
        streams: stream("doctor", "doctorsForDB", ""),
        ..Config::default()
    };
    let source = devstack::Stack::shared().mongo.uri();
    let world = World::of(&source, &postgres.url(&database), config).await;
    world.execute("create role follower login superuser").await;
    follow(&world, async |number, daemon| {
        write(&folder.join("clients.pem"), &clients[number].pem());
        world.execute("select pg_reload_conf()").await;
        let end =
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'follower'";
        world.execute(end).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.execute(end).await;
        // For a moment the one does not go with the other.
        let next = clients[number].sign("follower").unwrap();
        let words = "TLS with postgres could not be agreed";
        let before = daemon.log().matches(words).count();
        write(&folder.join("client.pem"), &next.pem);
        until_said_again(daemon, words, before).await;
        write(&folder.join("client.key"), &next.key);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_shown_to_mongodb_is_replaced() {
    let folder = folder();
    let ours = Authority::new().unwrap();
    write(&folder.join("roots.pem"), &ours.pem());
    let mongo = Mongo::start(&MongoOptions {
        certificate: Some((ours.sign(HOST).unwrap(), ours.pem())),
        proxied: true,
        ..MongoOptions::small_oplog()
    })
    .unwrap();
    let key = folder.join("client.pem");
    let external = mongo.client().await.unwrap().database("$external");
    let admit = async |name: &str| -> Certificate {
        let user = doc! {
            "createUser": format!("CN={name}"),
            "roles": [{ "role": "root", "db": "admin" }],
        };
        external.run_command(user).await.unwrap();
        ours.sign(name).unwrap()
    };
    write(&key, &admit("follower-0").await.together());
    let uri = format!(
        "mongodb://{}/?replicaSet=rs0&tls=true&tlsCAFile={}&tlsCertificateKeyFile={}\
         &authMechanism=MONGODB-X509",
        mongo.hosts().join(","),
        folder.join("roots.pem").display(),
        key.display()
    );
    let config = Config {
        extra: format!("source.uri = {uri:?}\n"),
        streams: stream("doctor", "doctorsForDB", ""),
        ..Config::default()
    };
    let target = devstack::Stack::shared();
    let url = target.postgres.url(&target.postgres.database().await.unwrap());
    let world = World::of(&mongo.uri(), &url, config).await;
    follow(&world, async |number, daemon| {
        let words = "mongodb refused the login";
        let met = daemon.log().matches(words).count();
        let next = admit(&format!("follower-{number}")).await;
        let before = format!("CN=follower-{}", number - 1);
        external.run_command(doc! { "dropUser": before }).await.unwrap();
        mongo.proxy(0).unwrap().cut();
        until_said_again(daemon, words, met).await;
        write(&key, &next.together());
    })
    .await;
}
