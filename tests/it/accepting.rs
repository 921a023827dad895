//! Guarantees 8 and 10: a refusal too many has a way on, a refusal of tidemark's own tables or a
//! panic stops one stream, and a letter is retried for its own document.

use std::fmt::Write as _;

use devstack::Fakes;
use mongodb::bson::doc;

use crate::alerting::{DOCTORS, TABLE, until};
use crate::refusals::{insert, letters, migrated, retried, the_other_goes_on};
use crate::support::{run, state};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_refusals_of_one_cause_than_an_accident_pass_if_a_person_says_so() {
    let world = migrated("").await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    // Ids that no index takes, and that do not compress.
    let mut rng = fastrand::Rng::with_seed(24);
    let mut long = || {
        (0..400).fold(String::new(), |mut id, _| {
            let _ = write!(id, "{:08x}", rng.u32(..));
            id
        })
    };
    let of = |id: String| doc! { "_id": id, "doctorLastName": "Any" };
    let doctors = world.collection(DOCTORS);
    doctors.insert_many((0..101).map(|_| of(long()))).await.unwrap();
    let mut daemon = world.start();
    let status = daemon.until("doctor", "halts", |s| s["halt_code"] == "dead_letter_rate").await;
    let reason = status["reason"].as_str().unwrap();
    assert!(
        reason.contains("101 of them for one cause") && reason.contains("SQLSTATE 54000"),
        "{reason}"
    );
    the_other_goes_on(&world, &mut daemon).await;

    let accept = ["dead-letter", "accept", "doctor", "--count", "5", "--reason", "ids of a test"];
    let (code, said) = run(&world, &accept);
    assert!(code == Some(0) && said.contains("--execute") && said.contains("54000"), "{said}");
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    let (code, said) = run(&world, &[&accept[..], &["--execute"]].concat());
    assert!(code == Some(0) && said.contains("5 more may be set aside"), "{said}");
    letters(&world, 101).await;
    daemon.until_phase("doctor", "streaming").await;
    let left = &state::letters_accepted("doctor");
    assert_eq!(world.scalar::<i64>(left).await, 4);
    // What is left of it is kept with each commit, and is the limit.
    for used in 1..=4 {
        doctors.insert_one(of(long())).await.unwrap();
        letters(&world, 101 + used).await;
    }
    assert_eq!(world.scalar::<i64>(left).await, 0);
    doctors.insert_one(of(long())).await.unwrap();
    daemon.until("doctor", "halts again", |s| s["halt_code"] == "dead_letter_rate").await;
    assert_eq!(run(&world, &[&accept[..], &["--execute"]].concat()).0, Some(0));
    letters(&world, 106).await;
    insert(&world, [1], "Any").await;
    world.until("what fits lands", "select array_agg(id) = '{1}' from public.doctor").await;
    let recorded = "select count(*) = 2 from tidemark.command where verb = 'dead_letter_accept' \
         and reason = 'ids of a test' and done_at is not null";
    world.until("it is recorded", recorded).await;
    doctors.delete_many(doc! { "_id": { "$ne": "1" } }).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_tidemarks_own_tables_stops_the_stream_that_meets_it_and_no_other() {
    let world = migrated("").await;
    world
        .execute("alter table public.doctor add constraint picky check (last_name <> 'Bad')")
        .await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let raise = "create function public.no() returns trigger language plpgsql as \
         $$ begin raise exception 'no, %', new; end $$; \
         create trigger no before insert on tidemark.";
    let troubles = [
        (
            "alter table tidemark.dead_letter add constraint none check (false) not valid"
                .to_owned(),
            "alter table tidemark.dead_letter drop constraint none",
        ),
        (
            format!("{raise}dead_letter for each row execute function public.no()"),
            "drop function public.no cascade",
        ),
    ];
    for (turn, (own, off)) in troubles.into_iter().enumerate() {
        world.execute("delete from tidemark.dead_letter").await;
        world.execute(&own).await;
        insert(&world, [turn * 2], "Bad").await;
        insert(&world, [turn * 2 + 1], "Any").await;
        daemon.until("doctor", "halts", |s| s["halt_code"] == "target_schema_mismatch").await;
        the_other_goes_on(&world, &mut daemon).await;
        world.execute(off).await;
        letters(&world, 1).await;
        daemon.until_phase("doctor", "streaming").await;
    }
    // The same for a walk's.
    daemon.stop();
    world.execute(&format!("{raise}resync_seen for each row execute function public.no()")).await;
    state::lose_position(&world, "doctor").await;
    let mut daemon = world.start();
    daemon.until("doctor", "halts", |s| s["halt_code"] == "target_schema_mismatch").await;
    the_other_goes_on(&world, &mut daemon).await;
    world
        .execute("drop function public.no cascade; alter table public.doctor drop constraint picky")
        .await;
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_invariant_stops_its_stream_and_sentry_hears_of_its_place_once() {
    let fakes = Fakes::start().unwrap();
    let extra = format!(
        "{}resync.documents_per_second_max = 10\nresync.chunk_documents = 5\n",
        fakes.config()
    );
    let world = migrated(&extra).await;
    insert(&world, 0..200, "Any").await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "snapshotting").await;
    // Somebody ends the walk behind its back.
    world.execute("update tidemark.resync set state = 'failed' where stream = 'doctor'").await;
    let status = daemon.until("doctor", "halts", |s| s["halt_code"] == "stalled").await;
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("is not under way any more (src/apply/row_writer.rs:"), "{reason}");
    the_other_goes_on(&world, &mut daemon).await;
    daemon.until_phase("doctor", "streaming").await;
    let (code, said) =
        run(&world, &["resync", "doctor", "--reason", "half a snapshot", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    world.until_equal(DOCTORS, TABLE).await;
    let told = || fakes.events().into_iter().filter(|event| event["level"] == "fatal");
    until("it is told", &world, || told().next().is_some()).await;
    assert_eq!(told().count(), 1);
    assert!(
        told().all(|event| event["message"].as_str().unwrap().contains("src/apply/row_writer.rs:"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_is_not_retried_for_a_document_whose_id_is_equal_but_of_another_type() {
    let world = migrated("").await;
    world
        .execute("alter table public.doctor add constraint picky check (last_name <> 'Bad')")
        .await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let doctors = world.collection(DOCTORS);
    doctors.insert_one(doc! { "_id": 7_i32, "doctorLastName": "Bad" }).await.unwrap();
    letters(&world, 1).await;
    doctors.delete_one(doc! { "_id": 7_i32 }).await.unwrap();
    doctors.insert_one(doc! { "_id": 7_i64, "doctorLastName": "Good" }).await.unwrap();
    world.until("the other one is there", "select count(*) = 1 from public.doctor").await;
    retried(&world, 0, "1 written");
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 1);
    world
        .until("nothing is open", "select count(*) = 0 from tidemark.command where done_at is null")
        .await;
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
}
