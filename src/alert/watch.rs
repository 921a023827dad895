//! The watch: once a second, looks at the status, applies the rules, keeps the book, and writes it
//! down. One process of a service watches at a time; while Postgres is away, the one that watched
//! last goes on from memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::channel::sentry_checkin::CheckIns;
use crate::alert::crashes::Process;
use crate::alert::incident::Store;
use crate::alert::incident::life::Ack;
use crate::alert::outbox::Outbox;
use crate::alert::rule::observed::{Facts, Limits, Observed, Seen};
use crate::error::Fault;
use crate::settings::Settings;
use crate::state::{Command, LedStream, StateTables};
use crate::status::StreamReport;

const INTERVAL: Duration = Duration::from_secs(1);
/// How often the watch is taken anew.
const HOLD_INTERVAL: TimeDelta = TimeDelta::seconds(2);

const QUIET_MIN: TimeDelta = TimeDelta::seconds(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Postgres has not answered yet: who watches is not known.
    Unknown,
    Watching,
    /// Another process watches.
    Aside,
}

/// What one look needs to know from Postgres.
struct Known {
    /// Groups that this process leads: of their streams it has no need to ask.
    led_here: BTreeSet<String>,
    /// Of the streams of other groups.
    leases: Vec<LedStream>,
    facts: Facts,
    acks: Vec<(i64, Ack)>,
    /// What people last said of mutes.
    mutes: Vec<Command>,
}

#[derive(Debug)]
pub struct Watch {
    outbox: Arc<Outbox>,
    store: Store,
    state: StateTables,
    check_ins: Option<CheckIns>,
    limits: Limits,
    me: Process,
    length: Duration,
    role: Role,
    held_at: Option<DateTime<Utc>>,
    /// Until when nothing new is opened, because the process that watched before may still hand
    /// over what it opened.
    quiet_until: Option<DateTime<Utc>>,
}

impl Watch {
    pub fn new(
        outbox: Arc<Outbox>,
        store: Store,
        state: StateTables,
        check_ins: Option<CheckIns>,
        settings: &Settings,
        holder: &str,
    ) -> Self {
        let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        let within = |stream: &crate::settings::StreamSettings| {
            Some((stream.name.clone(), delta(stream.expect_changes_within?)))
        };
        let changes_within: BTreeMap<String, TimeDelta> =
            settings.streams.iter().filter_map(within).collect();
        Self {
            outbox,
            store,
            state,
            check_ins,
            limits: Limits { escalate_after: delta(settings.retry.escalate_after), changes_within },
            me: Process::new(holder),
            length: settings.lease.duration,
            role: Role::Unknown,
            held_at: None,
            quiet_until: None,
        }
    }

    /// Watches until aborted.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.turn(Utc::now()).await;
            self.outbox.has_looked();
        }
    }

    async fn turn(&mut self, now: DateTime<Utc>) {
        let known = match self.hold(now).await {
            Ok(()) => self.ask().await.ok(),
            Err(fault) => {
                tracing::debug!("incidents are kept in memory: {fault}");
                None
            }
        };
        self.outbox.record(known.is_some());
        if self.role == Role::Aside {
            return self.stand_aside(now, known.is_some()).await;
        }
        self.outbox.speak(true);
        if let Some(known) = &known {
            self.outbox.hear(&known.mutes);
            let mut book = self.outbox.book();
            for (id, ack) in &known.acks {
                book.acknowledge(now, *id, ack);
            }
        }
        let observed = self.observe(known.as_ref());
        self.look(now, &observed);
        if let Some(check_ins) = &mut self.check_ins {
            check_ins.see(&observed);
        }
        if known.is_some() && !self.outbox.save(&self.store, now).await {
            self.held_at = None;
        }
        self.outbox.show(now);
        self.outbox.due.notify_waiters();
    }

    fn look(&self, now: DateTime<Utc>, observed: &Observed) {
        let mut causes = observed.causes(now);
        if self.quiet_until.is_some_and(|until| now < until) {
            let book = self.outbox.book();
            causes.retain(|cause| {
                book.incidents.iter().any(|i| i.key == cause.key && !i.is_resolved())
            });
        }
        self.outbox.book().step(now, &causes, |key| observed.is_blind_to(key));
        self.outbox.address();
        self.outbox.pass_over_muted(now);
    }

    /// Takes or keeps the watch. A process that takes it over reads what the one before has left.
    async fn hold(&mut self, now: DateTime<Utc>) -> Result<(), Fault> {
        if self.held_at.is_some_and(|at| (TimeDelta::zero()..HOLD_INTERVAL).contains(&(now - at))) {
            return Ok(());
        }
        self.held_at = None;
        self.store.register(&self.me).await?;
        let dead = self.store.dead(&self.me).await?;
        let held = self.store.hold(&self.me.holder, self.length, &dead).await?;
        match (held, self.role) {
            (true, Role::Watching) => self.take_in(now).await?,
            (true, role) => {
                self.take_over(now).await?;
                self.quiet_until = (role == Role::Aside).then(|| now + self.quiet());
            }
            (false, Role::Aside) => {}
            (false, _) => self.hand_over().await,
        }
        self.role = if held { Role::Watching } else { Role::Aside };
        self.held_at = Some(now);
        Ok(())
    }

    /// How long nothing new is opened after the watch was taken over: the process that had it needs
    /// a moment to find out that its Postgres is back, and that another one watches.
    fn quiet(&self) -> TimeDelta {
        TimeDelta::from_std(self.length).unwrap_or(QUIET_MIN).max(QUIET_MIN)
    }

    /// Goes on from what is written down, and from what this process kept in memory while it did
    /// not know who watches.
    async fn take_over(&self, now: DateTime<Utc>) -> Result<(), Fault> {
        let mut loaded = self.store.load(now, &self.outbox.channels).await?;
        let mut book = self.outbox.book();
        let remembered = if self.role == Role::Unknown {
            std::mem::take(&mut book.incidents)
        } else {
            Vec::new()
        };
        // What was opened from memory finds its twin when it is saved.
        loaded.retain(|l| {
            !remembered.iter().any(|r| r.key == l.key && !r.is_resolved() && !l.is_resolved())
        });
        loaded.extend(remembered);
        book.incidents = loaded;
        tracing::info!(
            open = book.incidents.iter().filter(|i| !i.is_resolved()).count(),
            "watching for incidents"
        );
        Ok(())
    }

    /// Takes in the incidents of a process that watched from memory until just now and has handed
    /// them over; and marks those that Postgres has lost, so that they are written anew.
    async fn take_in(&self, now: DateTime<Utc>) -> Result<(), Fault> {
        let known: Vec<_> =
            self.outbox.book().incidents.iter().map(|incident| incident.tag).collect();
        if self.outbox.check(&self.store.held(&known).await?) {
            let mut left = self.store.load(now, &self.outbox.channels).await?;
            left.retain(|incident| !known.contains(&incident.tag));
            self.outbox.book().incidents.extend(left);
        }
        Ok(())
    }

    /// Another process watches now: what only this one's memory holds is left to it.
    async fn hand_over(&self) {
        self.outbox.speak(false);
        let remembered: Vec<_> =
            self.outbox.book().incidents.iter().filter(|i| i.id.is_none()).cloned().collect();
        for incident in remembered {
            if let Err(fault) = self.store.hand_over(&incident).await {
                tracing::warn!(
                    code = incident.key.code.name(),
                    "incident not handed over: {fault}"
                );
            }
        }
    }

    async fn ask(&mut self) -> Result<Known, Fault> {
        let groups = self.outbox.board.groups().iter().filter(|group| group.leads());
        let led_here: BTreeSet<String> = groups.map(|group| group.name().to_owned()).collect();
        let asked = async {
            let here: Vec<&str> = led_here.iter().map(String::as_str).collect();
            let leases = self.state.led_beside(&here).await?;
            let facts = self.store.facts(&self.me, self.check_ins.is_some()).await?;
            let (acks, mutes) = (self.store.acks().await?, self.state.mutes_said().await?);
            Ok((leases, facts, acks, mutes))
        };
        let known: Result<_, Fault> = asked.await;
        if known.is_err() {
            self.held_at = None;
        }
        let (leases, facts, acks, mutes) = known?;
        Ok(Known { led_here, leases, facts, acks, mutes })
    }

    /// Another process watches and speaks; this one shows what that one has written down.
    async fn stand_aside(&self, now: DateTime<Utc>, answers: bool) {
        self.outbox.speak(false);
        if answers && let Ok(said) = self.state.mutes_said().await {
            self.outbox.hear(&said);
        }
        if answers && let Ok(loaded) = self.store.load(now, &self.outbox.channels).await {
            self.outbox.book().incidents = loaded;
        }
        self.outbox.show(now);
    }

    fn observe(&self, known: Option<&Known>) -> Observed {
        let leases = known.iter().flat_map(|known| &known.leases);
        let mut held: BTreeMap<&str, &LedStream> =
            leases.map(|held| (held.stream.as_str(), held)).collect();
        let (_, own) = self.outbox.board.summaries();
        let own = own.into_iter().map(|own| {
            let held = held.remove(own.name.as_str());
            let answers = known.is_some_and(|known| !known.led_here.contains(&own.group));
            seen(own, held, answers)
        });
        let mut streams: Vec<Seen> = own.collect();
        // Another process of this service may lead streams that this one is not configured for.
        let others = held.into_values().filter(|held| held.live).filter_map(told);
        streams.extend(others.map(|report| Seen { report, fresh: true, unled_since: None }));
        Observed {
            streams,
            facts: known.map(|known| known.facts.clone()),
            channels: self.outbox.troubles(),
            limits: self.limits.clone(),
        }
    }
}

/// What is known of a stream: from here if it is led here, else from what its leader last wrote
/// down. `answers`: Postgres was asked for it, and has answered.
fn seen(own: StreamReport, held: Option<&LedStream>, answers: bool) -> Seen {
    if own.leader {
        return Seen { report: own, fresh: true, unled_since: None };
    }
    let told = held.filter(|held| held.live).and_then(told);
    let unled_since = if answers && !held.is_some_and(|held| held.live) {
        // A lease that was given back says nothing of when; then this process's own standby does.
        Some(held.map_or(own.phase_since, |held| held.expires_at.max(own.phase_since)))
    } else {
        None
    };
    match told {
        Some(report) => Seen { report, fresh: true, unled_since },
        // Nobody leads the stream, so that it is not known to be well: its report counts only where
        // it tells of trouble.
        None => Seen {
            fresh: !own.failing.is_empty() || own.halt_code.is_some(),
            report: own,
            unled_since,
        },
    }
}

/// What a stream's leader last wrote down.
fn told(held: &LedStream) -> Option<StreamReport> {
    StreamReport::told(held.report.as_ref(), held.group_report.as_ref())
}
