//! Who must know: rules turn status into incidents, the watch keeps them, senders tell Slack,
//! Sentry and whoever listens at a webhook.
//!
//! Invariants: status is read, never waited on; nothing here is waited for by the data path; an
//! incident is written down before it is told, while Postgres answers; identity is code and stream,
//! never an error's text; nothing that is told holds a secret or a document's content. `rule`,
//! `incident::{life, book}` and `channel::message` are pure.

mod channel;
mod crashes;
mod facts;
mod incident;
mod outbox;
mod rule;
mod sender;
mod tally;
mod test_incident;
mod watch;
mod weekly_summary;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::task::JoinSet;

pub use channel::answer::Sent;
pub use channel::heartbeat::Heartbeat;
pub use channel::message::Voice;
pub use channel::sentry::Sentry;
pub use channel::slack::{Bot, Webhook};
pub use channel::webhook::SignedWebhook;
pub use incident::Store;
pub use incident::book::{Book, Pace};
pub use incident::life::{Ack, Incident, Key};
pub use incident::mute::{EVERY_CODE, Mute, Mutes};
pub use incident::store::RESOLVED;
pub use outbox::{HEARTBEAT, Outbox, report};
pub use rule::observed::{Facts, KnownWalk, Limits, Observed, Seen};
pub use sender::Sender;

use crate::postgres::Target;
use crate::settings::Settings;
use crate::state::StateTables;
use crate::status::Board;

/// How long leading waits for the first look, at most.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);

/// The alert side of a running daemon.
#[derive(Debug)]
pub struct Alerts {
    tasks: JoinSet<()>,
    outbox: Arc<Outbox>,
    store: Store,
    pub sentry: Option<Arc<Sentry>>,
}

impl Alerts {
    /// Starts the watch and one sender a configured channel. Nothing is waited for.
    pub fn start(
        settings: &Settings,
        target: &Target,
        state: &StateTables,
        board: &Arc<Board>,
        holder: &str,
    ) -> Self {
        let store = Store::new(settings, target);
        let sentry = Sentry::new(settings, holder).map(Arc::new);
        let senders = senders(settings, sentry.as_ref());
        let outbox = outbox(settings, &senders, board);
        let mut tasks = JoinSet::new();
        let check_ins = sentry.as_ref().map(|sentry| {
            let (check_ins, waiting) = channel::sentry_checkin::CheckIns::new(settings);
            tasks.spawn(sender::check_in(Arc::clone(sentry), Arc::clone(&outbox), waiting));
            check_ins
        });
        let watch = watch::Watch::new(
            Arc::clone(&outbox),
            store.clone(),
            state.clone(),
            check_ins,
            settings,
            holder,
        );
        tasks.spawn(watch.run());
        for sender in senders {
            tasks.spawn(sender.run(Arc::clone(&outbox), store.clone()));
        }
        if let Some(heartbeat) = Heartbeat::new(&settings.alert, settings.checkpoint.idle_interval)
        {
            tasks.spawn(sender::beat(heartbeat, Arc::clone(&outbox)));
        }
        let summary = weekly_summary::WeeklySummary::new(&settings.alert, &outbox, &store);
        if let Some(summary) = summary {
            tasks.spawn(summary.run());
        }
        Self { tasks, outbox, store, sentry }
    }

    /// Whether this process watches, among other things.
    pub fn outbox(&self) -> Arc<Outbox> {
        Arc::clone(&self.outbox)
    }

    /// Waits, but not for long, until the watch has looked once and it is told if those before this
    /// process died: this one may die as soon as it leads.
    pub async fn first_look(&self) {
        let _ = tokio::time::timeout(FIRST_LOOK_MAX, self.outbox.told_of_crashes()).await;
    }

    /// Ends it. What has still to be told is written down; the next process tells it.
    pub async fn stop(mut self, in_order: bool) {
        self.tasks.shutdown().await;
        self.store.leave().await;
        if in_order {
            self.store.ends().await;
        }
    }
}

/// One sender a configured channel.
pub fn senders(settings: &Settings, sentry: Option<&Arc<Sentry>>) -> Vec<Sender> {
    let mut senders = Vec::new();
    senders.extend(Bot::new(&settings.alert).map(Sender::Bot));
    senders.extend(Webhook::new(&settings.alert).map(Sender::Webhook));
    senders.extend(sentry.cloned().map(Sender::Sentry));
    senders.extend(SignedWebhook::new(&settings.alert).map(Sender::Signed));
    senders
}

/// The outbox that the watch and the senders work at.
pub fn outbox(settings: &Settings, senders: &[Sender], board: &Arc<Board>) -> Arc<Outbox> {
    let delta = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
    let alert = &settings.alert;
    let pace =
        Pace { repeat: delta(alert.repeat_interval), keep_firing_for: delta(alert.resolve_hold) };
    let voice =
        Voice { service: settings.service.clone(), environment: settings.environment.clone() };
    let channels = senders.iter().map(Sender::channel).collect();
    let mutes = Mutes::new(&alert.maintenance, &[]);
    Outbox::new(voice, channels, pace, mutes, Arc::clone(board))
}
