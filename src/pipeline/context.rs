//! What every part of a pipeline works with: the group and its streams, the signals that end a
//! pipeline, how one ends, and the one way to try a step again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::apply::{Mapping, RowBuffers, Statements, Together};
use crate::batch::Routes;
use crate::error::{Class, Code, Fault};
use crate::model::namespace::{Namespace, Table};
use crate::model::step::Step;
use crate::postgres::Target;
use crate::retry::{Backoff, Decision};
use crate::settings::{self, Settings};
use crate::source::{ChangeStreamOptions, Source};
use crate::state::{Member, StateTables};
use crate::status;

/// Everything the pipeline of a group works with. One for the life of the process.
#[derive(Debug, Clone)]
pub struct GroupContext {
    pub settings: Arc<Settings>,
    pub name: Arc<str>,
    /// Of the group's database.
    pub source: Source,
    pub target: Target,
    pub state: StateTables,
    pub streams: Arc<[Context]>,
    pub routes: Arc<Routes>,
    pub buffers: RowBuffers,
    pub status: status::Group,
    /// By stream: events of one that is parked need not be prepared.
    pub parked: Arc<[AtomicBool]>,
    /// Collections that are still let through, though no stream follows them any more: the stored
    /// position is that of an event which may be theirs.
    pub leaving: Arc<Mutex<BTreeSet<String>>>,
    /// How idle positions are committed with those of the process's other groups, if it has any.
    pub together: Option<Together>,
    /// The stored position is that of an event of a collection that is followed.
    pub is_freed: Arc<AtomicBool>,
}

/// Everything that is one stream's. One for the life of the process.
#[derive(Debug, Clone)]
pub struct Context {
    pub settings: Arc<Settings>,
    pub config: settings::StreamSettings,
    /// Its place in its group.
    pub place: usize,
    pub source: Source,
    pub namespace: Namespace,
    pub target: Target,
    pub table: Table,
    pub state: StateTables,
    pub mapping: Arc<Mapping>,
    pub statements: Statements,
    pub buffers: RowBuffers,
    pub status: status::Stream,
    /// Both ends were looked at and found to be what they should, and nothing has been heard since
    /// that would doubt it.
    pub proved: Arc<AtomicBool>,
    /// The table was made or widened as the configuration says: not done again.
    pub widened: Arc<AtomicBool>,
    /// How often it was parked since it was last walked to the end.
    pub parked_times: Arc<AtomicU64>,
}

/// Why a pipeline ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop and has committed what it had.
    Drained,
    /// Somebody asks something of a stream; what the group had is committed.
    Commanded,
    /// A stream was parked, or may go on: what the group had is committed, and it is taken up anew.
    Again,
    /// The server does not know the position any more.
    Lost(Fault),
    /// A person must act; or an invariant broke, which stops this group and no other.
    Halted(Fault),
    /// Another process was granted the group.
    Fenced,
    /// The database went back: what it says now is to be taken up.
    Rewound(Fault),
}

impl Ended {
    /// The end an error calls for: a function of its class.
    pub(super) fn of(fault: Fault) -> Self {
        match fault.class {
            Class::Fenced => Self::Fenced,
            Class::Rewound => Self::Rewound(fault),
            Class::HistoryLost => Self::Lost(fault),
            Class::Transient | Class::Unknown | Class::Record | Class::Halt | Class::Bug => {
                Self::Halted(fault)
            }
        }
    }
}

/// What tells a pipeline to end.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Finish the batch, commit, end.
    pub drain: CancellationToken,
    /// Finish the batch, commit, end: somebody asks something of a stream.
    pub commanded: CancellationToken,
    /// The lease is gone: end without another write.
    pub lost: CancellationToken,
    /// Somebody waits for the position: commit it at once, though the group is silent.
    pub hurry: Arc<Notify>,
}

impl Signals {
    /// Waits for any of them.
    pub(super) async fn any(&self) {
        tokio::select! {
            () = self.end() => {}
            () = self.commanded.cancelled() => {}
        }
    }

    /// Waits until the process is told to stop or the lease is gone. What is asked of a stream
    /// waits for what is being written.
    pub(super) async fn end(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.lost.cancelled() => {}
        }
    }
}

impl GroupContext {
    pub(super) fn change_stream_options(&self) -> ChangeStreamOptions {
        let streams: Vec<_> = self.streams.iter().map(|stream| &stream.config).collect();
        let mut options = ChangeStreamOptions::of(&streams, &self.settings);
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if !leaving.is_empty() {
            options.collections = Arc::new(options.collections.union(&leaving).cloned().collect());
        }
        options
    }

    /// What the stored position must have been made under.
    pub fn fingerprint(&self) -> String {
        self.change_stream_options().fingerprint()
    }

    /// What it is called in messages.
    pub fn names(&self) -> Vec<&str> {
        self.streams.iter().map(|stream| stream.config.name.as_str()).collect()
    }

    /// Of the streams of all groups.
    pub fn all_names(&self) -> Vec<&str> {
        self.settings.streams.iter().map(|stream| stream.name.as_str()).collect()
    }

    pub fn members(&self) -> Vec<Member<'_>> {
        self.streams.iter().map(Context::member).collect()
    }

    pub fn stream(&self, name: &str) -> Option<&Context> {
        self.streams.iter().find(|stream| stream.config.name == name)
    }

    /// What was found at both ends of its streams has to be looked at anew.
    pub fn doubt(&self) {
        for stream in self.streams.iter() {
            stream.proved.store(false, Ordering::Relaxed);
        }
    }

    /// Whether events of collections are let through that no stream follows any more.
    pub(super) fn lets_others_through(&self) -> bool {
        !self.leaving.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether it goes on without a stream that cannot be followed.
    pub(super) fn parks(&self) -> bool {
        self.streams.len() > 1
    }

    pub(super) fn is_parked(&self, stream: usize) -> bool {
        self.parked.get(stream).is_some_and(|parked| parked.load(Ordering::Acquire))
    }

    pub(super) fn set_parked(&self, stream: usize, is_parked: bool) {
        if let Some(parked) = self.parked.get(stream) {
            parked.store(is_parked, Ordering::Release);
        }
    }

    /// Counts and shows a failure of `step`, and waits until the next try.
    ///
    /// # Errors
    /// The failure, if it is not to be tried again. Its class never allows another try then.
    pub async fn wait_or_give_up(
        &self,
        step: Step,
        backoff: &mut Backoff,
        fault: Fault,
    ) -> Result<(), Fault> {
        let show = |attempt, delay, fault: &Fault| self.status.retries(step, attempt, delay, fault);
        wait_or_give_up(&self.target, backoff, fault, show).await
    }
}

impl Context {
    fn member(&self) -> Member<'_> {
        Member {
            stream: &self.config.name,
            collection: &self.config.collection,
            table: &self.table,
        }
    }

    /// [`GroupContext::wait_or_give_up`], of a step that is one stream's.
    ///
    /// # Errors
    /// The failure, if it is not to be tried again.
    pub async fn wait_or_give_up(
        &self,
        step: Step,
        backoff: &mut Backoff,
        fault: Fault,
    ) -> Result<(), Fault> {
        let show = |attempt, delay, fault: &Fault| self.status.retries(step, attempt, delay, fault);
        wait_or_give_up(&self.target, backoff, fault, show).await
    }
}

/// Waits until the next try, and shows which it will be.
///
/// # Errors
/// The failure, if it is not to be tried again.
async fn wait_or_give_up(
    target: &Target,
    backoff: &mut Backoff,
    fault: Fault,
    show: impl FnOnce(u64, Duration, &Fault) + Send,
) -> Result<(), Fault> {
    match backoff.decide(fault.clone(), Instant::now(), fastrand::f64()) {
        Decision::GiveUp(fault) => Err(fault),
        Decision::Wait(delay, attempt) => {
            show(attempt, delay, &fault);
            wait(target, delay, &fault).await;
            Ok(())
        }
    }
}

/// Waits out a failure; no longer than until Postgres gives a session again, if it was that it gave
/// none.
pub async fn wait(target: &Target, delay: Duration, fault: &Fault) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = target.answers_again(), if fault.code == Code::TargetUnreachable => {}
    }
}

/// `retry!(context, step, call)` awaits `call`, made anew each time, until it succeeds. A failure
/// is counted and shown as one of `step` and waited out, for as long as `[retry]` and its class
/// allow: else it is the result. With `until stop`, a wait ends when `stop` does, and the failure
/// is the result though its class allows another try; a call is never broken off.
///
/// A macro, because `call` may borrow mutably what is borrowed again for the next try, and futures
/// of closures that lend cannot be proved to be `Send`.
macro_rules! retry {
    ($context:expr, $step:expr, $call:expr) => {
        $crate::pipeline::retry!($context, $step, $call, until std::future::pending::<()>())
    };
    ($context:expr, $step:expr, $call:expr, until $stop:expr) => {{
        let mut backoff = $crate::retry::Backoff::new($context.settings.retry);
        loop {
            let fault: $crate::error::Fault = match $call.await {
                Ok(done) => break Ok(done),
                Err(fault) => fault,
            };
            let waited = tokio::select! {
                biased;
                () = $stop, if fault.class.may_retry() => Err(fault),
                waited = $context.wait_or_give_up($step, &mut backoff, fault.clone()) => waited,
            };
            if let Err(fault) = waited {
                break Err(fault);
            }
        }
    }};
}

pub(crate) use retry;

#[cfg(test)]
mod tests {
    use super::*;

    struct Patience {
        retry: settings::Retry,
    }

    /// Waits no time, and counts.
    struct Waiter {
        settings: Patience,
        waits: u64,
    }

    impl Waiter {
        fn new() -> Self {
            let retry = settings::Retry {
                attempts_max: 0,
                delay_min: Duration::ZERO,
                delay_max: Duration::ZERO,
                escalate_after: Duration::MAX,
            };
            Self { settings: Patience { retry }, waits: 0 }
        }

        async fn wait_or_give_up(
            &mut self,
            _: Step,
            backoff: &mut Backoff,
            fault: Fault,
        ) -> Result<(), Fault> {
            tokio::task::yield_now().await;
            match backoff.decide(fault, Instant::now(), 0.0) {
                Decision::GiveUp(fault) => Err(fault),
                Decision::Wait(_, attempt) => {
                    self.waits = attempt;
                    Ok(())
                }
            }
        }
    }

    fn fault(class: Class) -> Fault {
        Fault::new(class, Code::SourceUnreachable, "x", "")
    }

    #[tokio::test]
    async fn a_call_is_made_until_it_succeeds_or_fails_as_what_is_not_tried_again() {
        let mut waiter = Waiter::new();
        let answers = [Err(fault(Class::Transient)), Err(fault(Class::Unknown)), Ok(7)];
        let mut answers = answers.into_iter();
        let answered = retry!(waiter, Step::Walk, async { answers.next().unwrap() });
        assert_eq!((answered, waiter.waits), (Ok(7), 2));
        let answered: Result<(), _> =
            retry!(waiter, Step::Walk, async { Err(fault(Class::HistoryLost)) });
        assert_eq!(answered, Err(fault(Class::HistoryLost)));
    }

    #[tokio::test]
    async fn an_end_breaks_off_a_wait_and_no_call() {
        let mut waiter = Waiter::new();
        let call = || async {
            tokio::task::yield_now().await;
            Err::<(), _>(fault(Class::Transient))
        };
        let ended = retry!(waiter, Step::Apply, call(), until async {});
        assert_eq!((ended, waiter.waits), (Err(fault(Class::Transient)), 0));
        let done = retry!(waiter, Step::Apply, async {
            tokio::task::yield_now().await;
            Ok::<_, Fault>(())
        }, until async {});
        assert_eq!(done, Ok(()), "it was told to end before it began, and was finished");
    }
}
