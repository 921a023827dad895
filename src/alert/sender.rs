//! Sending: what is due of an incident on a channel (pure), and the loops that send it, one a
//! channel.
//!
//! A channel that was away is told the current state, not the queue: transitions it missed are one
//! reply.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sentry::protocol::MonitorCheckIn;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::alert::channel::answer::Sent;
use crate::alert::channel::heartbeat::{Heartbeat, without_proof};
use crate::alert::channel::message::{self, Voice};
use crate::alert::channel::sentry::Sentry;
use crate::alert::channel::slack::{Bot, Call, Webhook};
use crate::alert::channel::webhook::{self, SignedWebhook};
use crate::alert::incident::Store;
use crate::alert::incident::life::{Delivery, Incident};
use crate::alert::outbox::{BOT, HEARTBEAT, Outbox, SENTRY, SLACK_WEBHOOK, WEBHOOK};
use crate::failpoint;

/// A message is edited at most this often.
const EDIT_INTERVAL: TimeDelta = TimeDelta::seconds(60);

/// What is due of one incident on one channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The root message.
    Post(Value),
    /// The last transition, in its thread.
    Reply(Value, (String, String), u32),
    /// The root message as it should look now.
    Edit(Value, (String, String)),
    /// Nothing is sent; the channel only counts as told of the transition.
    Nothing,
}

/// What Slack's bot has to be told of an incident.
pub fn for_bot(
    voice: &Voice,
    incident: &Incident,
    delivery: &Delivery,
    now: DateTime<Utc>,
) -> Option<Notice> {
    let revision = incident.detail.revision;
    let Some(place) = &delivery.message else {
        return (delivery.told < revision)
            .then(|| Notice::Post(message::root(voice, incident, now)));
    };
    if delivery.told < revision {
        let skipped = revision - delivery.told - 1;
        return Some(Notice::Reply(
            message::reply(voice, incident, skipped, now),
            place.clone(),
            revision,
        ));
    }
    // A message is edited once a minute at most: for what changes all the time from a minute after
    // the opening on, for a transition at once if no edit is younger than that.
    let since = match delivery.edited_at {
        Some(at) => at,
        None if incident.detail.last_is_news() => DateTime::<Utc>::MIN_UTC,
        None => incident.opened_at,
    };
    if now - since < EDIT_INTERVAL {
        return None;
    }
    let body = message::root(voice, incident, now);
    (delivery.shown.as_ref() != Some(&digest(&body))).then(|| Notice::Edit(body, place.clone()))
}

/// What Slack's webhook has to be told: the opening and the end, and those only while the bot is
/// refused or where there is none.
pub fn for_webhook(
    voice: &Voice,
    incident: &Incident,
    delivery: &Delivery,
    bot: Option<(&Delivery, bool)>,
    now: DateTime<Utc>,
) -> Option<Notice> {
    if delivery.told == incident.detail.revision {
        return None;
    }
    let (by_bot, bot_is_refused) =
        bot.map_or((false, true), |(d, refused)| (d.told == incident.detail.revision, refused));
    let opening = delivery.worst.is_none() && bot.is_none_or(|(bot, _)| bot.message.is_none());
    let end = incident.is_resolved() && !delivery.ended;
    if by_bot || (bot_is_refused && !opening && !end) {
        return Some(Notice::Nothing);
    }
    bot_is_refused.then(|| Notice::Post(message::root(voice, incident, now)))
}

/// What Sentry has to be told: that an incident opened, and that it got worse.
pub fn for_sentry(incident: &Incident, delivery: &Delivery) -> Option<Notice> {
    if delivery.worst < Some(incident.detail.worst) {
        return Some(Notice::Post(Value::Null));
    }
    (delivery.told < incident.detail.revision).then_some(Notice::Nothing)
}

/// What a webhook of anybody's has to be told: every transition, or the last of those it missed.
pub fn for_signed(
    voice: &Voice,
    incident: &Incident,
    delivery: &Delivery,
    now: DateTime<Utc>,
) -> Option<Notice> {
    let (told, revision) = (delivery.told, incident.detail.revision);
    let skipped = revision.saturating_sub(told + 1);
    (told < revision).then(|| Notice::Post(webhook::body(voice, incident, told == 0, skipped, now)))
}

/// A digest of what a message shows: short to keep, and the same in every release.
fn digest(body: &Value) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, body.to_string().as_bytes()).simple().to_string()
}

/// One channel's sender.
#[derive(Debug)]
pub enum Sender {
    Bot(Bot),
    Webhook(Webhook),
    Sentry(Arc<Sentry>),
    Signed(SignedWebhook),
}

impl Sender {
    pub const fn channel(&self) -> &'static str {
        match self {
            Self::Bot(_) => BOT,
            Self::Webhook(_) => SLACK_WEBHOOK,
            Self::Sentry(_) => SENTRY,
            Self::Signed(_) => WEBHOOK,
        }
    }

    /// Sends until aborted.
    pub async fn run(self, outbox: Arc<Outbox>, store: Store) {
        loop {
            tokio::select! {
                () = outbox.due.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            while self.turn(&outbox, &store, Utc::now()).await {}
        }
    }

    /// Sends the next thing that is due, if there is one and the channel may be tried. Returns
    /// whether to go on.
    pub async fn turn(&self, outbox: &Outbox, store: &Store, now: DateTime<Utc>) -> bool {
        let channel = self.channel();
        if !outbox.is_due(now, channel) {
            return false;
        }
        let refused = outbox.is_refused(BOT);
        let next = outbox.next(now, channel, |incident, delivery| {
            let notice = match self {
                Self::Bot(_) => for_bot(&outbox.voice, incident, delivery, now),
                Self::Webhook(_) => {
                    let bot = incident.deliveries.get(BOT).map(|bot| (bot, refused));
                    for_webhook(&outbox.voice, incident, delivery, bot, now)
                }
                Self::Sentry(_) => for_sentry(incident, delivery),
                Self::Signed(_) => for_signed(&outbox.voice, incident, delivery, now),
            };
            notice.map(|notice| (incident.clone(), notice))
        });
        let Some((tag, (incident, notice))) = next else { return false };
        failpoint::hit("alert.recorded");
        let sent = self.send(&incident, &notice).await;
        failpoint::hit("alert.sent");
        if notice != Notice::Nothing {
            outbox.learn(now, channel, &sent);
        }
        let done = matches!(sent, Sent::Done(_) | Sent::Gone | Sent::Malformed(_));
        let told =
            outbox.sent(tag, channel, |delivery| note(delivery, &incident, &notice, &sent, now));
        if let Some(told) = told.filter(|_| done) {
            if !store.save_deliveries(&told).await {
                outbox.unsaved(tag);
            }
            failpoint::hit("alert.noted");
        }
        done
    }

    pub(super) async fn send(&self, incident: &Incident, notice: &Notice) -> Sent {
        let id = |transition| message::message_id(incident, transition);
        match (self, notice) {
            (Self::Bot(bot), Notice::Post(body)) => {
                bot.send(Call::Post { body: body.clone(), thread: None, id: id(0) }).await
            }
            (Self::Bot(bot), Notice::Reply(body, place, transition)) => {
                bot.send(Call::Post {
                    body: body.clone(),
                    thread: Some(place.clone()),
                    id: id(*transition),
                })
                .await
            }
            (Self::Bot(bot), Notice::Edit(body, place)) => {
                bot.send(Call::Update { body: body.clone(), message: place.clone() }).await
            }
            (Self::Webhook(webhook), Notice::Post(body)) => webhook.send(body).await,
            (Self::Sentry(sentry), Notice::Post(_)) => sentry.capture(incident).await,
            (Self::Signed(webhook), Notice::Post(body)) => {
                webhook.send(body, id(incident.detail.revision)).await
            }
            // There is nothing to say, or the channel has no threads.
            (_, Notice::Nothing | Notice::Reply(..) | Notice::Edit(..)) => Sent::Done(None),
        }
    }
}

impl Bot {
    /// Sends; what Slack finds malformed is sent again as its one line of text, so that it is not
    /// lost.
    async fn send(&self, call: Call) -> Sent {
        let sent = self.call(&call).await;
        let Sent::Malformed(reason) = &sent else { return sent };
        tracing::error!(
            channel = BOT,
            "slack finds a message malformed, its text alone is sent: {reason}"
        );
        let plain = |body: &Value| json!({ "text": body.get("text") });
        let call = match call {
            Call::Post { body, thread, .. } => {
                Call::Post { body: plain(&body), thread, id: Uuid::new_v4() }
            }
            Call::Update { body, message } => Call::Update { body: plain(&body), message },
        };
        self.call(&call).await
    }
}

/// What a delivery remembers of what was sent.
fn note(
    delivery: &mut Delivery,
    incident: &Incident,
    notice: &Notice,
    sent: &Sent,
    now: DateTime<Utc>,
) {
    let place = match sent {
        Sent::Gone => {
            // The message, or its thread, is not there any more: it is posted anew, unless it is
            // all over.
            *delivery = Delivery { worst: delivery.worst, ..Delivery::default() };
            if incident.is_resolved() {
                delivery.told = incident.detail.revision;
            }
            return;
        }
        Sent::Later { .. } | Sent::Refused(_) => return,
        Sent::Done(place) => place.clone(),
        Sent::Malformed(_) => None,
    };
    match notice {
        Notice::Post(body) => {
            delivery.told = incident.detail.revision;
            delivery.worst = Some(incident.detail.worst);
            delivery.ended = incident.is_resolved();
            delivery.shown = Some(digest(body));
            delivery.message = place.or_else(|| delivery.message.take());
        }
        Notice::Reply(..) | Notice::Nothing => delivery.told = incident.detail.revision,
        Notice::Edit(body, _) => {
            delivery.shown = Some(digest(body));
            delivery.edited_at = Some(now);
        }
    }
}

/// Sends check-ins until aborted. One that Sentry does not take is tried again for as long as
/// nothing else is due.
pub async fn check_in(
    sentry: Arc<Sentry>,
    outbox: Arc<Outbox>,
    mut waiting: mpsc::Receiver<MonitorCheckIn>,
) {
    while let Some(check_in) = waiting.recv().await {
        loop {
            while !outbox.is_due(Utc::now(), SENTRY) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let sent = sentry.check_in(check_in.clone()).await;
            outbox.learn(Utc::now(), SENTRY, &sent);
            if matches!(sent, Sent::Done(_) | Sent::Gone | Sent::Malformed(_)) {
                break;
            }
        }
    }
}

/// Pings until aborted.
pub async fn beat(heartbeat: Heartbeat, outbox: Arc<Outbox>) {
    let mut tick = tokio::time::interval(heartbeat.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told: Option<String> = None;
    loop {
        tick.tick().await;
        let now = Utc::now();
        let (_, streams) = outbox.board.summaries();
        let missing = without_proof(now, &streams, &outbox.book().incidents, heartbeat.fresh);
        if missing.is_some() && missing != told {
            tracing::warn!(
                channel = HEARTBEAT,
                "no heartbeat: {}",
                missing.as_deref().unwrap_or_default()
            );
        }
        told.clone_from(&missing);
        if missing.is_none() {
            let sent = heartbeat.ping().await;
            outbox.learn(now, HEARTBEAT, &sent);
        }
    }
}
