//! The roles of `deploy/roles.sql`: the whole life of a stream with exactly these, and nothing
//! beyond what each is for.

use std::path::Path;

use devstack::Stack;
use mongodb::bson::doc;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Config, World, eventually, run, stream, text};

const COLLECTION: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

struct Roles {
    /// Of all roles of this test: they are the whole server's.
    prefix: String,
    world: World,
}

impl Roles {
    async fn new() -> Self {
        Self { prefix: devstack::unique("role"), world: World::new().await }
    }

    fn name(&self, role: &str) -> String {
        format!("{}_{role}", self.prefix)
    }

    fn database(&self) -> &str {
        self.world.target_url.rsplit('/').next().unwrap()
    }

    /// Runs the script, as a person would.
    fn grant(&self) {
        let mut psql = Stack::shared().postgres.psql(self.database()).unwrap();
        for role in ["owner", "daemon", "viewer", "operator"] {
            psql.arg(format!("--set={role}={}", self.name(role)));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/roles.sql");
        let output = psql.arg("--set=tables=doctor").arg("--file").arg(script).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }

    fn url(&self, role: &str) -> String {
        self.world.target_url.replace("tidemark@", &format!("{}@", self.name(role)))
    }

    /// The stream, as this role.
    fn as_role(&self, role: &str) -> World {
        let url = self.url(role);
        let extra = format!("target.url = {url:?}\nmigrate.automatic = false\n");
        let column = "column = [ { name = \"last_name\", field = \"last\", type = \"text\" } ]";
        self.world.beside(&Config {
            extra,
            streams: stream("doctor", COLLECTION, column),
            ..Config::default()
        })
    }

    /// What a role may not do: Postgres says so.
    async fn refuses(&self, role: &str, statements: &[&str]) {
        let mut connection = PgConnection::connect(&self.url(role)).await.unwrap();
        for statement in statements {
            let done = sqlx::raw_sql(AssertSqlSafe((*statement).to_owned()))
                .execute(&mut connection)
                .await;
            let code = done.as_ref().err().and_then(|error| error.as_database_error()?.code());
            assert_eq!(code.as_deref(), Some("42501"), "{role}: {statement}: {done:?}");
        }
    }

    async fn drop(self) {
        for role in ["owner", "daemon", "viewer", "operator"] {
            let name = self.name(role);
            self.world.execute(&format!("drop owned by {name} cascade; drop role {name}")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_lives_its_whole_life_with_four_roles_that_may_do_nothing_more() {
    let roles = Roles::new().await;
    let world = &roles.world;
    let doctors = world.collection(COLLECTION);
    doctors
        .insert_many((0..60).map(|n| doc! { "_id": format!("d{n:02}"), "last": "Any" }))
        .await
        .unwrap();
    roles.grant();
    let [owner, as_daemon, viewer, operator] =
        ["owner", "daemon", "viewer", "operator"].map(|role| roles.as_role(role));

    // Before the owner has migrated: said, and nothing is changed.
    let daemon = as_daemon.start();
    let told = daemon.until_phase("doctor", "halted").await;
    assert_eq!(told["halt_code"], "target_schema_mismatch", "{told:#}");
    assert!(
        told["reason"].as_str().unwrap().contains("run `tidemark migrate` as their owner"),
        "{told:#}"
    );
    let (code, told) = run(&as_daemon, &["check"]);
    assert!(code == Some(1) && told.contains("migrate.automatic is false"), "{told}");

    // The owner migrates; the daemon goes on by itself.
    let (code, told) = run(&owner, &["migrate"]);
    assert_eq!(code, Some(0), "{told}");
    roles.grant();
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(as_daemon.until_equal(COLLECTION, TABLE).await, 60);
    for (who, arguments) in
        [(&as_daemon, &["check"][..]), (&viewer, &["check", "--role", &roles.name("daemon")])]
    {
        let (code, told) = run(who, arguments);
        assert_eq!(code, Some(0), "{told}");
        assert!(
            told.contains(&format!("{} has each that `run` needs", roles.name("daemon"))),
            "{told}"
        );
    }

    a_letter_is_retried_and_its_incident_taken_on(&roles, &operator, &viewer).await;
    a_resync_sweeps(&roles, &operator, &viewer).await;
    the_viewer_reads(&viewer).await;
    nothing_more(&roles).await;
    drop(daemon);
    roles.drop().await;
}

/// One of the events is refused; once that is mended, its letter is retried.
async fn a_letter_is_retried_and_its_incident_taken_on(
    roles: &Roles,
    operator: &World,
    viewer: &World,
) {
    let world = &roles.world;
    let doctors = world.collection(COLLECTION);
    world
        .execute("alter table public.doctor add constraint picky check (last_name <> 'Bad')")
        .await;
    doctors.insert_one(doc! { "_id": "bad", "last": "Bad" }).await.unwrap();
    doctors.delete_one(doc! { "_id": "d07" }).await.unwrap();
    world.until("a letter", "select count(*) = 1 from tidemark.dead_letter").await;
    let open = "select count(*) = 1 from tidemark.incident where code = 'dead_letters' and \
                resolved_at is null";
    world.until("an incident", open).await;
    let incident: i64 =
        world.scalar("select id from tidemark.incident where code = 'dead_letters'").await;
    let incident = incident.to_string();
    let (code, told) =
        run(operator, &["incident", "ack", &incident, "--by", "mary", "--until", "1h"]);
    assert_eq!(code, Some(0), "{told}");
    let (_, told) = run(viewer, &["incident", "show", &incident]);
    assert!(told.contains(&roles.name("operator")) && told.contains("127.0.0.1"), "{told}");
    world.execute("alter table public.doctor drop constraint picky").await;
    let (code, told) = run(
        operator,
        &["dead-letter", "retry", "--all", "doctor", "--reason", "mended", "--execute"],
    );
    assert!(code == Some(0) && told.contains("1 written"), "{told}");
}

async fn a_resync_sweeps(roles: &Roles, operator: &World, viewer: &World) {
    let world = &roles.world;
    world
        .execute("insert into public.doctor (id, doc, _cluster_time) values ('extra', '{}', 1)")
        .await;
    let (code, told) =
        run(operator, &["resync", "doctor", "--reason", "an extra row", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    world.until("swept", "select rows_deleted = 1 from tidemark.gap_report").await;
    assert_eq!(world.until_equal(COLLECTION, TABLE).await, 60);
    let (_, told) = run(viewer, &["resync", "list"]);
    let asked = format!(", as {} from 127.0.0.1: an extra row", roles.name("operator"));
    assert!(told.contains(&asked), "{told}");
}

async fn the_viewer_reads(viewer: &World) {
    let (code, told) = run(viewer, &["compare", "doctor"]);
    assert_eq!(code, Some(0), "{told}");
    // What is reported now and then.
    let is_told = async || run(viewer, &["status"]).1.contains("streaming");
    eventually("the status says that it streams", is_told).await;
    let (code, told) = run(viewer, &["resync", "doctor", "--reason", "no", "--execute"]);
    assert!(code == Some(1) && told.contains("permission denied"), "{told}");
}

async fn nothing_more(roles: &Roles) {
    roles
        .refuses(
            "viewer",
            &[
                "insert into tidemark.command (verb, stream, actor, reason) values ('resync', \
                 'doctor', 'x', 'x')",
                "update tidemark.checkpoint set epoch = 1",
                "update tidemark.incident set acked_by = 'x'",
                "delete from public.doctor",
                "create table public.x ()",
                "create table tidemark.x ()",
            ],
        )
        .await;
    roles
        .refuses(
            "operator",
            &[
                "insert into tidemark.command (verb, stream, actor, reason, db_user) values ('x', \
                 'x', 'x', 'x', 'boss')",
                "update tidemark.command set actor = 'x'",
                "update tidemark.incident set acked_user = 'boss'",
                "update tidemark.incident set summary = ''",
                "delete from tidemark.dead_letter",
                "update tidemark.lease set holder = 'x'",
                "update public.doctor set doc = '{}'",
                "create table tidemark.x ()",
            ],
        )
        .await;
    roles
        .refuses(
            "daemon",
            &[
                "create table tidemark.x ()",
                "create table public.x ()",
                "create schema x",
                "alter table public.doctor add column x text",
                "alter table tidemark.command add column x text",
                "truncate public.doctor",
                "drop table public.doctor",
                "update tidemark.release set format_min = 0",
                "delete from tidemark._sqlx_migrations",
            ],
        )
        .await;
    roles.refuses("owner", &["create schema x", "create role x"]).await;
    // Who asked cannot be told otherwise by saying so.
    let who = "select bool_and(db_user = $name and db_address = '127.0.0.1') from tidemark.command \
               where verb in ('resync', 'dead_letter_retry', 'incident ack')";
    let who = who.replace("$name", &format!("'{}'", roles.name("operator")));
    assert!(roles.world.scalar::<bool>(&who).await);
}
