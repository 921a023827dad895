//! The keeper of leases: renews all that this process holds by one statement, for as long as they
//! are ours; hears of requests meanwhile; and leaves reports for those who ask the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Fault};
use crate::model::phase::Phase;
use crate::model::step::Step;
use crate::pipeline::{GroupContext, wait};
use crate::postgres::Target;
use crate::retry;
use crate::settings::Settings;
use crate::state::{Lease, Renewal, Renewed, StateTables};
use crate::status::Board;

/// What is said of groups and streams is written down no more often than this, and only if it has
/// changed: every write of it is WAL.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Groups are handed over no faster than this.
const HAND_OVER_INTERVAL: Duration = Duration::from_secs(5);

/// The leases that this process holds.
pub(super) struct LeaseKeeper {
    settings: Arc<Settings>,
    state: StateTables,
    target: Target,
    board: Arc<Board>,
    held: Mutex<Vec<Held>>,
    /// A lease was granted, or a group whose lease is held has entered another phase.
    moved: Arc<Notify>,
    reports: Mutex<Reports>,
    /// When a group last went to another process.
    handed_over: Mutex<Option<Instant>>,
}

struct Held {
    lease: Lease,
    group: GroupContext,
    signs: Signs,
}

/// What the keeper tells of a lease.
#[derive(Clone)]
pub(super) struct Signs {
    /// It is no longer ours.
    pub lost: CancellationToken,
    /// One of its streams has a request.
    pub asked: Arc<Notify>,
    /// Somebody waits for its position.
    pub hurry: Arc<Notify>,
    /// Another process is to have it.
    pub hand_over: CancellationToken,
}

/// What was last written down.
#[derive(Default)]
struct Reports {
    at: Option<Instant>,
    /// The number of the change up to which streams' reports are written.
    changes: u64,
    groups: HashMap<String, serde_json::Value>,
}

/// The lease is kept for as long as this lives.
pub(super) struct Kept<'k> {
    keeper: &'k LeaseKeeper,
    lease: Lease,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.keeper.held().retain(|held| held.lease != self.lease);
    }
}

impl LeaseKeeper {
    pub fn new(
        settings: &Arc<Settings>,
        state: &StateTables,
        target: &Target,
        board: &Arc<Board>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::clone(settings),
            state: state.clone(),
            target: target.clone(),
            board: Arc::clone(board),
            held: Mutex::default(),
            moved: Arc::default(),
            reports: Mutex::default(),
            handed_over: Mutex::default(),
        })
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a lease, and gives signs of what becomes of it.
    pub fn keep(&self, lease: &Lease, group: &GroupContext, signs: Signs) -> Kept<'_> {
        let held = Held { lease: lease.clone(), group: group.clone(), signs };
        self.held().push(held);
        let mut reports = self.reports();
        // All of its streams are written down anew.
        (reports.at, reports.changes) = (None, 0);
        reports.groups.remove(lease.group());
        group.status.tell_of_phases(Arc::clone(&self.moved));
        self.moved.notify_one();
        Kept { keeper: self, lease: lease.clone() }
    }

    /// Renews three times in a lease's length. Only the database's "no" ends one: while the
    /// database is away nothing can be written by anyone, and the fence decides when it is back.
    /// Meanwhile it is tried no less often, so that a request is heard of at once after a failover.
    pub async fn run(self: Arc<Self>) {
        let duration = self.settings.lease.duration;
        let interval = (duration / 3).min(Duration::from_secs(2));
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            if let Err(fault) = self.renew(duration).await {
                failures += 1;
                self.board.target_answers(fault.code != Code::TargetUnreachable);
                let delay =
                    retry::delay(self.settings.retry, failures, fastrand::f64()).min(interval);
                for held in self.held().iter() {
                    held.group.status.retries(Step::Lease, failures, delay, &fault);
                }
                wait(&self.target, delay, &fault).await;
                continue;
            }
            failures = 0;
            tokio::select! {
                () = tokio::time::sleep_until(begun + interval) => {}
                () = self.moved.notified() => {}
            }
        }
    }

    async fn renew(&self, duration: Duration) -> Result<(), Fault> {
        let (renewals, is_due) = self.renewals();
        if renewals.is_empty() {
            return Ok(());
        }
        let renewed = self.state.renew(&renewals, duration).await?;
        self.board.target_answers(true);
        for (renewal, renewed) in renewals.iter().zip(renewed) {
            let held = self.held();
            let Some(held) = held.iter().find(|held| held.lease == renewal.lease) else { continue };
            match renewed {
                Renewed::Lost => held.signs.lost.cancel(),
                Renewed::Kept { commanded, wanted, hurried } => {
                    held.group.status.renewed();
                    if commanded {
                        held.signs.asked.notify_one();
                    }
                    if hurried {
                        held.signs.hurry.notify_one();
                    }
                    if wanted && self.may_hand_over(&held.group) {
                        held.signs.hand_over.cancel();
                    }
                }
            }
        }
        if is_due {
            self.write_reports(&renewals).await?;
        }
        Ok(())
    }

    /// Whether a group goes to a process that leads fewer: not while it is busy with more than
    /// events, and one after the other, so that what was asked for is asked for anew.
    fn may_hand_over(&self, group: &GroupContext) -> bool {
        let is_calm = group.streams.iter().all(|stream| {
            let report = stream.status.report();
            report.resync.is_none() && matches!(report.phase, Phase::Streaming | Phase::Parked)
        });
        let mut last = self.handed_over.lock().unwrap_or_else(PoisonError::into_inner);
        let may = is_calm && last.is_none_or(|at| at.elapsed() >= HAND_OVER_INTERVAL);
        if may {
            *last = Some(Instant::now());
        }
        may
    }

    /// What is renewed, and whether it is time to write reports.
    fn renewals(&self) -> (Vec<Renewal>, bool) {
        let interval = REPORT_INTERVAL.min(self.settings.lease.duration / 3);
        let mut reports = self.reports();
        let held = self.held();
        // Who asks the database is not to see a phase that is over.
        let is_due = reports.at.is_none_or(|at| at.elapsed() >= interval)
            || held.iter().any(|held| {
                let phase = held.group.status.report().phase;
                let written = reports.groups.get(held.lease.group());
                written.is_none_or(|report| report["phase"] != phase.name())
            });
        if is_due {
            reports.at = Some(Instant::now());
        }
        let renewals = held.iter().map(|held| {
            let report = is_due.then(|| group_report(&held.group));
            let known = reports.groups.get(held.lease.group());
            let report = report.filter(|report| known != Some(report));
            if let Some(report) = &report {
                reports.groups.insert(held.lease.group().to_owned(), report.clone());
            }
            Renewal { lease: held.lease.clone(), report }
        });
        (renewals.collect(), is_due)
    }

    /// Writes down what has changed of the streams.
    async fn write_reports(&self, renewals: &[Renewal]) -> Result<(), Fault> {
        let since = self.reports().changes;
        let (changes, changed) = self.board.changed_reports(since);
        let mut all_written = true;
        for renewal in renewals {
            let group = renewal.lease.group();
            let reports: Vec<(String, serde_json::Value)> = changed
                .iter()
                .filter(|report| report.group == group)
                .map(|report| {
                    (report.name.clone(), serde_json::to_value(report).unwrap_or_default())
                })
                .collect();
            if !reports.is_empty() {
                all_written &= self.state.note_reports(&renewal.lease, &reports).await?;
            }
        }
        if all_written {
            self.reports().changes = changes;
        }
        Ok(())
    }

    /// Gives a lease back, with a last report.
    pub async fn give_back(&self, lease: &Lease, group: &GroupContext) -> Result<(), Fault> {
        let renewal = Renewal { lease: lease.clone(), report: None };
        let _ = self.write_reports(&[renewal]).await;
        self.state.release(lease, &group_report(group)).await
    }
}

fn group_report(group: &GroupContext) -> serde_json::Value {
    serde_json::to_value(group.status.report()).unwrap_or_default()
}
