//! Guarantees 8, 10 and 12 where Postgres refuses: what one row causes is found and set aside
//! whole, deletes included and whatever the SQLSTATE; the rest lands; no text of a trigger's is
//! repeated; the other stream never notices.

use devstack::Fakes;
use devstack::revalidation::RECOMMENDATIONS;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};

use crate::alerting::{DOCTORS, TABLE, until, until_incident};
use crate::support::{Config, Daemon, World, run, state};

/// What a trigger's texts and names hold.
const CANARY: &str = "c4n4ry";

/// What a refusal's states may be, none of which is what it says.
const STATES: [&str; 9] =
    ["P0001", "57014", "42501", "40001", "53100", "XX000", "0A000", "25006", "ZZ001"];

pub async fn migrated(extra: &str) -> World {
    let world =
        World::with(Config { apart: true, extra: extra.to_owned(), ..Config::default() }).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
}

pub async fn insert(world: &World, ids: impl IntoIterator<Item = usize>, name: &str) {
    let of =
        |id: usize| doc! { "_id": id.to_string(), "doctorLastName": name, "doctorStatus": "DRAFT" };
    let documents: Vec<Document> = ids.into_iter().map(of).collect();
    world.collection(DOCTORS).insert_many(documents).await.unwrap();
}

/// The other stream follows, and the process is the one that was started.
pub async fn the_other_goes_on(world: &World, daemon: &mut Daemon) {
    let recommendation = doc! { "_id": ObjectId::new(), "gmcNumber": "1" };
    world.collection(RECOMMENDATIONS).insert_one(recommendation).await.unwrap();
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    assert!(daemon.is_running(), "{}", daemon.log());
}

pub async fn letters(world: &World, number: usize) {
    let sql =
        format!("select count(*) = {number} from tidemark.dead_letter where resolved_at is null");
    world.until(&format!("{number} are set aside"), &sql).await;
}

/// One that is open: its document, operation, code, error, and event.
async fn letter(world: &World) -> (String, String, String, String, Document) {
    let (id, operation, code, error, event): (String, String, String, String, Vec<u8>) = world
        .row(
            "select document_id, operation, code, error, event from tidemark.dead_letter \
             where resolved_at is null",
        )
        .await;
    (id, operation, code, error, mongodb::bson::deserialize_from_slice(&event).unwrap())
}

pub fn retried(world: &World, code: i32, says: &str) {
    let arguments = ["dead-letter", "retry", "--all", "doctor", "--reason", "mended", "--execute"];
    let (exit, said) = run(world, &arguments);
    assert!(exit == Some(code) && said.contains(says), "{said}\n{}", world.logs());
}

const VISIT: &str = "create table public.visit (doctor text references public.doctor (id)); \
     insert into public.visit values ('7')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_a_foreign_key_refuses_is_set_aside_and_done_once_it_may_be() {
    let world = migrated("").await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    insert(&world, 0..20, "Any").await;
    world.until_equal(DOCTORS, TABLE).await;
    world.execute(VISIT).await;
    world.collection(DOCTORS).delete_many(doc! {}).await.unwrap();
    letters(&world, 1).await;
    world.until("the rest is deleted", "select array_agg(id) = '{7}' from public.doctor").await;
    let (id, operation, code, error, event) = letter(&world).await;
    assert_eq!((id.as_str(), operation.as_str(), code.as_str()), ("7", "delete", "refused"));
    assert!(error.contains("visit_doctor_fkey") && error.contains("23503"), "{error}");
    assert_eq!(
        event.get_document("documentKey").unwrap(),
        &doc! { "_id": "7" },
        "the event, whole"
    );
    the_other_goes_on(&world, &mut daemon).await;
    let counted =
        daemon.metric("tidemark_dead_letters_total{code=\"refused\",stream=\"doctor\"}").await;
    assert_eq!(counted, 1.0);
    let status = daemon.stream("doctor").await;
    let number = |name: &str| status[name].as_u64().unwrap();
    assert_eq!(number("events_received"), number("events_applied") + number("dead_letters"));
    retried(&world, 1, "visit_doctor_fkey");
    world.execute("delete from public.visit").await;
    retried(&world, 0, "1 written");
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_of_a_sweep_that_is_refused_is_set_aside_with_its_key() {
    let world = migrated("").await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    insert(&world, 0..30, "Any").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.stop();
    world.execute(VISIT).await;
    let gone: Vec<String> = (5..15).map(|n: i32| n.to_string()).collect();
    world.collection(DOCTORS).delete_many(doc! { "_id": { "$in": gone } }).await.unwrap();
    state::lose_position(&world, "doctor").await;
    let mut daemon = world.start();
    let ended = "select state = 'completed' and rows_deleted = 9 from tidemark.resync \
         where reason <> 'first_snapshot'";
    world.until("the resync ends, nine rows are deleted", ended).await;
    letters(&world, 1).await;
    let (id, operation, code, _, event) = letter(&world).await;
    assert_eq!((id.as_str(), operation.as_str(), code.as_str()), ("7", "delete", "refused"));
    assert_eq!(event, doc! { "_id": "7" });
    the_other_goes_on(&world, &mut daemon).await;
    world.execute("drop table public.visit").await;
    retried(&world, 0, "1 written");
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_commit_would_refuse_is_found_and_set_aside() {
    let world = migrated("").await;
    world
        .execute(
            "create table public.body (code text primary key); \
             insert into public.body values ('1-A'); \
             alter table public.doctor add constraint known_body \
             foreign key (designated_body_code) references public.body \
             deferrable initially deferred",
        )
        .await;
    let with = |id: usize, body: &str| doc! { "_id": id.to_string(), "designatedBodyCode": body };
    let doctors = world.collection(DOCTORS);
    // Enough for COPY.
    doctors.insert_many((0..150).map(|n| with(n, "1-A")).chain([with(150, "1-X")])).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    letters(&world, 1).await;
    doctors
        .insert_many((200..220).map(|n| with(n, "1-A")).chain([with(220, "1-Y")]))
        .await
        .unwrap();
    letters(&world, 2).await;
    world.until("the rest is there", "select count(*) = 170 from public.doctor").await;
    let errors = world.column("select error from tidemark.dead_letter").await;
    assert!(errors.iter().all(|error| error.contains("known_body")), "{errors:?}");
    // And a delete.
    world
        .execute(
            "create table public.visit (doctor text references public.doctor (id) \
             deferrable initially deferred); insert into public.visit values ('7')",
        )
        .await;
    doctors.delete_many(doc! { "_id": { "$in": ["6", "7", "8"] } }).await.unwrap();
    letters(&world, 3).await;
    world.until("the rest is gone", "select count(*) = 168 from public.doctor").await;
    // Even if a trigger puts off again what is to be checked, so that it is COMMIT that refuses.
    world
        .execute(
            "create function public.later() returns trigger language plpgsql as \
             $$ begin set constraints all deferred; return new; end $$; \
             create trigger later before insert on public.doctor \
             for each row execute function public.later()",
        )
        .await;
    let late = (300..310).map(|n| with(n, "1-A")).chain([with(310, "1-Z")]);
    doctors.insert_many(late).await.unwrap();
    letters(&world, 4).await;
    the_other_goes_on(&world, &mut daemon).await;
    assert!(!daemon.log().contains("commit without an answer"), "{}", daemon.log());
    world.execute("drop table public.visit, public.body cascade").await;
    retried(&world, 0, "4 written");
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 180);
}

/// Refuses with the state the document names, and tries to have its content told in every way there
/// is.
const TELLTALE: &str = "create function public.telltale() returns trigger language plpgsql as $$ \
                        begin raise info '%', new.doc; raise warning '%', new.doc; if \
                        new.last_name like 'c4n4ry_____' then raise exception 'no: %', new.doc \
                        using errcode = right(new.last_name, 5), constraint = new.last_name, \
                        column = new.last_name, detail = new.doc, hint = new.doc; elsif \
                        new.last_name = 'c4n4ry' then perform * from nowhere; elsif new.last_name \
                        = 'c4n4ry?' then execute 'select ' || (new.doc ->> 'doctorLastName'); end \
                        if; return new; end $$; create trigger telltale before insert or update on \
                        public.doctor for each row execute function public.telltale()";

/// Nothing that was said or sent, or is shown, holds the canary.
async fn nothing_leaked(world: &World, fakes: &Fakes, daemon: &Daemon) {
    let mut said = vec![fakes.raw(), daemon.log(), run(world, &["dead-letter", "list"]).1];
    for path in ["/status", "/metrics", "/", "/readyz"] {
        said.push(daemon.get(path).await.1);
    }
    said.extend([
        run(world, &["status", "--json"]).1,
        run(world, &["incident", "list", "--json"]).1,
    ]);
    said.extend(world.column(state::HALT_REASONS).await);
    said.extend(world.column("select error from tidemark.dead_letter").await);
    for text in said {
        let at = text.find(CANARY).unwrap_or_default();
        let from = text.floor_char_boundary(at.saturating_sub(300));
        assert!(!text.contains(CANARY), "…{}", &text[from..text.floor_char_boundary(at + 60)]);
    }
}

fn told(fakes: &Fakes, rest: &str) -> String {
    let quick = "alert.resolve_hold = \"1s\"\nretry.escalate_after = \"1s\"\n";
    format!("{}{quick}log.filter = \"debug\"\n{rest}", fakes.config())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_a_trigger_refuses_is_set_aside_whatever_its_state_and_its_text_told_to_nobody()
{
    let fakes = Fakes::start().unwrap();
    let world = migrated(&told(&fakes, "")).await;
    world.execute(TELLTALE).await;
    let name = |state: &str| format!("{CANARY}{state}");
    // All in one batch, among others; the last two are refused with a state that could be the
    // table's.
    let bad: Vec<String> =
        STATES.iter().map(|state| name(state)).chain([name(""), name("?")]).collect();
    for (number, name) in bad.iter().enumerate() {
        insert(&world, number * 10..number * 10 + 5, "Any").await;
        insert(&world, [number * 10 + 5], name).await;
    }
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    letters(&world, bad.len()).await;
    world.until("the rest is there", "select count(*) = 55 from public.doctor").await;
    // And each alone.
    for (number, state) in STATES.iter().enumerate() {
        insert(&world, [1_000 + number], &name(state)).await;
        letters(&world, bad.len() + number + 1).await;
    }
    until_incident(&daemon, "it is told", |i| i.iter().any(|i| i["code"] == "dead_letters")).await;
    until("Slack and Sentry are told", &world, || {
        !fakes.roots().is_empty() && !fakes.events().is_empty()
    })
    .await;
    the_other_goes_on(&world, &mut daemon).await;
    assert_eq!(daemon.stream("doctor").await["halt_code"], serde_json::Value::Null);
    nothing_leaked(&world, &fakes, &daemon).await;
    world.execute("drop trigger telltale on public.doctor").await;
    retried(&world, 0, "20 written");
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_row_is_refused_with_stops_the_stream_by_its_cause_and_nothing_is_set_aside() {
    let fakes = Fakes::start().unwrap();
    let rate = "record.dead_letter_count_min = 5\nrecord.dead_letter_fraction_max = 0.0001\n";
    let world = migrated(&told(&fakes, rate)).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    world.execute(TELLTALE).await;
    insert(&world, 0..20, &format!("{CANARY}P0001")).await;
    let mut daemon = world.start();
    let status = daemon.until("doctor", "halts", |s| s["halt_code"] == "dead_letter_rate").await;
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("for one cause") && reason.contains("SQLSTATE P0001"), "{reason}");
    assert!(reason.contains("dead-letter accept"), "{reason}");
    until("Slack and Sentry are told", &world, || {
        !fakes.roots().is_empty() && !fakes.events().is_empty()
    })
    .await;
    the_other_goes_on(&world, &mut daemon).await;
    // A table that no row fits into is not its rows' trouble. At once: in between, the rows would
    // pass.
    let misfit =
        "drop trigger telltale on public.doctor; alter table public.doctor rename last_name to x";
    world.execute(misfit).await;
    daemon.until("doctor", "says so", |s| s["halt_code"] == "target_schema_mismatch").await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    nothing_leaked(&world, &fakes, &daemon).await;
    world.execute("alter table public.doctor rename x to last_name").await;
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_rows_refer_to_each_other_loses_none_of_them_to_one_that_is_refused() {
    let world = migrated("").await;
    // The admin is the id of another doctor, who may come later in the batch.
    world
        .execute(
            "alter table public.doctor add constraint known_admin foreign key (admin) \
             references public.doctor (id), add constraint picky check (last_name <> 'Bad')",
        )
        .await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    let of = |n: usize| {
        doc! { "_id": n.to_string(), "admin": (n + 1).to_string(), "doctorLastName": "Any" }
    };
    let last = doc! { "_id": "20", "doctorLastName": "Any" };
    let bad = doc! { "_id": "99", "doctorLastName": "Bad" };
    world.collection(DOCTORS).insert_many((0..20).map(of).chain([last, bad])).await.unwrap();
    let daemon = world.start();
    letters(&world, 1).await;
    assert_eq!(letter(&world).await.0, "99");
    world.until("the rest is there", "select count(*) = 21 from public.doctor").await;
    world.execute("alter table public.doctor drop constraint picky").await;
    retried(&world, 0, "1 written");
    world.until_equal(DOCTORS, TABLE).await;
    drop(daemon);
}
