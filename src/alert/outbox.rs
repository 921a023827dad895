//! The outbox: the book of incidents and how the channels fare ([`Outbox`]), shared by the watch,
//! which fills it, and the senders, which empty it. It is locked only for moments, never while
//! something is sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::alert::channel::answer::Sent;
use crate::alert::channel::backoff::ChannelTrouble;
use crate::alert::channel::backoff::Health;
use crate::alert::channel::message::Voice;
use crate::alert::incident::book::{Book, Pace};
use crate::alert::incident::life::{Delivery, Incident, Key};
use crate::alert::incident::mute::Mutes;
use crate::error::Code;
use crate::state::Command;
use crate::status::{Board, ChannelReport, IncidentReport};

/// The channels an incident is told to, as the outbox names them.
pub const BOT: &str = "slack";
pub const SLACK_WEBHOOK: &str = "slack_webhook";
pub const SENTRY: &str = "sentry";
pub const WEBHOOK: &str = "webhook";
pub const HEARTBEAT: &str = "heartbeat";

#[derive(Debug)]
pub struct Outbox {
    pub voice: Voice,
    /// The channels that are configured.
    pub channels: Vec<&'static str>,
    book: Mutex<Book>,
    health: Mutex<BTreeMap<&'static str, Health>>,
    mutes: Mutex<Mutes>,
    /// Whether this process tells the channels. It does unless it knows that another one watches.
    speaking: AtomicBool,
    /// Whether Postgres answers; while it does, an incident is told only after it was written down.
    recording: AtomicBool,
    /// Whether the watch has looked at least once.
    looked: AtomicBool,
    /// Wakes the senders, because something may be due.
    pub due: Notify,
    pub board: Arc<Board>,
}

impl Outbox {
    pub fn new(
        voice: Voice,
        channels: Vec<&'static str>,
        pace: Pace,
        mutes: Mutes,
        board: Arc<Board>,
    ) -> Arc<Self> {
        Arc::new(Self {
            voice,
            channels,
            book: Mutex::new(Book::new(pace)),
            health: Mutex::default(),
            mutes: Mutex::new(mutes),
            speaking: AtomicBool::new(false),
            recording: AtomicBool::new(false),
            looked: AtomicBool::new(false),
            due: Notify::new(),
            board,
        })
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, BTreeMap<&'static str, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mutes(&self) -> MutexGuard<'_, Mutes> {
        self.mutes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what people say of mutes.
    pub fn hear(&self, said: &[Command]) {
        let mut mutes = self.mutes();
        *mutes = mutes.hearing(said);
    }

    /// Whether such incidents are not told now.
    fn is_muted(&self, key: &Key, now: DateTime<Utc>) -> bool {
        self.mutes().of(key, now).is_some()
    }

    /// Of what opened and ended while it was muted, nobody need hear.
    pub fn pass_over_muted(&self, now: DateTime<Utc>) {
        let mutes = self.mutes().clone();
        let mut book = self.book();
        let over = book.incidents.iter_mut().filter(|incident| incident.is_resolved());
        for incident in over.filter(|incident| mutes.of(&incident.key, now).is_some()) {
            incident.unsaved |= incident.pass_over();
        }
    }

    pub fn speak(&self, speaking: bool) {
        self.speaking.store(speaking, Ordering::Release);
    }

    pub fn is_speaking(&self) -> bool {
        self.speaking.load(Ordering::Acquire)
    }

    pub fn record(&self, recording: bool) {
        self.recording.store(recording, Ordering::Release);
    }

    pub fn has_looked(&self) {
        self.looked.store(true, Ordering::Release);
    }

    /// Waits until the watch has looked; and, if it found that processes die one after the other,
    /// until every channel that takes messages has been told so.
    pub async fn told_of_crashes(&self) {
        let waits = |outbox: &Self| {
            let pending = |incident: &Incident| {
                let now = Utc::now();
                let due = |(channel, delivery): (&&'static str, &Delivery)| {
                    delivery.is_pending(incident) && outbox.is_due(now, channel)
                };
                incident.key.code == Code::CrashLoop
                    && !outbox.is_muted(&incident.key, now)
                    && incident.deliveries.iter().any(due)
            };
            !outbox.looked.load(Ordering::Acquire)
                || (outbox.is_speaking() && outbox.book().incidents.iter().any(pending))
        };
        while waits(self) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Gives every incident a delivery to each channel.
    pub fn address(&self) {
        for incident in &mut self.book().incidents {
            for channel in &self.channels {
                incident.deliveries.entry(channel).or_default();
            }
        }
    }

    /// What is to be sent to a channel next. `choose` says what is due of an incident, if anything;
    /// of those with something due and not muted, the incident that changed first comes first.
    pub fn next<N>(
        &self,
        now: DateTime<Utc>,
        channel: &'static str,
        choose: impl Fn(&Incident, &Delivery) -> Option<N>,
    ) -> Option<(Uuid, N)> {
        if !self.is_speaking() {
            return None;
        }
        let recording = self.recording.load(Ordering::Acquire);
        let mutes = self.mutes().clone();
        let book = self.book();
        let said = book
            .incidents
            .iter()
            .filter(|incident| !recording || incident.may_be_told())
            .filter(|incident| mutes.of(&incident.key, now).is_none());
        let mut due: Vec<_> = said
            .filter_map(|incident| {
                let notice = choose(incident, incident.deliveries.get(channel)?)?;
                Some((incident.detail.changed_at, incident.tag, notice))
            })
            .collect();
        due.sort_by_key(|(at, tag, _)| (*at, *tag));
        due.into_iter().next().map(|(_, tag, notice)| (tag, notice))
    }

    /// Notes by `note` what came of sending, and returns the incident as it is now, to be saved.
    pub fn sent(
        &self,
        tag: Uuid,
        channel: &'static str,
        note: impl FnOnce(&mut Delivery),
    ) -> Option<Incident> {
        let mut book = self.book();
        let incident = book.incidents.iter_mut().find(|incident| incident.tag == tag)?;
        let delivery = incident.deliveries.entry(channel).or_default();
        let version = delivery.version;
        note(delivery);
        delivery.version = version + 1;
        Some(incident.clone())
    }

    /// Marks an incident as one that has still to be written down.
    pub fn unsaved(&self, tag: Uuid) {
        if let Some(incident) =
            self.book().incidents.iter_mut().find(|incident| incident.tag == tag)
        {
            incident.unsaved = true;
        }
    }

    /// Learns how a channel fares from an answer.
    pub fn learn(&self, now: DateTime<Utc>, channel: &'static str, sent: &Sent) {
        let label = if channel == SLACK_WEBHOOK { BOT } else { channel };
        self.board.notice(label, matches!(sent, Sent::Done(_)));
        self.health().entry(channel).or_default().learn(now, sent);
        if let Sent::Refused(reason) | Sent::Malformed(reason) = sent {
            tracing::error!(channel, "notice refused: {reason}");
        } else if let Sent::Later { reason, .. } = sent {
            tracing::warn!(channel, "notice not delivered, it will be tried again: {reason}");
        }
    }

    pub fn is_due(&self, now: DateTime<Utc>, channel: &'static str) -> bool {
        self.health().get(channel).is_none_or(|health| health.is_due(now))
    }

    pub fn is_refused(&self, channel: &'static str) -> bool {
        self.health().get(channel).is_some_and(Health::is_refused)
    }

    pub fn troubles(&self) -> Vec<ChannelTrouble> {
        self.health().iter().filter_map(|(name, health)| health.trouble(name)).collect()
    }

    /// Shows the incidents and the channels to whoever looks at the status.
    pub fn show(&self, now: DateTime<Utc>) {
        let mutes = self.mutes().clone();
        let book = self.book();
        let mut open: Vec<&Incident> =
            book.incidents.iter().filter(|incident| !incident.is_resolved()).collect();
        open.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.opened_at));
        let open: Vec<IncidentReport> =
            open.into_iter().map(|incident| report(incident, &mutes, now)).collect();
        let pending = |channel: &str| {
            let waiting = book
                .incidents
                .iter()
                .filter(|i| i.deliveries.get(channel).is_some_and(|d| d.is_pending(i)));
            waiting.count()
        };
        let troubles = self.troubles();
        let channels = self
            .channels
            .iter()
            .map(|channel| ChannelReport {
                name: (*channel).to_owned(),
                pending: crate::model::count(pending(channel)),
                failing: troubles
                    .iter()
                    .find(|trouble| trouble.name == *channel)
                    .map(|t| t.reason.clone()),
            })
            .collect();
        drop(book);
        self.board.incidents(open, channels, mutes.in_force(now));
    }
}

/// An incident as the status shows it.
pub fn report(incident: &Incident, mutes: &Mutes, now: DateTime<Utc>) -> IncidentReport {
    let ack = incident.acked(now);
    IncidentReport {
        id: incident.id.unwrap_or_default(),
        code: incident.key.code.name().to_owned(),
        stream: incident.key.stream.clone(),
        severity: incident.severity,
        state: incident.state_name(now).to_owned(),
        opened_at: incident.opened_at,
        resolved_at: incident.resolved_at,
        count: incident.count,
        acked_by: ack.map(|ack| ack.by.clone()),
        acked_until: ack.map(|ack| ack.until),
        summary: incident.summary.clone(),
        doing: incident.detail.doing.clone(),
        action: incident.detail.action.clone(),
        muted: mutes.of(&incident.key, now),
    }
}
