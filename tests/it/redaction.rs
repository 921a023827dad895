//! Guarantee 12 for what a stream hides: what is excluded or masked is nowhere in Postgres, its
//! files and its log, in tidemark's log, status, metrics, page, notices or commands.

mod left_clear;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use devstack::{Fakes, Postgres, PostgresOptions, Stack};
use mongodb::bson::{Bson, Document, doc};
use serde_json::{Value, json};

use crate::support::{Config, Daemon, World, run, stream};

const KEY: &str = "of sixteen bytes, or more";

/// In every value that is hidden, and in no other.
const CANARY: &str = "c4n4ry";

/// In values that are not hidden, beside the hidden ones: where this is found, the other could be.
const SHOWN: &str = "5h0wn";

const HIDES: &str = r#"
exclude = ["secret", "address.street", "visits.note"]
[[stream.column]]
name = "name"
field = "name"
type = "text"
[[stream.column]]
name = "ssn"
field = "ssn"
type = "text"
aliases = ["oldSsn"]
mask = "hash"
[[stream.column]]
name = "phone"
field = "contact.phone"
type = "text"
mask = "first_3"
[[stream.column]]
name = "born"
field = "born"
type = "jsonb"
mask = "null"
[[stream.column]]
name = "codes"
field = "codes"
type = "text[]"
mask = "hash"
[[stream.column]]
name = "visit_code"
field = "visits.code"
type = "text"
mask = "hash"
"#;

const OF_CHILD: &str = r#"
[[stream.child]]
table = "person_visit"
field = "visits"
[[stream.child.column]]
name = "code"
field = "code"
type = "text"
mask = "hash"
[[stream.child.column]]
name = "at"
field = "at"
type = "text"
"#;

fn person(id: i32, name: &str) -> Document {
    let canary = |of: &str| format!("{CANARY}-{of}-{id}");
    let ssn = if id % 2 == 0 { "ssn" } else { "oldSsn" };
    let secrets = doc! { canary("key"): canary("value"), "of": [{ "all": canary("kinds") }] };
    doc! {
        "_id": id, "name": name, "shown": format!("{SHOWN}-{id}"), ssn: canary("ssn"),
        "secret": secrets,
        "address": { "street": canary("street"), "city": format!("{SHOWN}-city") },
        "contact": { "phone": format!("020{}", canary("phone")) },
        "born": { "day": canary("born") },
        "codes": [canary("one"), [canary("nested")], { "k": canary("document") }, Bson::Null],
        "visits": [
            { "note": canary("note"), "code": canary("code"), "at": format!("{SHOWN}-at") },
            [{ "note": canary("deep"), "code": [canary("deeper")] }],
        ],
    }
}

fn hashed(text: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY.as_bytes());
    let tag = ring::hmac::sign(&key, text.as_bytes());
    hex(&tag.as_ref()[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The row's `doc`.
fn expected(id: i32, name: &str) -> Value {
    let canary = |of: &str| hashed(&format!("{CANARY}-{of}-{id}"));
    let document = hashed(&format!("{{\"k\":\"{CANARY}-document-{id}\"}}"));
    let ssn = if id % 2 == 0 { "ssn" } else { "oldSsn" };
    json!({
        "_id": id, "name": name, "shown": format!("{SHOWN}-{id}"), ssn: canary("ssn"),
        "address": { "city": format!("{SHOWN}-city") }, "contact": { "phone": "020" },
        "born": null, "codes": [canary("one"), [canary("nested")], document, null],
        "visits": [
            { "code": canary("code"), "at": format!("{SHOWN}-at") },
            [{ "code": [canary("deeper")] }],
        ],
    })
}

/// Refuses rows by name, and tries to have their content told.
const TELLTALE: &str = "create function public.telltale() returns trigger language plpgsql as $$ \
                        begin raise warning '%', new.doc; if new.name = 'Loud' then raise \
                        exception 'no: %', new.doc using detail = new.doc, hint = new.doc; end \
                        if; return new; end $$; create trigger telltale before insert or update on \
                        public.person for each row execute function public.telltale(); alter table \
                        public.person add constraint picky check (name <> 'Bad')";

async fn letters(world: &World, number: usize) {
    let sql = format!("select count(*) = {number} from tidemark.dead_letter");
    world.until(&format!("{number} are set aside"), &sql).await;
}

/// A row for every document that was not refused, each as expected.
async fn until_rows(world: &World, rows: &[(i32, &str)]) {
    for (id, name) in rows {
        let doc = expected(*id, name);
        let sql = format!("select doc = '{doc}' from public.person where doc ->> '_id' = '{id}'");
        world.until(&format!("{id} is as expected: {doc}"), &sql).await;
    }
}

/// What befalls documents, each in a way of its own.
async fn live(world: &World) {
    let people = world.collection("person");
    let one = |id: i32| doc! { "_id": id };
    people.insert_many([person(1_000, "Any"), person(1_001, "Bad")]).await.unwrap();
    people.insert_one(person(1_002, "Loud")).await.unwrap();
    let update = doc! { "$set": { "address.street": format!("{CANARY}-again"), "name": "New" } };
    people.update_one(one(1), update).await.unwrap();
    let item = doc! { "$set": { "visits.0.note": format!("{CANARY}-item"), "name": "Bad" } };
    people.update_one(one(2), item).await.unwrap();
    people.replace_one(one(3), person(3, "Replaced")).await.unwrap();
    people.replace_one(one(4), person(4, "Bad")).await.unwrap();
    people.delete_one(one(5)).await.unwrap();
    // A foreign key keeps this one.
    people.delete_one(one(6)).await.unwrap();
    letters(world, 6).await;
    let gone = "select count(*) = 0 from public.person where doc ->> '_id' = '5'";
    world.until("one is deleted", gone).await;
    until_rows(world, &[(1_000, "Any"), (3, "Replaced")]).await;
}

/// Where there is something to be found: each place by name, with what it holds.
async fn places(world: &World, data: &Path, fakes: &Fakes, daemon: &Daemon) -> Vec<Place> {
    let mut places = vec![
        ("notices", fakes.raw().into_bytes()),
        ("log", daemon.log().into_bytes()),
        ("configuration", run(world, &["check", "--print"]).1.into_bytes()),
    ];
    for path in ["/status", "/metrics", "/", "/readyz"] {
        places.push((path, daemon.get(path).await.1.into_bytes()));
    }
    for command in [
        &["status", "--json"][..],
        &["incident", "list", "--json"],
        &["dead-letter", "list"],
        &["resync", "list", "--json"],
        &["check"],
        &["compare", "person", "--json"],
        &["init", "--all", "--json"],
    ] {
        places.push((command[0], run(world, command).1.into_bytes()));
    }
    for id in world.column("select id::text from tidemark.dead_letter order by id limit 6").await {
        let shown = run(world, &["dead-letter", "show", &id, "--event", "--json"]);
        places.push(("dead-letter show", shown.1.into_bytes()));
    }
    world.execute("checkpoint").await;
    let tables = world
        .column(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in \
             ('public', 'tidemark')",
        )
        .await;
    for table in tables {
        let rows = world.column(&format!("select t::text from {table} as t")).await;
        places.push(("rows", rows.join("\n").into_bytes()));
    }
    for file in files(data) {
        places.push(("files", std::fs::read(&file).unwrap_or_default()));
    }
    places.into_iter().map(|(name, bytes)| Place { name, bytes }).collect()
}

struct Place {
    name: &'static str,
    bytes: Vec<u8>,
}

impl Place {
    /// Around the first find, if it holds this, as it is or as the digits of a `bytea`.
    fn find(&self, what: &str) -> Option<String> {
        let digits = hex(what.as_bytes());
        let found = [what, &digits]
            .into_iter()
            .find_map(|needle| memchr::memmem::find(&self.bytes, needle.as_bytes()))?;
        let around = found.saturating_sub(200)..(found + 80).min(self.bytes.len());
        Some(format!("{}: …{}", self.name, String::from_utf8_lossy(&self.bytes[around])))
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn config(fakes: &Fakes, mode: &str, key_file: &Path) -> Config {
    let extra = format!(
        "{}alert.resolve_hold = \"1s\"\nlog.filter = \"debug\"\nrecord.mask_key_file = \"{}\"\n",
        fakes.config(),
        key_file.display()
    );
    // A first snapshot into a table of an array is no COPY.
    let child = if mode == "required" { OF_CHILD } else { "" };
    let rest = format!("post_image = {mode:?}\nhistory = true\n{HIDES}{child}");
    Config { extra, streams: stream("person", "person", &rest), ..Config::default() }
}

async fn nothing_hidden_is_found(mode: &str) {
    let fakes = Fakes::start().unwrap();
    let room = PathBuf::from("/tmp");
    let postgres =
        Postgres::start(&PostgresOptions { room: Some(room), ..PostgresOptions::default() })
            .unwrap();
    let database = postgres.database().await.unwrap();
    let key_file = std::env::temp_dir().join(devstack::unique("mask-key"));
    std::fs::write(&key_file, format!("{KEY}\n")).unwrap();
    let config = config(&fakes, mode, &key_file);
    let world = World::of(&Stack::shared().mongo.uri(), &postgres.url(&database), config).await;
    let options = doc! { "create": "person", "changeStreamPreAndPostImages": { "enabled": true } };
    world.source.run_command(options).await.unwrap();
    let people = world.collection("person");
    // Enough for COPY, with one that is refused among them.
    people.insert_many((0..600).map(|id| person(id, "Any"))).await.unwrap();
    people.replace_one(doc! { "_id": 300 }, person(300, "Bad")).await.unwrap();
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world.execute(TELLTALE).await;
    let mut daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    letters(&world, 1).await;
    world
        .execute(
            "create table public.visit (person text references public.person (id)); insert into \
             public.visit select id from public.person where doc ->> '_id' = '6'",
        )
        .await;
    live(&world).await;
    let events: Vec<String> = world.column("select operation from tidemark.dead_letter").await;
    assert_eq!(events.iter().filter(|operation| *operation == "snapshot").count(), 1, "{events:?}");

    // A row that somebody changed, a walk of all, and what was refused once more.
    world.execute("update public.person set doc = '{}' where doc ->> '_id' = '7'").await;
    let (code, said) = run(&world, &["compare", "person"]);
    assert!(code == Some(1) && !said.contains(CANARY), "{said}");
    let resync = ["resync", "person", "--reason", "a test", "--execute"];
    assert_eq!(run(&world, &resync).0, Some(0));
    until_rows(&world, &[(7, "Any"), (8, "Any"), (599, "Any")]).await;
    let mut places = places(&world, &data(&postgres).await, &fakes, &daemon).await;
    let dump = postgres.dump(&database).unwrap().output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    places.push(Place { name: "pg_dump", bytes: dump.stdout });
    for place in &places {
        assert_eq!(place.find(CANARY), None);
    }
    for name in ["rows", "files", "pg_dump", "dead-letter show"] {
        let is_found = places.iter().any(|place| place.name == name && place.find(SHOWN).is_some());
        assert!(is_found, "what is not hidden is found in {name}");
    }

    let mend = "drop trigger telltale on public.person; alter table public.person drop constraint \
                picky; drop table public.visit";
    world.execute(mend).await;
    let retry = ["dead-letter", "retry", "--all", "person", "--reason", "mended", "--execute"];
    let (code, said) = run(&world, &retry);
    assert_eq!(code, Some(0), "{said}");
    until_rows(&world, &[(2, "Bad"), (4, "Bad"), (300, "Bad"), (1_001, "Bad"), (1_002, "Loud")])
        .await;
    let (code, said) = run(&world, &["compare", "person", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(daemon.stop().0, Some(0), "{}", daemon.log());
    world.execute("checkpoint").await;
    for file in files(&data(&postgres).await) {
        let place = Place { name: "files", bytes: std::fs::read(&file).unwrap_or_default() };
        assert_eq!(place.find(CANARY), None, "{}", file.display());
    }
    let _ = std::fs::remove_file(key_file);
}

/// The folder of a server's data and of its log.
async fn data(postgres: &Postgres) -> PathBuf {
    let mut connection = postgres.connect("postgres").await.unwrap();
    let data: String =
        sqlx::query_scalar("show data_directory").fetch_one(&mut connection).await.unwrap();
    PathBuf::from(data).parent().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hidden_is_found_anywhere_where_documents_are_looked_up() {
    nothing_hidden_is_found("lookup").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hidden_is_found_anywhere_where_events_bring_documents() {
    nothing_hidden_is_found("required").await;
}

/// Letters from before are rewritten when their stream begins to hide, the resolved ones too, step
/// by step; and again when it hides more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_stand_are_rewritten_when_a_stream_begins_to_hide() {
    let shows = || Config { streams: stream("person", "person", ""), ..Config::default() };
    let world = World::with(shows()).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world.execute("alter table public.person add check (doc ->> 'name' <> 'Bad')").await;
    let people = world.collection("person");
    people.insert_many([person(1, "Any"), person(2, "Bad"), person(3, "Bad")]).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    letters(&world, 2).await;
    let padded = |id: i32| {
        let mut whole = person(id, "Bad");
        whole.insert("padding", "x".repeat(2 << 20));
        whole
    };
    for id in 4..9 {
        people.insert_one(padded(id)).await.unwrap();
    }
    let update = doc! { "$set": { "address.street": format!("{CANARY}-update"), "name": "Bad" } };
    people.update_one(doc! { "_id": 1 }, update).await.unwrap();
    letters(&world, 8).await;
    // A try that is rolled back takes numbers, too.
    let ids = world.column("select id::text from tidemark.dead_letter order by id").await;
    let (discard, rest) = (["dead-letter", "discard", &ids[0]], ["--reason", "x", "--execute"]);
    assert_eq!(run(&world, &[discard, rest].concat()).0, Some(0));
    let (letters, last) = ("select count(*) from tidemark.dead_letter where position", &ids[7]);
    let anywhere = format!("{letters}('{CANARY}'::bytea in event) > 0");
    let canaries = format!("{anywhere} and id <= {last}");
    assert_eq!(world.scalar::<i64>(&canaries).await, 8, "there is something to hide");
    assert_eq!(daemon.stop().0, Some(0));

    let key = format!("record.mask_key = {KEY:?}\n");
    let hides = |rest: &str| Config {
        extra: key.clone(),
        streams: stream("person", "person", rest),
        ..Config::default()
    };
    world.configure(&hides("exclude = [\"secret\"]"));
    let mut daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    let rewritten = |number: usize| format!("\"letters\":{number}");
    assert!(daemon.log().contains(&rewritten(8)), "{}", daemon.log());
    let left = "select count(*) from tidemark.dead_letter where position('secret'::bytea in event) \
                > 0";
    assert_eq!(world.scalar::<i64>(left).await, 0);
    // Of the update, its description was all that held any.
    assert_eq!(world.scalar::<i64>(&canaries).await, 7, "the rest is not hidden yet");
    assert_eq!(daemon.stop().0, Some(0));

    world.configure(&hides(HIDES));
    let mut daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    assert!(daemon.log().contains(&rewritten(16)), "{}", daemon.log());
    assert_eq!(world.scalar::<i64>(&anywhere).await, 0);
    let one = "select count(*) = 1 from tidemark.dead_letter where operation = 'update' and \
               position('fullDocument'::bytea in event) = 0 and code = 'refused'";
    assert_eq!(daemon.stop().0, Some(0));
    let marks = "select count(distinct redaction) from tidemark.dead_letter";
    assert_eq!(world.scalar::<i64>(marks).await, 1);
    assert!(world.scalar::<bool>(one).await, "of an update its document was never in the event");

    // Nothing is rewritten twice; and every letter can still be retried.
    world.execute("alter table public.person drop constraint person_doc_check").await;
    let daemon = world.start();
    daemon.until_phase("person", "streaming").await;
    assert!(!daemon.log().contains("rewritten"), "{}", daemon.log());
    let retry = ["dead-letter", "retry", "--all", "person", "--reason", "mended", "--execute"];
    let (code, said) = run(&world, &retry);
    assert!(code == Some(0) && said.contains("23 written"), "{said}");
}
