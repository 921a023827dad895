use bson::{Document, Timestamp, doc};

use super::*;
use crate::batch::{BatchLimits, Gather};
use crate::model::position::{Position, ResumeToken};
use crate::source::Reply;

fn token(seconds: u32) -> Document {
    doc! { "_data": format!("82{seconds:08X}0000000104") }
}

fn event(operation: &str, id: i32, seconds: u32, full: bool) -> Document {
    let time = Timestamp { time: seconds, increment: 1 };
    let mut event = doc! {
        "_id": token(seconds),
        "operationType": operation,
        "clusterTime": time,
        "documentKey": { "_id": id },
    };
    if full {
        event.insert("fullDocument", doc! { "_id": id, "at": i64::from(seconds) });
    }
    event
}

fn gather(events: Vec<Document>, token_after: u32) -> Gather {
    let start = ResumeToken::new(&token(1).to_vec().unwrap()).unwrap();
    let mut gather = Gather::after(Position::of(start, ClusterTime::default()));
    let cursor = doc! { "nextBatch": events, "postBatchResumeToken": token(token_after) };
    let reply = doc! { "cursor": cursor, "ok": 1.0 };
    gather.push(Reply::of_bytes(reply.to_vec().unwrap()).unwrap()).unwrap();
    gather
}

const ALL: BatchLimits = BatchLimits { events: 1_000, bytes: 1 << 20 };

#[test]
fn the_last_change_of_each_key_wins_and_all_are_counted() {
    let events = vec![
        event("insert", 1, 10, true),
        event("insert", 2, 11, true),
        event("update", 1, 12, false),
        event("delete", 2, 13, false),
        event("replace", 3, 14, true),
        event("delete", 1, 15, false),
        event("insert", 1, 16, true),
    ];
    let taken = gather(events, 20).take(ALL).unwrap();
    let plan = plan(&taken.events);
    assert_eq!(plan.received, [3, 1, 1, 2]);
    let changes: Vec<_> = plan
        .changes
        .iter()
        .map(|c| (c.id.as_str(), c.operation, c.cluster_time.seconds()))
        .collect();
    let id = |n: i32| format!("{{\"$numberInt\":\"{n}\"}}");
    assert_eq!(
        changes,
        [
            (id(1).as_str(), Operation::Insert, 16),
            (id(2).as_str(), Operation::Delete, 13),
            (id(3).as_str(), Operation::Replace, 14)
        ]
    );
    assert_eq!(
        taken.position.cluster_time.seconds(),
        20,
        "a reply taken whole ends at its post-batch token"
    );
}

#[test]
fn a_batch_cut_short_ends_at_its_last_event_and_the_rest_follows() {
    let mut gather =
        gather((0..5).map(|n| event("insert", n, 10 + n.cast_unsigned(), true)).collect(), 30);
    let two = BatchLimits { events: 2, ..ALL };
    let mut taken = gather.take(two).unwrap();
    assert_eq!((taken.events.len(), taken.position.cluster_time.seconds()), (2, 11));
    gather.give_back(&mut taken, 1).unwrap();
    assert_eq!((taken.events.len(), taken.position.cluster_time.seconds()), (1, 10));
    let rest = gather.take(ALL).unwrap();
    assert_eq!((rest.events.len(), rest.position.cluster_time.seconds()), (4, 30));
    assert!(gather.is_empty());
}

#[test]
fn bytes_limit_a_batch_but_never_to_nothing() {
    let mut gather = gather((0..3).map(|n| event("insert", n, 10, true)).collect(), 30);
    let tiny = BatchLimits { events: 100, bytes: 1 };
    assert!(gather.is_full(tiny));
    assert_eq!(gather.take(tiny).unwrap().events.len(), 1);
    assert_eq!(gather.take(tiny).unwrap().events.len(), 1);
}

#[test]
fn with_nothing_queued_the_idle_position_is_taken() {
    let mut gather = gather(vec![], 99);
    let taken = gather.take(ALL).unwrap();
    assert!(taken.events.is_empty());
    assert_eq!(taken.position.cluster_time.seconds(), 99);
}

#[test]
fn what_changes_no_row_ends_the_plan_and_is_named() {
    for (name, operation) in [
        ("drop", Operation::Drop),
        ("rename", Operation::Rename),
        ("dropDatabase", Operation::DropDatabase),
        ("invalidate", Operation::Invalidate),
        ("reshardCollection", Operation::Unknown),
    ] {
        let mut last = event(name, 0, 12, false);
        last.remove("documentKey");
        let mut taken =
            gather(vec![event("insert", 1, 10, true), last, event("insert", 2, 13, true)], 20)
                .take(ALL)
                .unwrap();
        let stop = {
            let plan = plan(&taken.events);
            assert_eq!(plan.changes.len(), 1);
            plan.stop.clone().unwrap()
        };
        assert_eq!(stop, (1, operation, name.to_owned()));
        taken.truncate(1).unwrap();
        assert_eq!(
            taken.position.cluster_time.seconds(),
            10,
            "the position stays before what cannot be applied"
        );
    }
}

#[test]
fn an_event_that_cannot_be_read_is_told_and_the_others_go_on() {
    let mut keyless = event("insert", 1, 10, true);
    keyless.remove("documentKey");
    let mut array = event("insert", 1, 11, true);
    array.insert("documentKey", doc! { "_id": [1, 2] });
    let taken = gather(vec![keyless, array, event("insert", 2, 12, true)], 20).take(ALL).unwrap();
    let plan = plan(&taken.events);
    assert_eq!(plan.changes.len(), 1);
    let errors: Vec<_> = plan.broken.iter().map(|b| (b.event, b.error.as_str())).collect();
    assert_eq!(
        errors,
        [(0, "malformed BSON: event without documentKey._id"), (1, "an array cannot be an _id")]
    );
    assert_eq!(plan.received.iter().sum::<u64>(), 3, "received = applied + set aside");
}

/// The server takes equal numbers for one `_id`, also deep inside a document.
#[test]
fn a_replace_that_changes_the_type_of_an_id_ends_the_row_it_had() {
    let replace = |was: bson::Bson, is: bson::Bson, seconds| {
        let mut event = event("replace", 0, seconds, false);
        event.insert("documentKey", doc! { "_id": was });
        event.insert("fullDocument", doc! { "_id": is, "at": i64::from(seconds) });
        event
    };
    let changes = |events| {
        let taken = gather(events, 20).take(ALL).unwrap();
        let plan = plan(&taken.events);
        let brief = |c: &Change<'_>| format!("{} {}", c.operation.name(), c.id);
        (plan.received, plan.changes.iter().map(brief).collect::<Vec<_>>())
    };
    let (int, long) = ("{\"$numberInt\":\"7\"}", "{\"$numberLong\":\"7\"}");
    let there = replace(7.into(), 7_i64.into(), 11);
    let (received, one) = changes(vec![event("insert", 7, 10, true), there.clone()]);
    assert_eq!(received, [1, 0, 1, 0], "one event, though it changes two rows");
    assert_eq!(one, [format!("delete {int}"), format!("replace {long}")]);
    let (_, back) = changes(vec![there, replace(7_i64.into(), 7.into(), 12)]);
    assert_eq!(back, [format!("replace {int}"), format!("delete {long}")]);
    let (_, same) = changes(vec![replace(7.into(), 7.into(), 11)]);
    assert_eq!(same, [format!("replace {int}")]);
    let deep = replace(doc! { "a": [1] }.into(), doc! { "a": [1.0] }.into(), 11);
    assert_eq!(changes(vec![deep]).1.len(), 2);
}
