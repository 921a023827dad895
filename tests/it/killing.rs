//! Guarantees 1, 3, 4, 5, 6: killed at random, nothing is lost, and no position moves apart from
//! its rows.

use std::time::Duration;

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use fastrand::Rng;

use crate::support::{World, state};

/// So often the stream is to change hands.
const EPOCHS: i64 = 5;

/// Writes down every change of a row and of a position, with its transaction.
pub fn audit() -> String {
    let key = state::KEY;
    format!(
        "
    create table public.audit (seq bigserial, tx bigint default txid_current(), what text, id \
    text, before bigint, after bigint, epoch bigint);
    create function audit_row() returns trigger language plpgsql as $$ begin
        insert into public.audit (what, id, before, after) values (tg_table_name, coalesce(new.id, \
        old.id), old._cluster_time, new._cluster_time);
        return null;
    end $$;
    create function audit_position() returns trigger language plpgsql as $$ begin
        insert into public.audit (what, id, before, after, epoch) values ('position', new.{key}, \
        old.cluster_time, new.cluster_time, new.epoch);
        return null;
    end $$;
    create trigger audit after insert or update or delete on public.doctor for each row execute \
    function audit_row();
    create trigger audit after insert or update or delete on public.recommendation for each row \
    execute function audit_row();
    create trigger audit after insert or update on tidemark.checkpoint for each row execute \
    function audit_position();
"
    )
}

/// What the audit must never show, each with a query that counts its occurrences.
fn never() -> [(&'static str, String); 4] {
    [
        (
            "rows changed in a transaction that moved no position and walked no chunk",
            format!(
                "select count(*) from (select tx, what from audit where what <> 'position' group \
                 by 1, 2) r where not exists (select from audit p where p.tx = r.tx and p.what = \
                 'position' and p.id = {})",
                state::key("r.what")
            ),
        ),
        (
            "a row went back in cluster time",
            "select count(*) from audit where what <> 'position' and after < before".to_owned(),
        ),
        (
            "a position went back",
            "select count(*) from audit where what = 'position' and after < before".to_owned(),
        ),
        (
            "an epoch went back",
            "select count(*) from (select epoch, lag(epoch) over (partition by id order by seq) as \
             earlier from audit where what = 'position') e where epoch < earlier"
                .to_owned(),
        ),
    ]
}

pub async fn assert_audit(world: &World) {
    for (what, sql) in never() {
        assert_eq!(world.scalar::<i64>(&sql).await, 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_changes_survive_thirty_kills() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), seed);
    data.load(5_000, 3_000).await.unwrap();
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.execute(&audit()).await;
    let working = tokio::spawn(async move {
        while data.changes < 100_000 {
            data.work(1_000).await.unwrap();
        }
        data.changes
    });
    let mut rng = Rng::with_seed(seed);
    let least = "select coalesce(min(epoch), 0) from tidemark.checkpoint";
    let mut epochs = 0;
    for kills in 0.. {
        if kills >= 30 && epochs >= EPOCHS {
            break;
        }
        let daemon = world.start();
        // On a slow machine few lives are long enough to lead: those that come later lead first.
        if kills >= 30 {
            world.until("it leads", &format!("select ({least}) > {epochs}")).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(50..1_200))).await;
        daemon.kill();
        epochs = world.scalar::<i64>(least).await;
    }
    let changes = working.await.unwrap();
    assert!(changes >= 100_000);
    let mut daemon = world.start();
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    assert_audit(&world).await;
    // Kills that fall on one place, life after life, are told from a document that kills.
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    assert_eq!(daemon.stop().0, Some(0));
}

/// The named places between two lines where a kill could hurt most.
#[tokio::test]
async fn killed_before_and_after_a_commit_the_tables_end_the_same() {
    let world = World::new().await;
    let mut data = Revalidation::new(world.source.clone(), 11);
    data.load(2_500, 100).await.unwrap();
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.execute(&audit()).await;
    for failpoint in [
        "apply.begun=abort@2",
        "apply.before_commit=abort@3",
        "apply.after_commit=abort@3",
        "apply.before_commit=abort@6",
    ] {
        let mut daemon = world.start_with(&[("TIDEMARK_FAILPOINT", failpoint)]);
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        while daemon.is_running() {
            data.work(200).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(std::time::Instant::now() < deadline, "{failpoint} was never passed");
        }
    }
    let _daemon = world.start();
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    assert_audit(&world).await;
}
