//! One group's task: get the lease, keep it, run the pipeline under it, and again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bugs::Bugs;
use super::lease_keeper::{LeaseKeeper, Signs};
use super::share::is_to_ask;
use crate::error::{Code, Fault};
use crate::model::phase::Phase;
use crate::model::step::Step;
use crate::ops::migrate;
use crate::pipeline::{self, Ended, GroupContext, Signals, retry, wait};
use crate::retry::{self, Backoff, Decision};
use crate::settings::Retry;
use crate::state::{Candidacy, Configured, Lease, LedStream};
use crate::status::{Board, GroupReport, StreamReport};

#[derive(Clone)]
pub(super) struct Task {
    pub group: GroupContext,
    pub board: Arc<Board>,
    pub holder: Arc<str>,
    pub stop: CancellationToken,
    /// Set once tidemark's own tables are there; the task that comes first makes them.
    pub migrated: Arc<OnceCell<()>>,
    pub bugs: Arc<Bugs>,
    pub keeper: Arc<LeaseKeeper>,
}

/// How often a standby reads what the leader says of the streams: the lease alone is asked for more
/// often.
const REPORTS_INTERVAL: Duration = Duration::from_secs(5);

/// How long a process leaves a group that it handed over to the one that asked for it.
const HANDED_OVER_PAUSE: Duration = Duration::from_secs(5);

impl Task {
    /// Follows the group until told to stop. Should the task panic, it is begun again after a
    /// pause, and the other groups go on.
    pub async fn run(self) {
        while !self.stop.is_cancelled() {
            let mut task = JoinSet::new();
            task.spawn(self.clone().follow());
            if let Some(Err(_)) = task.join_next().await {
                let fault = Fault::bug("the group's task panicked; the log names the place");
                self.group.status.lease_ended();
                self.group.status.halted(&fault);
                self.pause(self.probe_interval()).await;
            }
        }
        self.group.status.entered(Phase::Standby);
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
                    self.group.status.halted(&fault);
                    self.bugs.met(&self.group.name, &fault);
                    self.pause(self.probe_interval()).await;
                    continue;
                }
            };
            if lease.epoch() <= epoch {
                self.group.status.rewound("it grants an epoch that it had granted before");
            }
            epoch = lease.epoch();
            self.group.status.granted(lease.epoch(), &self.holder);
            self.group.doubt();
            let is_handed_over = Box::pin(self.lead(&lease)).await;
            self.group.status.lease_ended();
            if is_handed_over {
                tracing::info!(
                    group = &*self.group.name,
                    "handed over: another process leads fewer"
                );
                self.group.status.entered(Phase::Standby);
                self.pause(HANDED_OVER_PAUSE).await;
            }
        }
    }

    /// How long a halted group waits until it looks whether a person has mended the cause.
    fn probe_interval(&self) -> Duration {
        self.group.settings.retry.delay_max
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
            () = wait(&self.group.target, delay, fault) => {}
        }
    }

    /// Waits for the lease, on standby. Broken off when the process is told to stop.
    async fn lease(&self) -> Result<Lease, Fault> {
        if self.group.status.report().phase != Phase::Halted {
            self.group.status.entered(Phase::Standby);
        }
        let standby = (self.group.settings.lease.duration / 10)
            .clamp(Duration::from_millis(200), Duration::from_secs(1));
        // Groups led here already make this process less eager, so that replicas started together
        // share.
        let led = self.board.groups().iter().filter(|group| group.leads()).count();
        self.pause(Duration::from_millis(100) * u32::try_from(led).unwrap_or(10)).await;
        let mut standing = Standing::default();
        loop {
            let lease = retry!(self.group, Step::Lease, async {
                let lease = self.try_lease(&mut standing).await;
                let unreachable = |fault: &Fault| fault.code == Code::TargetUnreachable;
                self.board.target_answers(!lease.as_ref().is_err_and(unreachable));
                lease
            });
            if let Some(lease) = lease? {
                self.group.status.recovered(&[Step::Lease]);
                return Ok(lease);
            }
            self.group.status.entered(Phase::Standby);
            self.pause(standby).await;
        }
    }

    /// The lease if it is free; shows who holds it otherwise. Nobody stands by for streams that are
    /// another service's or environment's: that is looked at once, and again with each grant.
    async fn try_lease(&self, standing: &mut Standing) -> Result<Option<Lease>, Fault> {
        self.migrated.get_or_try_init(|| self.own_tables()).await?;
        let (group, state) = (&self.group, &self.group.state);
        if !standing.is_ours {
            state.refuse_anothers(&group.names()).await?;
            standing.is_ours = true;
        }
        let leases = state.leases().await?;
        if self.board.unready().is_empty() && is_to_ask(&leases, &group.name, &self.holder) {
            state.want(&group.name).await?;
        }
        let held = leases.into_iter().find(|held| held.group == *group.name);
        if let Some(held) = held.filter(|held| held.live) {
            let reads = standing.read_at.is_none_or(|at| at.elapsed() >= REPORTS_INTERVAL);
            if reads {
                standing.read_at = Some(Instant::now());
            }
            let streams = if reads { self.told().await? } else { Vec::new() };
            let of_group = streams.first().and_then(|(_, of_group)| of_group.clone());
            for (told, _) in streams {
                if let Some(context) = group.stream(&told.name) {
                    context.status.led_elsewhere(&told);
                }
            }
            group.status.led_by(held.holder, held.epoch, of_group);
            return Ok(None);
        }
        for (told, _) in self.told().await? {
            if let Some(context) = group.stream(&told.name) {
                context.status.remembers(&told);
            }
        }
        state
            .acquire(&Candidacy {
                group: &group.name,
                database: group.source.database_name(),
                options: &group.fingerprint(),
                configured: Configured { members: &group.members(), names: &group.all_names() },
                holder: &self.holder,
                duration: group.settings.lease.duration,
            })
            .await
    }

    /// What the leader last said of the group's streams, and of the group.
    async fn told(&self) -> Result<Vec<(StreamReport, Option<GroupReport>)>, Fault> {
        let of_group = |led: &LedStream| led.group.as_deref() == Some(&*self.group.name);
        let led = self.group.state.led().await?.into_iter().filter(of_group);
        Ok(led
            .filter_map(|led| {
                let report = serde_json::from_value(led.report?).ok()?;
                let of_group =
                    led.group_report.and_then(|report| serde_json::from_value(report).ok());
                Some((report, of_group))
            })
            .collect())
    }

    /// tidemark's own tables are there, or are made if that is allowed. The followed ones are seen
    /// to under the lease.
    async fn own_tables(&self) -> Result<(), Fault> {
        let GroupContext { settings, target, state, .. } = &self.group;
        if settings.migrate.automatic {
            migrate::own_tables(settings, target, state).await.map(drop)
        } else {
            migrate::look(target, state).await
        }
    }

    /// Leads the group for as long as the lease is ours: pipeline after pipeline, carrying out what
    /// is asked between two of them, pausing when one halts. Answers whether it was handed over.
    async fn lead(&self, lease: &Lease) -> bool {
        let lost = CancellationToken::new();
        let asked = Arc::new(Notify::new());
        let drain = self.stop.child_token();
        let hurry = Arc::new(Notify::new());
        let signs = Signs {
            lost: lost.clone(),
            asked: asked.clone(),
            hurry: hurry.clone(),
            hand_over: drain.clone(),
        };
        let kept = self.keeper.keep(lease, &self.group, signs);
        let mut halted: Option<Fault> = None;
        let mut ear = Ear::new(asked, self.group.settings.retry);
        let mut backoff = Backoff::new(self.group.settings.retry);
        let may_be_handed_over = loop {
            let signals = Signals {
                drain: drain.clone(),
                lost: lost.clone(),
                commanded: CancellationToken::new(),
                hurry: hurry.clone(),
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
                Ended::Drained => break true,
                Ended::Fenced => {
                    self.group.status.fenced();
                    // Whoever leads holds the lease; if it is still ours, nobody has to wait for
                    // its end.
                    break false;
                }
                Ended::Commanded => self.obey(lease, &mut ear).await,
                Ended::Rewound(_) | Ended::Again => {}
                Ended::Halted(_) | Ended::Lost(_) if drain.is_cancelled() => break true,
                Ended::Halted(fault) | Ended::Lost(fault) => {
                    self.halt(lease, &fault).await;
                    halted = Some(fault);
                    tokio::select! {
                        () = lost.cancelled() => return false,
                        () = ear.hears() => {
                            self.obey(lease, &mut ear).await;
                            halted = None;
                        }
                        () = self.pause(self.probe_interval()) => {}
                    }
                    if drain.is_cancelled() {
                        break true;
                    }
                }
            }
        };
        drop(kept);
        if let Err(fault) = self.keeper.give_back(lease, &self.group).await {
            tracing::warn!(group = lease.group(), "lease not given back, it will run out: {fault}");
        }
        may_be_handed_over && !self.stop.is_cancelled()
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
                self.group.status.retries(Step::Open, attempt, delay, &fault);
                tokio::select! {
                    () = lost.cancelled() => Some(Ended::Fenced),
                    () = self.wait(delay, &fault) => None,
                }
            }
        }
    }

    /// Runs a pipeline as a task of its own: should it panic, the lease is kept, and the group is
    /// halted.
    fn pipeline(&self, lease: &Lease, signals: &Signals, halted: Option<Fault>) -> JoinSet<Ended> {
        let (group, lease, signals) = (self.group.clone(), lease.clone(), signals.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            Box::pin(pipeline::run(&group, &lease, &signals, halted.as_ref())).await
        });
        task
    }

    async fn halt(&self, lease: &Lease, fault: &Fault) {
        self.group.status.halted(fault);
        self.group.doubt();
        self.bugs.met(lease.group(), fault);
        if let Err(fault) = self.group.state.note_halt(lease, Some(fault)).await {
            tracing::warn!(group = lease.group(), "halt not written down: {fault}");
        }
    }

    /// Carries out the requests for the group's streams. While Postgres refuses to let one be
    /// taken, this is tried again later and later.
    async fn obey(&self, lease: &Lease, ear: &mut Ear) {
        match pipeline::obey(&self.group, lease).await {
            Ok(()) => ear.heard(),
            Err(fault) => {
                tracing::warn!(group = lease.group(), "requests cannot be taken yet: {fault}");
                self.bugs.met(lease.group(), &fault);
                ear.turns_away();
            }
        }
    }
}

/// What a process that stands by has looked at.
#[derive(Default)]
struct Standing {
    is_ours: bool,
    /// When it last read what the leader says.
    read_at: Option<Instant>,
}

/// Hears that a stream of the group has a request. After one that could not be taken it hears
/// nothing for a while.
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
