//! What `check` says of set-ups that are spoilt: a stranger reads it, and knows what to do.

use std::fmt::Write as _;
use std::path::PathBuf;

use devstack::{Mongo, MongoOptions, Postgres, PostgresOptions, Stack};
use mongodb::bson::doc;

use crate::support::{Config, World, run, stream};

const COLUMN: &str = "column = [ { name = \"last_name\", field = \"last\", type = \"text\" } ]";

fn config(extra: &str) -> Config {
    Config {
        extra: extra.to_owned(),
        streams: stream("doctor", "doctors", COLUMN),
        ..Config::default()
    }
}

async fn fresh() -> World {
    let world = World::with(config("")).await;
    world.collection("doctors").insert_one(doc! { "_id": "1", "last": "Any" }).await.unwrap();
    world
}

async fn migrated() -> World {
    let world = fresh().await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
}

/// What is not well, and what is not there yet, with names and ports of this run taken out.
struct Told {
    text: String,
    /// What to take out, and what to put there.
    names: Vec<(String, &'static str)>,
}

impl Told {
    fn add(&mut self, title: &str, world: &World, names: &[(&str, &'static str)]) {
        let (code, mut told) = run(world, &["check"]);
        let database = world.target_url.rsplit('/').next().unwrap();
        let port = |url: &str| {
            url.split("127.0.0.1:")
                .nth(1)
                .unwrap()
                .chars()
                .take_while(char::is_ascii_digit)
                .collect()
        };
        let ports: [String; 2] = [port(&world.source_uri), port(&world.target_url)];
        let own = [
            (database, "DATABASE"),
            (&world.name, "SOURCE"),
            (&ports[0], "27017"),
            (&ports[1], "5432"),
        ];
        self.names.extend(names.iter().chain(&own).map(|(name, put)| ((*name).to_owned(), *put)));
        for (name, put) in self.names.drain(..) {
            told = told.replace(&name, put);
        }
        let mut shown = String::new();
        let mut failing = false;
        for line in told.lines() {
            failing = line.starts_with("FAILED") || (failing && line.trim_start().starts_with('→'));
            if failing || line.contains("not there yet") {
                let words: Vec<&str> = line.split_whitespace().collect();
                writeln!(shown, "  {}", words.join(" ")).unwrap();
            }
        }
        let code = code.unwrap();
        writeln!(self.text, "{title}: exit {code}\n{shown}").unwrap();
    }
}

/// A user of this test's own, without a right.
async fn user(world: &World, grants: &str) -> String {
    let name = devstack::unique("user");
    world.execute(&format!("create role {name} login; {}", grants.replace("USER", &name))).await;
    name
}

/// The same databases as another user.
fn as_user(world: &World, name: &str) -> World {
    let url = world.target_url.replace("tidemark@", &format!("{name}@"));
    let mut other = world.beside(&config(&format!("target.url = {url:?}\n")));
    other.target_url = url;
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spoilt_is_named_with_its_remedy_and_nothing_else_is() {
    let mut told = Told { text: String::new(), names: Vec::new() };
    let world = fresh().await;
    told.add("a first deployment", &world, &[]);
    let by_hand = world.beside(&config("migrate.automatic = false\n"));
    told.add("a first deployment under change control", &by_hand, &[]);
    let name = user(&world, "").await;
    told.add(
        "a first deployment by a user who may create nothing",
        &as_user(&world, &name),
        &[(&name, "USER")],
    );
    of_the_login(&mut told).await;
    of_the_source(&mut told).await;
    of_rights(&mut told).await;
    of_tables(&mut told).await;
    insta::assert_snapshot!("spoilt", told.text);
}

async fn of_the_login(told: &mut Told) {
    let world = migrated().await;
    let nowhere = world.target_url.replace(world.target_url.rsplit('/').next().unwrap(), "nowhere");
    let mut other = world.beside(&config(&format!("target.url = {nowhere:?}\n")));
    other.target_url = nowhere;
    told.add("no such database", &other, &[]);
    // A server of its own that asks for passwords.
    let file = PathBuf::from(format!("/tmp/{}.conf", devstack::unique("hba")));
    std::fs::write(
        &file,
        "host all tidemark 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    let settings = vec![format!("hba_file={}", file.display())];
    let postgres =
        Postgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap();
    let database = postgres.database().await.unwrap();
    let locked =
        World::of(&Stack::shared().mongo.uri(), &postgres.url(&database), config("")).await;
    locked.execute("create role mary login password 'right'").await;
    locked.collection("doctors").insert_one(doc! { "_id": "1", "last": "Any" }).await.unwrap();
    told.add("a wrong password", &as_user(&locked, "mary:wrong"), &[]);
    std::fs::remove_file(file).unwrap();
    world
        .execute(&format!("alter database {} set default_transaction_read_only = on", db(&world)))
        .await;
    told.add("a database that is read-only", &world, &[]);
}

fn db(world: &World) -> &str {
    world.target_url.rsplit('/').next().unwrap()
}

async fn of_the_source(told: &mut Told) {
    // A failpoint is the whole server's.
    let mongo =
        Mongo::start(&MongoOptions { cache_gigabytes: 0.25, ..MongoOptions::default() }).unwrap();
    let target = migrated().await.target_url.clone();
    let world = World::of(&mongo.uri(), &target, config("")).await;
    world.collection("doctors").insert_one(doc! { "_id": "1", "last": "Any" }).await.unwrap();
    let forbidden =
        doc! { "failCommands": ["aggregate", "find"], "appName": &world.name, "errorCode": 13 };
    let forbid =
        doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": forbidden };
    mongo.client().await.unwrap().database("admin").run_command(forbid).await.unwrap();
    told.add("a source without the right to read", &world, &[]);

    let options =
        MongoOptions { standalone: true, cache_gigabytes: 0.25, ..MongoOptions::default() };
    let alone = Mongo::start(&options).unwrap();
    let uri = alone.uri().replace("replicaSet=rs0", "directConnection=true");
    let world = World::of(&uri, &target, config("")).await;
    world.collection("doctors").insert_one(doc! { "_id": "1", "last": "Any" }).await.unwrap();
    told.add("a source that is no replica set", &world, &[]);
}

async fn of_rights(told: &mut Told) {
    let world = migrated().await;
    let grants = "grant usage on schema public, tidemark to USER; \
         grant select, insert, update, delete on all tables in schema public, tidemark to USER; \
         revoke update, delete on public.doctor from USER; revoke insert on tidemark.dead_letter \
         from USER";
    let name = user(&world, grants).await;
    told.add(
        "a user without the right to some tables",
        &as_user(&world, &name),
        &[(&name, "USER")],
    );
    let name =
        user(&world, "grant select, insert, update, delete on all tables in schema public to USER")
            .await;
    told.add(
        "a user without any right to the state schema",
        &as_user(&world, &name),
        &[(&name, "USER")],
    );
    world
        .execute(&format!(
            "grant usage on schema tidemark to {name}; grant all on all tables in schema tidemark \
             to {name}"
        ))
        .await;
    let wider =
        COLUMN.replace("} ]", "}, { name = \"first\", field = \"first\", type = \"text\" } ]");
    let url = as_user(&world, &name).target_url.clone();
    let extra = format!("target.url = {url:?}\n");
    let mut other = world.beside(&Config {
        extra,
        streams: stream("doctor", "doctors", &wider),
        ..Config::default()
    });
    other.target_url = url;
    told.add("a column to be added to a table of somebody else's", &other, &[(&name, "USER")]);
}

async fn of_tables(told: &mut Told) {
    let world = migrated().await;
    world.execute("alter table public.doctor alter last_name type varchar(9)").await;
    told.add("a column of another type", &world, &[]);
    world.execute("drop table public.doctor; create view public.doctor as select 'x' as id").await;
    told.add("a view in place of the table", &world, &[]);
    let world = migrated().await;
    world.execute("alter table public.doctor drop constraint doctor_pkey").await;
    told.add("a table without its primary key", &world, &[]);
    let world = migrated().await;
    world.execute("drop table tidemark.dead_letter cascade").await;
    told.add("a state schema of which a part is gone", &world, &[]);
    let world = migrated().await;
    world.execute("update tidemark.release set format_min = 9").await;
    told.add("a state schema of a later release", &world, &[]);
    let world = migrated().await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    let other = world.beside(&config("environment = \"staging\"\n"));
    told.add("another environment's streams", &other, &[]);
}
