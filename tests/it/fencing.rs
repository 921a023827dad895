//! Guarantee 6: one writer. A frozen leader wakes to find it may not write.

use std::time::Duration;

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};

use crate::killing::{AUDIT, assert_audit};
use crate::support::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_frozen_past_its_lease_is_fenced_when_it_wakes() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 31);
    data.load(1_000, 1_000).await.unwrap();
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.execute(AUDIT).await;
    let frozen = world.start();
    frozen.until("doctor", "leads", |s| s["leader"] == true && s["phase"] == "streaming").await;
    frozen.until("recommendation", "leads", |s| s["leader"] == true && s["phase"] == "streaming").await;
    let heir = world.start();
    heir.until("doctor", "stands by", |s| s["leader"] == false && s["holder"].is_string()).await;
    assert_eq!(heir.get("/readyz").await.0, 200, "a standby is ready");
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            data.work(100).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;

    frozen.signal("STOP");
    heir.until("doctor", "took over", |s| s["leader"] == true).await;
    heir.until("recommendation", "took over", |s| s["leader"] == true).await;
    let granted: i64 = world.scalar("select max(seq) from audit where what = 'position' and epoch = 2").await;
    frozen.signal("CONT");
    frozen.until("doctor", "stands by", |s| s["leader"] == false).await;
    frozen.until("recommendation", "stands by", |s| s["leader"] == false).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    working.await.unwrap();

    assert_eq!(frozen.metric("tidemark_fenced_commits_total{stream=\"doctor\"}").await, 1.0);
    assert_eq!(frozen.metric("tidemark_fenced_commits_total{stream=\"recommendation\"}").await, 1.0);
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    let late = format!("select count(*) from audit where what = 'position' and epoch <> 2 and seq > {granted}");
    assert_eq!(world.scalar::<i64>(&late).await, 0, "only the heir's epoch committed after the grant");
    assert_audit(&world).await;
}

#[tokio::test]
async fn two_daemons_started_together_lead_each_stream_once_and_hand_over_on_stop() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 32);
    data.load(300, 300).await.unwrap();
    let (mut one, two) = (world.start(), world.start());
    for name in ["doctor", "recommendation"] {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            let leads = [&one, &two];
            let mut count = 0;
            for daemon in leads {
                count += usize::from(daemon.stream(name).await["leader"] == true);
            }
            assert!(count <= 1, "{name} has two leaders");
            if count == 1 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{name} has no leader");
        }
    }
    let (code, took) = one.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10));
    // A lease given back is taken at once, not when it would have run out.
    two.until("doctor", "leads", |s| s["leader"] == true).await;
    two.until("recommendation", "leads", |s| s["leader"] == true).await;
    data.work(500).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
}
