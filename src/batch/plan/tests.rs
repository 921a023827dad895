use bson::{Document, Timestamp, doc};

use super::*;
use crate::batch::{BatchLimits, Gather, Piece, Taken};
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
        "ns": { "db": "d", "coll": "c" },
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
    gather.push(Reply::of_bytes(reply.to_vec().unwrap()).unwrap(), false).unwrap();
    gather
}

fn take(gather: &mut Gather, limits: BatchLimits) -> Taken {
    gather.take(limits).unwrap().unwrap()
}

/// The plan of the one stream that there is.
fn planned(taken: &Taken) -> StreamPlan<'_> {
    let mut plan = plan(&taken.events, &Routes::new(["c"]));
    assert_eq!(plan.streams.len(), 1);
    plan.streams.remove(0)
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
    let taken = take(&mut gather(events, 20), ALL);
    let plan = planned(&taken);
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
    let taken = take(&mut gather, BatchLimits { events: 2, ..ALL });
    assert_eq!((taken.events.len(), taken.position.cluster_time.seconds()), (2, 11));
    gather.give_back(&taken, None);
    let taken = take(&mut gather, BatchLimits { events: 1, ..ALL });
    assert_eq!((taken.events.len(), taken.position.cluster_time.seconds()), (1, 10));
    let rest = take(&mut gather, ALL);
    assert_eq!((rest.events.len(), rest.position.cluster_time.seconds()), (4, 30));
    assert!(gather.is_empty());
}

#[test]
fn bytes_limit_a_batch_but_never_to_nothing() {
    let mut gather =
        gather((0..3).map(|n| event("insert", n, 10 + n.cast_unsigned(), true)).collect(), 30);
    let tiny = BatchLimits { events: 100, bytes: 1 };
    assert!(gather.is_full(tiny));
    assert_eq!(take(&mut gather, tiny).events.len(), 1);
    assert_eq!(take(&mut gather, tiny).events.len(), 1);
}

#[test]
fn with_nothing_queued_the_idle_position_is_taken() {
    let taken = take(&mut gather(vec![], 99), ALL);
    assert!(taken.events.is_empty());
    assert_eq!(taken.position.cluster_time.seconds(), 99);
}

fn reply(times: &[u32]) -> Reply {
    let events: Vec<Document> =
        times.iter().map(|seconds| event("insert", 1, *seconds, true)).collect();
    let last = times.last().copied().unwrap_or(1);
    let cursor = doc! { "nextBatch": events, "postBatchResumeToken": token(last) };
    Reply::of_bytes(doc! { "cursor": cursor, "ok": 1.0 }.to_vec().unwrap()).unwrap()
}

/// What comes of replies, each with whether more of its last time may follow: the number of events
/// of each batch, which piece it is, and the time of the position after it.
fn batches(replies: &[(&[u32], bool)], events: usize) -> Vec<(usize, Piece, u32)> {
    let mut gather = gather(vec![], 1);
    let mut taken = Vec::new();
    for (times, is_open) in replies {
        gather.push(reply(times), *is_open).unwrap();
        while let Some(batch) = gather.take(BatchLimits { events, ..ALL }).unwrap() {
            let at = batch.position.cluster_time.seconds();
            taken.push((batch.events.len(), batch.piece, at));
            if gather.is_empty() && gather.amid().is_none() {
                break;
            }
        }
    }
    taken
}

#[test]
fn a_batch_ends_between_two_times_of_the_source() {
    use Piece::{Last, More, Whole};
    assert_eq!(batches(&[(&[5, 6, 6, 6], false)], 3), [(1, Whole, 5), (3, Whole, 6)]);
    let waits: &[(&[u32], bool)] = &[(&[5, 6, 6], true), (&[6, 7], false)];
    assert_eq!(batches(waits, 9), [(1, Whole, 5), (4, Whole, 7)], "more of it may be to come");
    let ended: &[(&[u32], bool)] = &[(&[6, 6], true), (&[], false)];
    assert_eq!(batches(ended, 9), [(2, Whole, 1)], "a reply without events shows that it is all");
    let large: &[(&[u32], bool)] = &[(&[5, 6, 6, 6, 6, 6, 7], false)];
    assert_eq!(
        batches(large, 2),
        [(1, Whole, 5), (2, More, 6), (2, More, 6), (1, Last, 6), (1, Whole, 7)]
    );
    let open: &[(&[u32], bool)] = &[(&[6, 6, 6], true), (&[6], true), (&[7], false)];
    let pieces = batches(open, 2);
    let kinds: Vec<Piece> = pieces.iter().map(|(_, piece, _)| *piece).collect();
    assert_eq!(kinds, [More, More, More, Last, Whole]);
    assert_eq!(pieces[3], (0, Last, 6), "it ended with the piece before, which did not know");
}

#[test]
fn what_changes_no_row_stops_the_streams_it_is_about_and_is_named() {
    for (name, operation, all) in [
        ("drop", Operation::Drop, false),
        ("rename", Operation::Rename, false),
        ("dropDatabase", Operation::DropDatabase, true),
        ("reshardCollection", Operation::Unknown, false),
    ] {
        let mut stop = event(name, 0, 12, false);
        stop.remove("documentKey");
        if all {
            stop.insert("ns", doc! { "db": "d" });
        }
        let mut other = event("insert", 9, 13, true);
        other.insert("ns", doc! { "db": "d", "coll": "other" });
        let events = vec![event("insert", 1, 10, true), stop, event("insert", 2, 13, true), other];
        let taken = take(&mut gather(events, 20), ALL);
        let plan = plan(&taken.events, &Routes::new(["other", "c", "c"]));
        let streams = if all { vec![0, 1, 2] } else { vec![1, 2] };
        assert_eq!(plan.stops, [Stop { event: 1, streams, operation, name: name.to_owned() }]);
        let changes: Vec<_> = plan.streams.iter().map(|s| (s.stream, s.changes.len())).collect();
        let others: &[(usize, usize)] = if all { &[] } else { &[(0, 1)] };
        assert_eq!(changes, [&[(1, 1), (2, 1)], others].concat(), "{name}");
    }
    let mut onto = event("rename", 0, 12, false);
    onto.insert("ns", doc! { "db": "d", "coll": "x" });
    onto.insert("to", doc! { "db": "d", "coll": "c" });
    let taken = take(&mut gather(vec![onto], 20), ALL);
    assert_eq!(plan(&taken.events, &Routes::new(["o", "c"])).stops[0].streams, [1]);
}

#[test]
fn what_becomes_of_a_collection_that_nobody_follows_stops_no_stream() {
    for name in ["drop", "rename", "reshardCollection"] {
        let mut stop = event(name, 0, 12, false);
        stop.insert("to", doc! { "db": "d", "coll": "elsewhere" });
        let taken = take(&mut gather(vec![stop], 20), ALL);
        assert_eq!(plan(&taken.events, &Routes::new(["other", "another"])).stops, [], "{name}");
        assert_eq!(plan(&taken.events, &Routes::new(["other"])).stops, [], "{name}, of one");
    }
}

#[test]
fn an_event_that_cannot_be_read_is_told_and_the_others_go_on() {
    let mut keyless = event("insert", 1, 10, true);
    keyless.remove("documentKey");
    let mut array = event("insert", 1, 11, true);
    array.insert("documentKey", doc! { "_id": [1, 2] });
    let taken = take(&mut gather(vec![keyless, array, event("insert", 2, 12, true)], 20), ALL);
    let plan = planned(&taken);
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
        let taken = take(&mut gather(events, 20), ALL);
        let plan = planned(&taken);
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
