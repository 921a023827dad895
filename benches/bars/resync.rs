//! Bar 5: a resync over an unchanged table, and what the live stream notices of a resync under
//! load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mongodb::Database;
use mongodb::bson::{Document, doc};
use sqlx::postgres::PgListener;

use crate::daemon::{Bench, World};
use crate::load::{self, COLLECTION};
use crate::table::{Bar, Limit, median};

/// Changes a second beside the resync.
const LOAD: u64 = 1_000;

pub async fn bars(bench: &Bench, documents: usize, rounds: usize) -> Vec<Bar> {
    let (mut ratios, mut rates, mut volumes) = (vec![], vec![], vec![]);
    let world = bench.world("resync").await;
    load::collection(&world.source, documents).await;
    for _ in 0..rounds {
        world.forget().await;
        let before = world.wal_bytes().await;
        let snapshot = world.snapshot().await;
        let written = world.wal_bytes().await - before;
        let before = world.wal_bytes().await;
        let resync = world.resync().await;
        volumes.push((world.wal_bytes().await - before) / written);
        ratios.push(snapshot / resync);
        rates.push(documents as f64 / resync);
    }
    world.assert_equal().await;
    let (p50, p99, busy) = beside_load(bench).await;
    vec![
        Bar::new(
            "5 resync ÷ first snapshot, nothing to write",
            median(&ratios),
            Limit::AtLeast(3.0),
            "",
        )
        .with(format!("{:.0} documents/s", median(&rates))),
        Bar::new("5 its log volume ÷ the snapshot's", median(&volumes), Limit::AtMost(0.05), ""),
        Bar::new("5 live lag during a resync under load, p50", p50, Limit::AtMost(500.0), "ms"),
        Bar::new("5 live lag during a resync under load, p99", p99, Limit::AtMost(2_000.0), "ms")
            .with(busy),
    ]
}

/// From a change's acknowledgement to its row being visible, while 100,000 documents are resynced
/// and others change.
async fn beside_load(bench: &Bench) -> (f64, f64, String) {
    let world = bench.world("resync_load").await;
    load::collection(&world.source, 100_000).await;
    world.snapshot().await;
    world
        .execute(
            "create function told() returns trigger language plpgsql as $$ begin perform \
         pg_notify('told', new.id); return null; end $$;
         create trigger told after insert on public.doctor for each row when (new.id like 'late%') \
         execute function told()",
        )
        .await;
    let mut listener = PgListener::connect(&world.target_url).await.unwrap();
    listener.listen("told").await.unwrap();
    let daemon = world.start().await;
    daemon.until_phase("streaming").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(world.source.clone(), Arc::clone(&stop)));
    let ask = "insert into tidemark.command (verb, stream, actor, reason) values ('resync', \
               'doctor', 'bench', 'bench')";
    world.execute(ask).await;
    daemon.until_phase("resyncing").await;
    let (mut lags, begun) = (vec![], Instant::now());
    let marks = world.source.collection::<Document>(COLLECTION);
    while !world.resync_ended().await {
        let written = Instant::now();
        marks.insert_one(doc! { "_id": format!("late{}", lags.len()) }).await.unwrap();
        listener.recv().await.unwrap();
        lags.push(written.elapsed().as_secs_f64() * 1_000.0);
    }
    let lasted = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let changes = writing.await.unwrap();
    daemon.stop();
    lags.sort_by(f64::total_cmp);
    let at = |share: f64| lags[((lags.len() - 1) as f64 * share) as usize];
    let busy =
        format!("{} marks, {:.0} changes/s, {lasted:.1} s", lags.len(), changes as f64 / lasted);
    (at(0.50), at(0.99), busy)
}

/// Changes documents at random until told to stop.
async fn write(source: Database, stop: Arc<AtomicBool>) -> u64 {
    let collection = source.collection::<Document>(COLLECTION);
    let mut rng = Rng::with_seed(5);
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut changes = 0;
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        for _ in 0..LOAD / 50 {
            let id = devstack::revalidation::gmc_number(rng.usize(..100_000));
            let set = doc! { "$set": { "n": rng.i32(..) } };
            collection.update_one(doc! { "_id": id }, set).await.unwrap();
            changes += 1;
        }
    }
    changes
}

impl World {
    /// Resyncs; returns its seconds.
    async fn resync(&self) -> f64 {
        // A position gone missing: what a stream repairs by itself.
        self.execute("update tidemark.checkpoint set resume_token = null").await;
        let daemon = self.start().await;
        self.walked(daemon).await
    }

    async fn resync_ended(&self) -> bool {
        let sql = "select exists (select from tidemark.gap_report g where not exists
                   (select from tidemark.command where done_at is null) and g.resync_id = (select \
                   max(id) from tidemark.resync))";
        sqlx::query_scalar(sql).fetch_one(&mut self.pg().await).await.unwrap()
    }
}
