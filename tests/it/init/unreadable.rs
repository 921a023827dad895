//! A collection that cannot be looked into in time is a line of what is proposed, not its end.

use mongodb::bson::doc;
use serde_json::Value;

use super::Newcomer;
use crate::support::text;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_collection_that_is_not_read_in_time_keeps_no_other_from_being_proposed() {
    let newcomer = Newcomer::new().await;
    for name in ["quick", "slow"] {
        newcomer.insert(name, vec![doc! { "_id": 1, "n": 1 }]).await;
    }
    let world = &newcomer.world;
    // MaxTimeMSExpired, of this collection alone.
    let slow = doc! {
        "failCommands": ["find", "aggregate"], "appName": &world.name, "errorCode": 50,
        "namespace": format!("{}.slow", world.name),
    };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": slow };
    let admin = world.source.client().database("admin");
    admin.run_command(fail).await.unwrap();
    let all = newcomer.run(&["init", "--all", "--json"]);
    let proposed = newcomer.init(&["--all"]);
    let alone = newcomer.run(&["init", "--collection", "slow"]);
    admin.run_command(doc! { "configureFailPoint": "failCommand", "mode": "off" }).await.unwrap();
    assert_eq!(all.status.code(), Some(0), "{}", text(&all));
    let told: Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!(told["streams"].as_array().unwrap().len(), 1, "{told:#}");
    assert_eq!(told["aside"][0]["name"], "slow", "{told:#}");
    assert!(proposed.contains("\"quick\"") && proposed.contains("slow: "), "{proposed}");
    assert_ne!(alone.status.code(), Some(0), "there is nothing to propose: {}", text(&alone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_added_says_how_another_is() {
    let newcomer = Newcomer::new().await;
    newcomer.insert("orders", vec![doc! { "_id": 1 }]).await;
    newcomer.init(&["--all"]);
    let view = doc! { "create": "seen", "viewOn": "orders", "pipeline": [] };
    newcomer.world.source.run_command(view).await.unwrap();
    let added = newcomer.run(&["init", "--add", "seen", "--out", newcomer.file.to_str().unwrap()]);
    assert!(text(&added).contains("name another with --add"), "{}", text(&added));
}
