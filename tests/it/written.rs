//! Guarantee 9 where incidents are written down: one that cannot be stands before no other;
//! Postgres may lose rows.

use devstack::{Fakes, Proxy, Stack};
use tidemark::alert::Observed;

use crate::alerting::{DOCTORS, TABLE, is_resolved, until, world};
use crate::channels::{Bench, halted, header, lost, observed, well};
use crate::one_thread::{follow_then_lose, resync};

fn both(bench: &Bench) -> Observed {
    observed(vec![
        halted("recommendation", "history_lost", bench),
        halted("doctor", "dead_letter_rate", bench),
    ])
}

const KEPT: &str = "select code || ' ' || state from tidemark.incident order by code";

#[tokio::test]
async fn an_incident_whose_row_is_gone_is_written_anew_and_stands_before_no_other() {
    let mut bench = Bench::new("").await;
    bench.turns(1, 3, lost).await;
    let tag = "select tag::text from tidemark.incident where code = 'history_lost'";
    let before: String = bench.world.scalar(tag).await;
    bench.world.execute("delete from tidemark.incident").await;
    // The first has changed since it was last written down; the second opens.
    for _ in 0..3 {
        let seen = both(&bench);
        bench.turn(61, &seen).await;
    }
    assert_eq!(bench.world.column(KEPT).await, ["dead_letter_rate open", "history_lost open"]);
    assert_eq!(bench.world.scalar::<String>(tag).await, before, "it is the same incident");
    let told: Vec<String> = bench.fakes.roots().iter().map(header).collect();
    let expected =
        ["🔴 recommendation: history lost", "🔴 doctor: too many events cannot be stored"];
    assert_eq!(told, expected);
    let deliveries = "select count(*) from tidemark.outbox where not pending";
    assert_eq!(bench.world.scalar::<i64>(deliveries).await, 4, "two channels know of both");
    bench.turns(31, 3, well).await;
    let ended = ["dead_letter_rate resolved", "history_lost resolved"];
    assert_eq!(bench.world.column(KEPT).await, ended);
}

#[tokio::test]
async fn an_incident_that_postgres_refuses_is_told_and_stands_before_no_other() {
    let mut bench = Bench::new("").await;
    let refuse = "create function no() returns trigger language plpgsql as \
                  'begin raise exception ''not this one''; end'; \
                  create trigger no before insert or update on tidemark.incident for each row \
                  when (new.code = 'history_lost') execute function no()";
    bench.world.execute(refuse).await;
    for _ in 0..10 {
        let seen = both(&bench);
        bench.turn(5, &seen).await;
    }
    assert_eq!(bench.world.column(KEPT).await, ["dead_letter_rate open"]);
    let mut told: Vec<String> = bench.fakes.roots().iter().map(header).collect();
    told.sort();
    let expected =
        ["🔴 doctor: too many events cannot be stored", "🔴 recommendation: history lost"];
    assert_eq!(told, expected, "one that cannot be written down is told from memory");
    bench.world.execute("drop trigger no on tidemark.incident").await;
    for _ in 0..3 {
        let seen = both(&bench);
        bench.turn(60, &seen).await;
    }
    assert_eq!(bench.world.column(KEPT).await, ["dead_letter_rate open", "history_lost open"]);
    assert_eq!(bench.fakes.roots().len(), 2, "each was told once");
}

#[tokio::test]
async fn a_lost_answer_to_an_incidents_insert_does_not_double_its_count() {
    let stack = Stack::shared();
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let database = stack.postgres.database().await.unwrap();
    let url = format!("postgres://tidemark@127.0.0.1:{}/{database}", proxy.port());
    let mut bench = Bench::through(Fakes::start().unwrap(), &url, "").await;
    proxy.swallow_reply_to(b"the resume token was not found");
    let seen = lost(&bench);
    for _ in 0..4 {
        bench.turn(2, &seen).await;
    }
    assert_eq!(proxy.swallowed(), 1);
    let row = "select count(*), max(count) from tidemark.incident";
    assert_eq!(bench.world.row::<(i64, i64)>(row).await, (1, 1));
    bench.only_root();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgres_has_lost_of_incidents_is_written_anew_while_the_daemon_runs() {
    let fakes = Fakes::start().unwrap();
    let world = world(&fakes, "resync.automatic = false\n").await;
    follow_then_lose(&world).await;
    let daemon = world.start();
    until("the first is told", &world, || fakes.roots().len() == 1).await;
    let letter = "delete from tidemark.incident; insert into tidemark.dead_letter \
                  (stream, operation, event, code, error) values ('recommendation', 'insert', '', \
                  'refused', 'no')";
    world.execute(letter).await;
    until("the second is told", &world, || fakes.roots().len() == 2).await;
    let both = "select array_agg(code || ' ' || state order by code) = \
                '{dead_letters open,history_lost open}' from tidemark.incident";
    world.until("both are written down", both).await;
    let told = "select count(*) = 4 from tidemark.outbox where told = 1 and not pending";
    world.until("it is known who was told", told).await;
    world.execute("delete from tidemark.outbox").await;
    world.until("it is known again who was told", told).await;

    world.execute("create table before as select * from tidemark.incident").await;
    resync(&world);
    let ended = "select resolved_at is not null from tidemark.incident where code = 'history_lost'";
    world.until("the first is over", ended).await;
    // Postgres goes back to where it was open.
    let back = "update tidemark.incident i set state = b.state, resolved_at = b.resolved_at, \
                detail = b.detail from before b where b.id = i.id";
    world.execute(back).await;
    world.until("the first is over again", ended).await;
    world.execute("delete from tidemark.dead_letter").await;
    until("both are green", &world, || fakes.roots().iter().all(is_resolved)).await;
    assert_eq!((fakes.roots().len(), fakes.events().len()), (2, 2), "each was told once");
    drop(daemon);
    world.until_equal(DOCTORS, TABLE).await;
}
