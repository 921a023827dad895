//! What is over is forgotten once it is old, by `[retention]` and by `tidemark purge`; nothing else
//! is, and nothing of another service's.

use mongodb::bson::doc;
use serde_json::Value;

use crate::support::{Config, World, eventually, run, stream};

const DETAIL: &str = "'{\"since\": \"2026-01-01T00:00:00Z\", \"worst\": \"critical\", \"doing\": \
                      \"d\", \"action\": null, \"progress\": null, \"resync\": null, \"gap\": \
                      null, \"revision\": 1, \"last\": \"resolved\", \"changed_at\": \
                      \"2026-01-01T00:00:00Z\", \"remind_at\": \"2026-01-01T00:00:00Z\", \
                      \"away_since\": null}'";

/// Rows of every kind of `who`'s: old ones that are over, old ones that are not, young ones that
/// are.
async fn fill(world: &World, who: &str, stream: &str) {
    let sql = format!(
        "insert into tidemark.dead_letter (stream, document_id, operation, event, code, error, at, \
         resolved_at, resolution) select '{stream}', kind || n, 'insert', '\\x00', 'refused', \
         kind, now() - interval '90 days', resolved, 'discarded' from (values ('old', now() - \
         interval '40 days', 2500), ('open', null, 3), ('young', now() - interval '5 days', 3)) as \
         k (kind, resolved, many), generate_series(1, many) as n; insert into tidemark.incident \
         (tag, environment, service, code, stream, severity, state, opened_at, resolved_at, \
         summary, detail) select gen_random_uuid(), 'development', '{who}', 'target_full', null, \
         'critical', case when resolved is null then 'open' else 'resolved' end, now() - interval \
         '500 days', resolved, kind, {DETAIL} from (values ('old', now() - interval '400 days'), \
         ('young', now() - interval '20 days'), ('untold', now() - interval '1 day')) as k (kind, \
         resolved); insert into tidemark.outbox (incident_id, channel, pending) select id, \
         'slack', summary = 'untold' from tidemark.incident where service = '{who}'; insert into \
         tidemark.checkpoint_history (stream, source, options, epoch, why, retired_at) select \
         '{stream}', 's', 'o', 1, kind, now() - age from (values ('oldest', interval '300 days'), \
         ('newest', interval '200 days')) as k (kind, age); insert into tidemark.command (verb, \
         stream, actor, reason, at, done_at, outcome, service, environment) select \
         'resync_cancel', case when who is null then '{stream}' else '' end, 'a', kind, now() - \
         interval '500 days', done, 'refused', who, case when who is null then null else \
         'development' end from (values ('old', now() - interval '400 days', '{who}'), ('older \
         release', now() - interval '400 days', null), ('young', now() - interval '20 days', \
         '{who}'), ('waiting', null, '{who}')) as k (kind, done, who); insert into tidemark.resync \
         (stream, reason, state, started_at, ended_at, sample_ids, automatic) select '{stream}', \
         kind, state, now() - interval '500 days', now() - interval '400 days', '{{a}}', true from \
         (values ('first', 'completed'), ('failed, repaired since', 'failed'), ('last', \
         'completed'), ('failed, not repaired', 'failed')) as k (kind, state); insert into \
         tidemark.gap_report (resync_id, stream, rows_inserted, rows_changed, rows_deleted, \
         sample_ids, at) select id, stream, 1, 1, 1, '{{a}}', ended_at from tidemark.resync where \
         stream = '{stream}' and state = 'completed' and ended_at < now() - interval '300 days'"
    );
    world.execute(&sql).await;
}

/// What is left of a stream's and a service's rows.
async fn left(world: &World, who: &str, stream: &str) -> Vec<String> {
    let sql = format!(
        "select 'letter ' || error || ' ' || count(*) from tidemark.dead_letter where stream = \
         '{stream}' group by error union all select 'incident ' || summary || ' ' || (select \
         count(*) from tidemark.outbox where incident_id = i.id) from tidemark.incident as i where \
         service = '{who}' union all select 'position ' || why from tidemark.checkpoint_history \
         where stream = '{stream}' union all select 'request ' || reason from tidemark.command \
         where service = '{who}' and verb = 'resync_cancel' or service is null and stream = \
         '{stream}' union all select 'walk ' || reason || ' ' || array_length(sample_ids, 1) from \
         tidemark.resync where stream = '{stream}' and reason <> 'first_snapshot' and sample_ids \
         <> '{{}}' union all select 'walk ' || reason from tidemark.resync where stream = \
         '{stream}' and reason <> 'first_snapshot' and sample_ids = '{{}}' union all select \
         'report' from tidemark.gap_report where stream = '{stream}' order by 1"
    );
    world.column(&sql).await
}

/// Once what is old and over is gone.
const KEPT: [&str; 9] = [
    "incident untold 1",
    "incident young 1",
    "letter open 3",
    "letter young 3",
    "position newest",
    "request waiting",
    "request young",
    "walk failed, not repaired",
    "walk last",
];

async fn worlds() -> (World, Vec<String>) {
    let streams = stream("doctor", "doctorsForDB", "");
    let extra = "retention.incident = \"\"\nretention.dead_letter_resolved \
                 = \"\"\nretention.command = \"\"\n\
         retention.checkpoint_history = \"\"\n";
    let world = World::with(Config { extra: extra.to_owned(), streams, ..Config::default() }).await;
    world.collection("doctorsForDB").insert_one(doc! { "_id": "a" }).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    world
        .execute(
            "insert into tidemark.stream (stream, service, environment, table_schema, table_name, \
             table_oid) values ('patient', 'other', 'development', 'public', 'patient', 0)",
        )
        .await;
    fill(&world, "other", "patient").await;
    fill(&world, "tidemark", "doctor").await;
    let others = left(&world, "other", "patient").await;
    (world, others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_and_old_is_forgotten_by_the_daemon_and_nothing_else() {
    let (world, others) = worlds().await;
    let before = left(&world, "tidemark", "doctor").await;
    let defaults = world.beside(&Config {
        extra: String::new(),
        streams: stream("doctor", "doctorsForDB", ""),
        ..Config::default()
    });
    let daemon = defaults.start();
    daemon.until_phase("doctor", "streaming").await;
    world
        .until(
            "the last of it is gone",
            "select count(*) = 0 from tidemark.command where reason like 'old%' \
         and (service = 'tidemark' or stream = 'doctor')",
        )
        .await;
    let is_gone = async || left(&world, "tidemark", "doctor").await == KEPT;
    eventually(&format!("all of it is gone, of {before:#?}"), is_gone).await;
    assert_eq!(
        left(&world, "other", "patient").await,
        others,
        "of another service nothing is touched"
    );
    // The daemon goes on as before, and has nothing anew to tell.
    world.collection("doctorsForDB").insert_one(doc! { "_id": "b" }).await.unwrap();
    world.until_equal("doctorsForDB", "public.doctor").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_is_counted_first_then_obeyed_and_recorded() {
    let (world, others) = worlds().await;
    let before = left(&world, "tidemark", "doctor").await;
    let (code, said) = run(&world, &["purge", "--before", "30d", "--json"]);
    let json: Value = serde_json::from_str(
        said.split("]\n").next().map(|list| format!("{list}]")).unwrap().as_str(),
    )
    .unwrap();
    assert!(code == Some(0) && said.contains("nothing was changed"), "{said}");
    let count = |table: &str| {
        json.as_array().unwrap().iter().find(|of| of["table"] == table).unwrap()["rows"].clone()
    };
    assert_eq!(
        (count("dead_letter"), count("incident"), count("command")),
        (2500.into(), 1.into(), 2.into())
    );
    assert_eq!(left(&world, "tidemark", "doctor").await, before, "a preview changes nothing");
    for (when, why) in
        [("tomorrow", "no time gone by"), ("2999-01-01T00:00:00Z", "no time gone by")]
    {
        let (code, said) = run(&world, &["purge", "--before", when]);
        assert!(code == Some(2) && said.contains(why), "{said}");
    }
    // Without a daemon it waits; with one it is obeyed.
    let (code, said) =
        run(&world, &["purge", "--before", "30d", "--execute", "--reason", "spring"]);
    assert!(code == Some(0) && said.contains("as soon as a daemon runs"), "{said}");
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let done =
        "select outcome = 'done' from tidemark.command where verb = 'purge' and reason = 'spring'";
    world.until("it is obeyed", done).await;
    let result: String =
        world.scalar("select result from tidemark.command where verb = 'purge'").await;
    assert!(result.contains("2500 of dead_letter") && result.contains("1 of incident"), "{result}");
    assert_eq!(left(&world, "tidemark", "doctor").await, KEPT);
    assert_eq!(
        left(&world, "other", "patient").await,
        others,
        "of another service nothing is touched"
    );
    let (code, said) = run(&world, &["purge", "--before", "30d", "--reason", "x", "--execute"]);
    assert!(code == Some(0) && said.contains("nothing was old enough"), "{said}");
    // An end that a channel has still to be told of is kept for a week, whatever is asked.
    let (code, said) = run(&world, &["purge", "--before", "12h", "--reason", "x", "--execute"]);
    assert!(code == Some(0) && said.contains("3 of dead_letter, 1 of incident"), "{said}");
    let left = left(&world, "tidemark", "doctor").await;
    assert!(
        left.contains(&"incident untold 1".to_owned())
            && left.contains(&"letter open 3".to_owned()),
        "{left:?}"
    );
}
