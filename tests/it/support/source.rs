//! What a daemon holds at the source, as the server tells it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};

use super::World;

async fn operations(world: &World) -> Vec<Document> {
    let stage = doc! { "$currentOp": {
        "allUsers": true, "idleCursors": true, "idleConnections": true, "localOps": true,
    } };
    let admin = world.source.client().database("admin");
    admin.aggregate([stage]).await.unwrap().try_collect().await.unwrap()
}

/// The cursor of a change stream on the test's database or a collection of it.
fn change_stream(operation: &Document, database: &str) -> Option<i64> {
    let cursor = operation.get_document("cursor").ok()?;
    let command = cursor.get_document("originatingCommand").ok()?;
    let first = command.get_array("pipeline").ok()?.first()?.as_document()?;
    let is_ours = command.get_str("$db").ok()? == database && first.contains_key("$changeStream");
    is_ours.then(|| cursor.get_i64("cursorId").ok()).flatten()
}

/// The change streams that are there at every look of some: not what is opened for a moment to see
/// whether it can be.
pub async fn change_streams(world: &World) -> usize {
    let mut lasting: Option<BTreeSet<i64>> = None;
    for _ in 0..6 {
        let operations = operations(world).await;
        let here: BTreeSet<i64> =
            operations.iter().filter_map(|o| change_stream(o, &world.name)).collect();
        lasting = Some(lasting.map_or(here.clone(), |before| &before & &here));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    lasting.map_or(0, |lasting| lasting.len())
}

/// Connections of the test's daemon, its driver's monitors included.
pub async fn connections(world: &World) -> usize {
    let operations = operations(world).await;
    let ours =
        operations.iter().filter(|o| o.get_str("appName").is_ok_and(|name| name == world.name));
    let ids: BTreeSet<i64> = ours
        .filter_map(|o| o.get_i64("connectionId").or(o.get_i32("connectionId").map(i64::from)).ok())
        .collect();
    ids.len()
}
