//! The main job: snapshot, then follow.

use crate::support::World;
use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};

#[tokio::test]
async fn a_loaded_database_is_snapshotted_followed_and_equal() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 7);
    data.load(3_000, 2_000).await.unwrap();
    let mut daemon = world.start();
    data.work(2_000).await.unwrap();
    daemon.until_phase("doctor", "streaming").await;
    daemon.until_phase("recommendation", "streaming").await;
    data.work(3_000).await.unwrap();
    assert!(world.until_equal(DOCTORS, "public.doctor").await > 2_500);
    assert!(world.until_equal(RECOMMENDATIONS, "public.recommendation").await > 1_500);
    let stream = daemon.until("doctor", "caught up", |s| s["lag_seconds"] == 0.0).await;
    assert_eq!(stream["dead_letters"], 0);
    assert_eq!(stream["drift"], serde_json::json!([]));
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0), "{}", daemon.log());
    assert!(took < std::time::Duration::from_secs(10));
}
