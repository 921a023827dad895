//! The gate's own user in Postgres (`deploy/gate/users.sql`): it proves the rights of the daemon's
//! role by name, and has none to write, nor to read a document.

use std::path::Path;

use devstack::Stack;
use mongodb::bson::doc;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Config, World, run, stream, text};

const COLLECTION: &str = "doctorsForDB";

/// Runs a script of `deploy/`, as a person would.
fn script(database: &str, file: &str, variables: &[(&str, &str)]) {
    let mut psql = Stack::shared().postgres.psql(database).unwrap();
    for (name, value) in variables {
        psql.arg(format!("--set={name}={value}"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    let output = psql.arg("--file").arg(path).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gates_user_proves_the_daemons_rights_and_can_write_nothing() {
    let world = World::new().await;
    world.collection(COLLECTION).insert_one(doc! { "_id": "d1", "last": "Any" }).await.unwrap();
    let prefix = devstack::unique("gate");
    let [gate, owner, daemon, viewer, operator] =
        ["gate", "owner", "daemon", "viewer", "operator"].map(|role| format!("{prefix}_{role}"));
    let database = world.target_url.rsplit('/').next().unwrap();
    let column = "column = [ { name = \"last_name\", field = \"last\", type = \"text\" } ]";
    let url = world.target_url.replace("tidemark@", &format!("{gate}@"));
    let follows = |extra: String| Config {
        extra,
        streams: stream("doctor", COLLECTION, column),
        ..Config::default()
    };
    let as_gate =
        world.beside(&follows(format!("target.url = {url:?}\nmigrate.automatic = false\n")));
    let (code, told) = run(&world.beside(&follows(String::new())), &["migrate"]);
    assert_eq!(code, Some(0), "{told}");
    let roles =
        [("owner", &*owner), ("daemon", &daemon), ("viewer", &viewer), ("operator", &operator)];
    let roles = [&roles[..], &[("tables", "doctor")]].concat();
    script(database, "roles.sql", &roles);
    // Any number of times.
    for _ in 0..2 {
        script(database, "gate/users.sql", &[("gate", &gate)]);
    }

    let (code, told) = run(&as_gate, &["check", "--role", &daemon]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("{daemon} has each that `run` needs")), "{told}");
    world.execute(&format!("revoke delete on public.doctor from {daemon}")).await;
    let (code, told) = run(&as_gate, &["check", "--role", &daemon]);
    assert!(code == Some(1) && told.contains("it lacks delete on public.doctor"), "{told}");

    let mut connection = PgConnection::connect(&url).await.unwrap();
    for statement in [
        "select doc from public.doctor",
        "select event from tidemark.dead_letter",
        "select sample_ids from tidemark.gap_report",
        "insert into tidemark.command (verb, stream, actor, reason) values ('resync', 'doctor', \
         'x', 'x')",
        "update tidemark.incident set acked_by = 'x'",
        "update tidemark.checkpoint set epoch = 1",
        "delete from public.doctor",
        "create table tidemark.x ()",
        "create schema x",
    ] {
        let done =
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
        let code = done.as_ref().err().and_then(|error| error.as_database_error()?.code());
        assert_eq!(code.as_deref(), Some("42501"), "{statement}: {done:?}");
    }
    connection.close().await.unwrap();
    for role in [gate, owner, daemon, viewer, operator] {
        world.execute(&format!("drop owned by {role} cascade; drop role {role}")).await;
    }
}
