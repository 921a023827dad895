//! One stream's task: get the lease, keep it, run the pipeline under it, and again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bugs::Bugs;
use super::lease_keeper::keep;
use crate::error::{Code, Fault};
use crate::model::phase::Phase;
use crate::model::step::Step;
use crate::ops::migrate;
use crate::pipeline::{self, Context, Ended, Signals, retry};
use crate::retry::{self, Backoff, Decision};
use crate::settings::Retry;
use crate::state::{Lease, LeaseRow};
use crate::status::{Board, StreamReport};

#[derive(Clone)]
pub(super) struct Task {
    pub context: Context,
    pub board: Arc<Board>,
    pub holder: Arc<str>,
    pub stop: CancellationToken,
    /// Set once tidemark's own tables are there; the task that comes first makes them.
    pub migrated: Arc<OnceCell<()>>,
    pub bugs: Arc<Bugs>,
}

impl Task {
    /// Follows the stream until told to stop. Should the task panic, it is begun again after a
    /// pause, and the other streams go on.
    pub async fn run(self) {
        while !self.stop.is_cancelled() {
            let mut task = JoinSet::new();
            task.spawn(self.clone().follow());
            if let Some(Err(_)) = task.join_next().await {
                let fault = Fault::bug("the stream's task panicked; the log names the place");
                self.context.status.lease_ended();
                self.context.status.halted(&fault);
                self.pause(self.probe_interval()).await;
            }
        }
        self.context.status.entered(Phase::Standby);
    }

    async fn follow(self) {
        let mut epoch = 0;
        while !self.stop.is_cancelled() {
            let lease = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                lease = self.lease() => lease,
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(fault) => {
                    self.context.status.halted(&fault);
                    self.bugs.met(&self.context.config.name, &fault);
                    self.pause(self.probe_interval()).await;
                    continue;
                }
            };
            self.board.led_elsewhere(lease.stream(), false);
            if lease.epoch() <= epoch {
                self.context.status.rewound("it grants an epoch that it had granted before");
            }
            epoch = lease.epoch();
            self.context.status.granted(lease.epoch(), &self.holder);
            Box::pin(self.lead(&lease)).await;
            self.context.status.lease_ended();
        }
    }

    /// How long a halted stream waits until it looks whether a person has mended the cause.
    fn probe_interval(&self) -> Duration {
        self.context.settings.retry.delay_max
    }

    async fn pause(&self, duration: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }

    /// Waits until what failed is to be tried again, or the process is told to stop.
    async fn wait(&self, delay: Duration, fault: &Fault) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.context.wait(delay, fault) => {}
        }
    }

    /// Waits for the lease, on standby. Broken off when the process is told to stop.
    async fn lease(&self) -> Result<Lease, Fault> {
        if self.context.status.report().phase != Phase::Halted {
            self.context.status.entered(Phase::Standby);
        }
        let standby = (self.context.settings.lease.duration / 10)
            .clamp(Duration::from_millis(200), Duration::from_secs(1));
        // Streams led here already make this process less eager, so that replicas started together
        // share.
        let led = self.board.streams().iter().filter(|stream| stream.leads()).count();
        self.pause(Duration::from_millis(100) * u32::try_from(led).unwrap_or(10)).await;
        let mut ours = false;
        loop {
            let lease = retry!(self.context, Step::Lease, async {
                let lease = self.try_lease(&mut ours).await;
                let unreachable = |fault: &Fault| fault.code == Code::TargetUnreachable;
                self.board.target_answers(!lease.as_ref().is_err_and(unreachable));
                lease
            });
            if let Some(lease) = lease? {
                self.context.status.recovered(&[Step::Lease]);
                return Ok(lease);
            }
            self.context.status.entered(Phase::Standby);
            self.pause(standby).await;
        }
    }

    /// The lease if it is free; shows who holds it otherwise. Nobody stands by for a stream that is
    /// another service's or environment's: that is looked at once, and again with each grant.
    async fn try_lease(&self, ours: &mut bool) -> Result<Option<Lease>, Fault> {
        self.migrated.get_or_try_init(|| self.own_tables()).await?;
        let name = &self.context.config.name;
        if !*ours {
            self.context.state.refuse_anothers(&[name]).await?;
            *ours = true;
        }
        let held = self.context.state.leases().await?.into_iter().find(|held| held.stream == *name);
        match held {
            Some(held) if held.live => {
                self.show_holder(held);
                return Ok(None);
            }
            Some(LeaseRow { report: Some(left), .. }) => {
                if let Ok(left) = serde_json::from_value(left) {
                    self.context.status.remembers(&left);
                }
            }
            _ => {}
        }
        let (source, options) = (self.context.namespace.to_string(), self.context.fingerprint());
        let duration = self.context.settings.lease.duration;
        self.context.state.acquire(name, &source, &options, &self.holder, duration).await
    }

    /// tidemark's own tables are there, or are made if that is allowed. The followed one is seen to
    /// under the lease.
    async fn own_tables(&self) -> Result<(), Fault> {
        let Context { settings, target, state, .. } = &self.context;
        if settings.migrate.automatic {
            migrate::own_tables(settings, target, state).await.map(drop)
        } else {
            migrate::look(target, state).await
        }
    }

    fn show_holder(&self, held: LeaseRow) {
        self.board.led_elsewhere(&held.stream, true);
        let told: Option<StreamReport> =
            held.report.and_then(|report| serde_json::from_value(report).ok());
        self.context.status.led_by(held.holder, held.epoch, told);
    }

    /// Leads the stream for as long as the lease is ours: pipeline after pipeline, carrying out
    /// what is asked between two of them, pausing when one halts.
    async fn lead(&self, lease: &Lease) {
        let lost = CancellationToken::new();
        let asked = Arc::new(Notify::new());
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(
            self.context.clone(),
            Arc::clone(&self.board),
            lease.clone(),
            lost.clone(),
            asked.clone(),
        ));
        let mut halted: Option<Fault> = None;
        let mut ear = Ear::new(asked, self.context.settings.retry);
        let mut backoff = Backoff::new(self.context.settings.retry);
        loop {
            let signals = Signals {
                drain: self.stop.clone(),
                lost: lost.clone(),
                commanded: CancellationToken::new(),
            };
            let mut pipeline = self.pipeline(lease, &signals, halted.take());
            let joined = tokio::select! {
                joined = pipeline.join_next() => joined,
                () = ear.hears() => {
                    signals.commanded.cancel();
                    pipeline.join_next().await
                }
            };
            let ended = joined.and_then(Result::ok).unwrap_or_else(|| {
                Ended::Halted(Fault::bug("the pipeline panicked; the log names the place"))
            });
            let Some(ended) = self.wait_out(ended, &mut backoff, &lost).await else { continue };
            match ended {
                Ended::Drained => break,
                Ended::Fenced => {
                    self.context.status.fenced();
                    return;
                }
                Ended::Commanded => self.obey(lease, &mut ear).await,
                Ended::Rewound(_) => {}
                Ended::Halted(_) | Ended::Lost(_) if self.stop.is_cancelled() => break,
                Ended::Halted(fault) | Ended::Lost(fault) => {
                    self.halt(lease, &fault).await;
                    halted = Some(fault);
                    tokio::select! {
                        () = lost.cancelled() => return,
                        () = ear.hears() => {
                            self.obey(lease, &mut ear).await;
                            halted = None;
                        }
                        () = self.pause(self.probe_interval()) => {}
                    }
                    if self.stop.is_cancelled() {
                        break;
                    }
                }
            }
        }
        keeper.abort_all();
        let report = serde_json::to_value(self.context.status.report()).unwrap_or_default();
        if let Err(fault) = self.context.state.release(lease, &report).await {
            tracing::warn!(
                stream = lease.stream(),
                "lease not given back, it will run out: {fault}"
            );
        }
    }

    /// Waits out a halt whose cause may pass by itself, wherever the pipeline met it: `None` says
    /// that a pipeline is to be begun again. Every other end is given back.
    async fn wait_out(
        &self,
        ended: Ended,
        backoff: &mut Backoff,
        lost: &CancellationToken,
    ) -> Option<Ended> {
        let Ended::Halted(fault) = ended else {
            backoff.reset();
            return Some(ended);
        };
        match backoff.decide(fault.clone(), std::time::Instant::now(), fastrand::f64()) {
            Decision::GiveUp(fault) => Some(Ended::Halted(fault)),
            Decision::Wait(delay, attempt) => {
                self.context.status.retries(Step::Open, attempt, delay, &fault);
                tokio::select! {
                    () = lost.cancelled() => Some(Ended::Fenced),
                    () = self.wait(delay, &fault) => None,
                }
            }
        }
    }

    /// Runs a pipeline as a task of its own: should it panic, the lease is kept, and the stream is
    /// halted.
    fn pipeline(&self, lease: &Lease, signals: &Signals, halted: Option<Fault>) -> JoinSet<Ended> {
        let (context, lease, signals) = (self.context.clone(), lease.clone(), signals.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            Box::pin(pipeline::run(&context, &lease, &signals, halted.as_ref())).await
        });
        task
    }

    async fn halt(&self, lease: &Lease, fault: &Fault) {
        self.context.status.halted(fault);
        self.bugs.met(lease.stream(), fault);
        let code = Some((fault.code.name(), fault.message.as_str()));
        if let Err(fault) = self.context.state.note_phase(lease, Phase::Halted, code).await {
            tracing::warn!(stream = lease.stream(), "halt not written down: {fault}");
        }
    }

    /// Carries out the requests for the stream. While Postgres refuses to let one be taken, this is
    /// tried again later and later.
    async fn obey(&self, lease: &Lease, ear: &mut Ear) {
        match pipeline::obey(&self.context, lease).await {
            Ok(()) => ear.heard(),
            Err(fault) => {
                tracing::warn!(stream = lease.stream(), "requests cannot be taken yet: {fault}");
                self.bugs.met(lease.stream(), &fault);
                ear.turns_away();
            }
        }
    }
}

/// Hears that the stream has a request. After one that could not be taken it hears nothing for a
/// while.
struct Ear {
    asked: Arc<Notify>,
    settings: Retry,
    failures: u64,
    deaf_until: Instant,
}

impl Ear {
    fn new(asked: Arc<Notify>, settings: Retry) -> Self {
        Self { asked, settings, failures: 0, deaf_until: Instant::now() }
    }

    async fn hears(&self) {
        tokio::time::sleep_until(self.deaf_until).await;
        self.asked.notified().await;
    }

    fn heard(&mut self) {
        self.failures = 0;
        self.forget();
    }

    /// Forgets the calls so far: their requests are done, or wait for their turn, of which the
    /// keeper tells when it has come.
    fn forget(&self) {
        let _ = self.asked.notified().now_or_never();
    }

    fn turns_away(&mut self) {
        self.forget();
        self.failures += 1;
        self.deaf_until =
            Instant::now() + retry::delay(self.settings, self.failures, fastrand::f64());
    }
}
