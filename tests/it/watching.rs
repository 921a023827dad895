//! Guarantee 16: what the watch asks for once a second costs what people are to be told, not what
//! is followed.

use tidemark::postgres::Target;
use tidemark::settings::{Origin, Settings};
use tidemark::state::StateTables;

use crate::support::{World, run};

/// So many that a table read anew for each row of another is not read within the deadline.
const STREAMS: usize = 6_000;

/// Tables of which there are no statistics yet, as after the first start.
async fn followed(world: &World) -> StateTables {
    assert_eq!(run(world, &["migrate"]).0, Some(0));
    let settings =
        Settings::load(&Origin { file: Some(world.config.clone()), ..Origin::default() }).unwrap();
    let owner = format!("'{}', '{}'", settings.service, settings.environment);
    let sql = format!(
        "insert into tidemark.stream (stream, service, environment, \"group\", report) select 's' \
         || n, {owner}, 'main', '{{}}' from generate_series(1, {STREAMS}) as n; insert into \
         tidemark.resync (stream, reason, state, ended_at) select stream, 'first_snapshot', \
         'completed', now() from tidemark.stream order by random(); insert into tidemark.stream \
         (stream, service, environment) values ('foreign', 'another', 'one')"
    );
    world.execute(&sql).await;
    let target = Target::new(&settings).unwrap();
    StateTables::new(target.clone(), target.pool(1), "tidemark")
}

#[tokio::test]
async fn what_the_watch_asks_for_does_not_grow_with_streams_that_are_well() {
    let world = World::new().await;
    let state = followed(&world).await;
    let (ended, unrepaired) = (state.ended_walks(false).await, state.unrepaired_walks().await);
    let led_elsewhere = state.led_beside(&["main"]).await.unwrap();
    assert_eq!((ended.unwrap().len(), unrepaired.unwrap().len(), led_elsewhere.len()), (0, 0, 0));
    assert_eq!(state.led_beside(&["others"]).await.unwrap().len(), STREAMS);

    // A walk of each that repairs what was missed, and dead letters of each.
    world
        .execute(
            "insert into tidemark.resync (stream, reason, state, automatic) select stream, \
             'history_lost', 'running', true from tidemark.stream; insert into \
             tidemark.dead_letter (stream, operation, event, code, error) select stream, 'insert', \
             '', 'slow', '' from tidemark.stream",
        )
        .await;
    assert_eq!(state.unrepaired_walks().await.unwrap().len(), STREAMS);
    assert_eq!(state.open_letters().await.unwrap().len(), STREAMS);
}

#[tokio::test]
async fn walks_are_told_of_while_people_are_to_hear_of_them() {
    let world = World::new().await;
    let state = followed(&world).await;
    let walks = [
        // The newest of each counts.
        ("s1", "requested", "failed", "1 year", "null"),
        ("s2", "requested", "failed", "2 years", "null"),
        ("s2", "first_snapshot", "completed", "1 year", "null"),
        // One loss, which the last table is repaired of just now, and one that is long over.
        ("s3", "history_lost", "completed", "1 hour", "'2026-11-01'"),
        ("s4", "history_lost", "completed", "1 minute", "'2026-11-01'"),
        ("s5", "history_lost", "completed", "1 hour", "'2026-10-01'"),
        ("s6", "history_lost", "cancelled", "1 hour", "'2026-10-01'"),
        ("s7", "history_lost", "cancelled", "1 hour", "'2026-10-01'"),
        ("s7", "requested", "completed", "1 minute", "'2026-10-02'"),
        ("foreign", "history_lost", "failed", "1 minute", "'2026-11-01'"),
    ];
    for (stream, reason, state, ago, blind_from) in walks {
        let sql = format!(
            "insert into tidemark.resync (stream, reason, state, ended_at, blind_from) values \
             ('{stream}', '{reason}', '{state}', now() - interval '{ago}', {blind_from})"
        );
        world.execute(&sql).await;
    }
    let ended = state.ended_walks(false).await.unwrap();
    let ended: Vec<_> = ended.iter().map(|walk| (walk.stream.as_str(), walk.lately)).collect();
    assert_eq!(ended, [("s1", false), ("s3", false), ("s4", true), ("s7", true)]);
    assert_eq!(state.ended_walks(true).await.unwrap().len(), STREAMS - 7 + 4);
    let unrepaired = state.unrepaired_walks().await.unwrap();
    assert_eq!(unrepaired.iter().map(|walk| walk.stream.as_str()).collect::<Vec<_>>(), ["s6"]);
}
