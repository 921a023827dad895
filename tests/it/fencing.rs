//! Guarantee 6: one writer. A frozen leader wakes to find it may not write.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bson::doc;
use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use tidemark::apply::{Commit, Mapping, Setback, Statements, TableWriter, Writer};
use tidemark::error::Class;
use tidemark::model::namespace::Table;
use tidemark::model::position::{ClusterTime, Position, ResumeToken};
use tidemark::postgres::Target;
use tidemark::settings::{Keeping, Origin, RowSpec, Settings, StreamSettings};
use tidemark::state::{
    Candidacy, Configured, IdleEnd, IdlePosition, Lease, Member, Renewal, Renewed, StateTables,
};

use crate::killing::{assert_audit, audit};
use crate::support::{Config, Stopwatch, World, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_frozen_past_its_lease_is_fenced_when_it_wakes() {
    // Long enough that nobody loses it to a busy machine: what counts here is who holds it, and
    // once.
    let world =
        World::with(Config { extra: "lease.duration = \"30s\"\n".to_owned(), ..Config::default() })
            .await;
    let mut data = Revalidation::new(world.source.clone(), 31);
    data.load(1_000, 1_000).await.unwrap();
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.execute(&audit()).await;
    let frozen = world.start();
    frozen.until("doctor", "leads", |s| s["leader"] == true && s["phase"] == "streaming").await;
    frozen
        .until("recommendation", "leads", |s| s["leader"] == true && s["phase"] == "streaming")
        .await;
    let heir = world.start();
    heir.until("doctor", "stands by", |s| s["leader"] == false && s["holder"].is_string()).await;
    // A standby is ready, as soon as it knows of each stream that somebody leads it.
    heir.until_readiness(200).await;
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
    let granted: i64 =
        world.scalar("select max(seq) from audit where what = 'position' and epoch = 2").await;
    frozen.signal("CONT");
    frozen.until("doctor", "stands by", |s| s["leader"] == false).await;
    frozen.until("recommendation", "stands by", |s| s["leader"] == false).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(()).unwrap();
    working.await.unwrap();

    assert_eq!(frozen.metric("tidemark_fenced_commits_total{stream=\"doctor\"}").await, 1.0);
    assert_eq!(
        frozen.metric("tidemark_fenced_commits_total{stream=\"recommendation\"}").await,
        1.0
    );
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    let late = format!(
        "select count(*) from audit where what = 'position' and epoch <> 2 and seq > {granted}"
    );
    assert_eq!(
        world.scalar::<i64>(&late).await,
        0,
        "only the heir's epoch committed after the grant"
    );
    assert_audit(&world).await;
}

/// Postgres cancels no COPY that waits for a silent client, whatever its timeouts say: the heir
/// ends it.
#[tokio::test]
async fn a_leader_frozen_in_mid_copy_does_not_keep_the_stream() {
    let world = World::new().await;
    Revalidation::new(world.source.clone(), 33).load(3_000, 100).await.unwrap();
    let frozen = world.start_with(&[("TIDEMARK_FAILPOINT", "apply.copying=freeze")]);
    let waits = "select exists (select from pg_stat_activity where datname = current_database() \
                 and query like 'copy %' and wait_event = 'ClientRead' and query_start < \
                 clock_timestamp() - interval '1 second')";
    world.until("a COPY waits for its frozen client", waits).await;
    let heir = world.start();
    for name in ["doctor", "recommendation"] {
        heir.until(name, "took over", |s| s["leader"] == true).await;
    }
    world.until_equal(DOCTORS, "public.doctor").await;
    frozen.signal("CONT");
    for name in ["doctor", "recommendation"] {
        frozen.until(name, "stands by", |s| s["leader"] == false && s["holder"].is_string()).await;
    }
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
}

#[tokio::test]
async fn two_daemons_started_together_lead_each_stream_once_and_hand_over_on_stop() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 32);
    data.load(300, 300).await.unwrap();
    let (mut one, two) = (world.start(), world.start());
    for name in ["doctor", "recommendation"] {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            // They are asked one after the other: between, the one may give it up to the other, by
            // another epoch.
            let mut epochs = Vec::new();
            for daemon in [&one, &two] {
                let stream = daemon.stream(name).await;
                if stream["leader"] == true {
                    epochs.push(stream["epoch"].clone());
                }
            }
            assert!(epochs.len() < 2 || epochs[0] != epochs[1], "{name} has two leaders");
            if !epochs.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{name} has no leader");
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

fn parts(world: &World) -> (Settings, Target, StateTables) {
    let settings =
        Settings::load(&Origin { file: Some(world.config.clone()), ..Origin::default() }).unwrap();
    let target = Target::new(&settings).unwrap();
    let state = StateTables::new(target.clone(), target.pool(2), "tidemark");
    (settings, target, state)
}

fn writer(settings: &Settings, target: &Target, state: &StateTables, lease: &Lease) -> Writer {
    let odd = Table { schema: "public".into(), name: "odd".into() };
    let rows = RowSpec { columns: &[], keeping: Keeping::default(), children: &[] };
    let statements = Statements::new(&odd, rows);
    let stream = StreamSettings { columns: vec![], ..settings.streams[0].clone() };
    let mapping = Arc::new(Mapping::new(&stream, settings.row));
    let table = TableWriter::new("odd".into(), mapping, statements, settings.record);
    Writer::new(target.clone(), state.clone(), lease.clone(), vec![table])
}

fn candidacy(holder: &str) -> Candidacy<'_> {
    static ODD: LazyLock<Table> =
        LazyLock::new(|| Table { schema: "public".into(), name: "odd".into() });
    static MEMBERS: LazyLock<[Member<'static>; 1]> =
        LazyLock::new(|| [Member { stream: "odd", collection: "odd", table: &ODD }]);
    Candidacy {
        group: "main",
        database: "db",
        options: "v1",
        configured: Configured { members: &*MEMBERS, names: &["odd"] },
        holder,
        duration: Duration::from_secs(60),
    }
}

/// Nothing but a new position.
fn work(second: u32) -> Commit {
    let token = doc! { "_data": format!("82{second:08X}0000000104") }.to_vec().unwrap();
    let token = ResumeToken::new(&token).unwrap();
    Commit::to(Position::of(token, ClusterTime::default()))
}

/// The fence itself, without the lease keeper's help: a writer that never heard of the new grant is
/// refused.
#[tokio::test]
async fn nothing_of_an_older_epoch_commits_after_a_newer_grant() {
    let world =
        World::with(Config { streams: stream("odd", "odd", ""), ..Config::default() }).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    let (settings, target, state) = parts(&world);
    let acquire = async |holder| state.acquire(&candidacy(holder)).await.unwrap();
    let old = acquire("old").await.unwrap();
    assert_eq!(acquire("new").await, None, "a lease that lasts is not granted again");
    let mut writer = writer(&settings, &target, &state, &old);
    writer.apply(&work(10)).await.unwrap();

    world.execute("update tidemark.lease set expires_at = '-infinity'").await;
    let new = acquire("new").await.unwrap();
    assert!(new.epoch() > old.epoch());
    assert_eq!(writer.apply(&work(20)).await.unwrap_err().fault.class, Class::Fenced);
    let stored: i64 = world.scalar("select cluster_time >> 32 from tidemark.checkpoint").await;
    assert_eq!(stored, 10, "the position is the last one committed before the grant");
    let renewals = [&old, &new].map(|lease| Renewal { lease: lease.clone(), report: None });
    let renewed = state.renew(&renewals, Duration::from_secs(60)).await.unwrap();
    assert_eq!(
        renewed,
        [Renewed::Lost, Renewed::Kept { commanded: false, wanted: false, hurried: false }]
    );
}

/// Idle positions of several groups are one transaction, in which each stands for itself.
#[tokio::test]
async fn of_idle_positions_in_common_those_that_cannot_be_committed_are_left_out_alone() {
    // Elsewhere, a statement may wait for a lock for most of it.
    let extra = "lease.duration = \"60s\"\n".to_owned();
    let streams = stream("odd", "odd", "");
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    let (_, _, state) = parts(&world);
    let (mut idle, groups) = (Vec::new(), ["looks", "stands", "rewound", "fenced"]);
    for group in groups {
        let lease = state.acquire(&Candidacy { group, ..candidacy("x") }).await.unwrap().unwrap();
        let position = work(10).position.unwrap();
        idle.push(IdlePosition { lease, revision: 0, position, looks: Vec::new() });
    }
    idle[0].looks = vec![("odd".to_owned(), "public.odd".to_owned())];
    idle[2].revision = 7;
    let fenced = "update tidemark.checkpoint set nonce = null where \"group\" = 'fenced'";
    world.execute(fenced).await;
    // The table that is looked at is locked for as long as this takes.
    let mut locking = world.pg().await;
    let lock = "begin; lock table public.odd in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut locking).await.unwrap();
    let begun = Stopwatch::start();
    let ends = state.commit_idle(&idle).await;
    let kept = begun.elapsed();
    assert!(kept < Duration::from_secs(20), "the others wait for {kept:?}");
    let (left_out, landed) = (IdleEnd::LeftOut, IdleEnd::Landed);
    assert_eq!(ends, [left_out, landed, left_out, left_out]);
    let moved = "select \"group\" from tidemark.checkpoint where cluster_time is not null";
    assert_eq!(world.column(moved).await, ["stands"]);
    sqlx::raw_sql("rollback").execute(&mut locking).await.unwrap();
    assert_eq!(state.commit_idle(&idle[..1]).await, [landed], "once nobody locks it");
}

/// A wire cut in silence leaves a session that never hears of it, and that Postgres never ends
/// while it is in mid-COPY.
#[tokio::test]
async fn what_a_silent_cut_left_in_mid_copy_does_not_lock_out_the_same_writer() {
    let world =
        World::with(Config { streams: stream("odd", "odd", ""), ..Config::default() }).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    let (settings, target, state) = parts(&world);
    let lease = state.acquire(&candidacy("one")).await.unwrap().unwrap();
    let mut left = target.connect().await.unwrap();
    sqlx::raw_sql(
        "begin; select from tidemark.checkpoint for update; create table public.piece (id text)",
    )
    .execute(&mut left)
    .await
    .unwrap();
    let copy = left.copy_in_raw("copy public.piece from stdin").await.unwrap();
    let free = "select \"group\" from tidemark.checkpoint";
    assert_eq!(world.column(free).await, ["main"]);
    let free = format!("{free} for update skip locked");
    assert_eq!(world.column(&free).await, [""; 0], "the row is locked");
    let mut writer = writer(&settings, &target, &state, &lease);
    let begun = Instant::now();
    while let Err(Setback { fault, .. }) = writer.apply(&work(10)).await {
        assert_eq!(fault.class, Class::Transient);
        assert!(begun.elapsed() < Duration::from_secs(60), "still locked out: {fault}");
    }
    drop(copy);
}
