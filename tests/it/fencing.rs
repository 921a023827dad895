//! Guarantee 6: one writer. A frozen leader wakes to find it may not write.

use std::time::Duration;

use bson::doc;
use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use tidemark::apply::{Statements, Work, Writer};
use tidemark::checkpoint::Checkpoints;
use tidemark::error::Class;
use tidemark::model::namespace::Table;
use tidemark::model::position::{ClusterTime, Position, ResumeToken};
use tidemark::postgres::Target;
use tidemark::settings::{Origin, Settings};

use crate::killing::{AUDIT, assert_audit};
use crate::support::{Config, World, stream};

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

/// The fence itself, without the lease keeper's help: a writer that never heard of the new grant is refused.
#[tokio::test]
async fn nothing_of_an_older_epoch_commits_after_a_newer_grant() {
    let world = World::with(Config { streams: stream("odd", "odd", ""), ..Config::default() }).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    let settings = Settings::load(&Origin { file: Some(world.config.clone()), ..Origin::default() }).unwrap();
    let target = Target::new(&settings).unwrap();
    let checkpoints = Checkpoints::new(target.clone(), target.pool(2), "tidemark");
    let minute = Duration::from_secs(60);
    let acquire = async |holder| checkpoints.acquire("odd", "db.odd", "v1", holder, minute).await.unwrap();
    let work = |second: u32| {
        let token = doc! { "_data": format!("82{second:08X}0000000104") }.to_vec().unwrap();
        let token = ResumeToken::new(&token).unwrap();
        Work { position: Some(Position::of(token, ClusterTime::default())), ..Work::default() }
    };
    let old = acquire("old").await.unwrap();
    assert_eq!(acquire("new").await, None, "a lease that lasts is not granted again");
    let table = Table { schema: "public".into(), name: "odd".into() };
    let statements = Statements::new(&table, &[]);
    let mut writer = Writer::new(target, checkpoints.clone(), old.clone(), vec![], statements, settings.record);
    writer.apply(&work(10)).await.unwrap();

    world.execute("update tidemark.lease set expires_at = '-infinity'").await;
    let new = acquire("new").await.unwrap();
    assert!(new.epoch() > old.epoch());
    assert_eq!(writer.apply(&work(20)).await.unwrap_err().class, Class::Fenced);
    let stored: i64 = world.scalar("select cluster_time >> 32 from tidemark.checkpoint").await;
    assert_eq!(stored, 10, "the position is the last one committed before the grant");
    assert_eq!(
        checkpoints.renew(&old, minute, &serde_json::Value::Null).await.unwrap(),
        tidemark::checkpoint::Renewed::Lost
    );
}
