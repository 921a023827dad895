//! The weekly summary: counts on while nothing is due, and tells each channel once what is. One
//! process of a service does it, the one that watches.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::alert::channel::answer::Sent;
use crate::alert::channel::slack::{Bot, Call, Webhook};
use crate::alert::channel::summary_message::Summary;
use crate::alert::channel::webhook::SignedWebhook;
use crate::alert::incident::Store;
use crate::alert::outbox::{BOT, Outbox, SLACK_WEBHOOK, WEBHOOK};
use crate::alert::tally::WeekTally;
use crate::error::Fault;
use crate::settings::{Alert, Schedule};
use crate::state::SummaryRow;
use crate::status::StreamReport;

const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How often what is counted is written down: a process that ends loses so much of it at most.
const KEEP_INTERVAL: TimeDelta = TimeDelta::seconds(30);

/// A channel that does not take a summary for so long goes without.
const GIVE_UP_AFTER: TimeDelta = TimeDelta::days(1);

/// Where a summary is told.
#[derive(Debug)]
enum Reader {
    Bot(Bot),
    Webhook(Webhook),
    Signed(SignedWebhook),
}

impl Reader {
    /// Slack, by the bot if there is one, and whoever listens at a webhook.
    fn all(alert: &Alert) -> Vec<Self> {
        let slack = Bot::new(alert).map(Self::Bot);
        let slack = slack.or_else(|| Webhook::new(alert).map(Self::Webhook));
        slack.into_iter().chain(SignedWebhook::new(alert).map(Self::Signed)).collect()
    }

    const fn channel(&self) -> &'static str {
        match self {
            Self::Bot(_) => BOT,
            Self::Webhook(_) => SLACK_WEBHOOK,
            Self::Signed(_) => WEBHOOK,
        }
    }

    async fn tell(&self, outbox: &Outbox, summary: &Summary, id: Uuid) -> Sent {
        match self {
            Self::Bot(bot) => {
                let body = summary.message(&outbox.voice);
                bot.call(&Call::Post { body, thread: None, id }).await
            }
            Self::Webhook(webhook) => webhook.send(&summary.message(&outbox.voice)).await,
            Self::Signed(webhook) => webhook.send(&summary.body(&outbox.voice), id).await,
        }
    }
}

/// The summary of a running daemon.
#[derive(Debug)]
pub struct WeeklySummary {
    schedule: Schedule,
    readers: Vec<Reader>,
    outbox: Arc<Outbox>,
    store: Store,
    /// What is counted; `None` while another process may count on.
    tally: Option<WeekTally>,
    kept_at: DateTime<Utc>,
}

impl WeeklySummary {
    /// `None` where none is wanted.
    pub fn new(alert: &Alert, outbox: &Arc<Outbox>, store: &Store) -> Option<Self> {
        Some(Self {
            schedule: alert.weekly_summary?,
            readers: Reader::all(alert),
            outbox: Arc::clone(outbox),
            store: store.clone(),
            tally: None,
            kept_at: DateTime::UNIX_EPOCH,
        })
    }

    /// Counts and tells until aborted.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if !self.outbox.is_speaking() {
                self.tally = None;
            } else if let Err(fault) = self.turn(Utc::now()).await {
                tracing::debug!("the summary is not counted on: {fault}");
            }
        }
    }

    async fn turn(&mut self, now: DateTime<Utc>) -> Result<(), Fault> {
        let state = self.store.state();
        let last = self.schedule.last(now);
        let row = state.summary().await?;
        let (due_at, told, counted) = row.map_or_else(
            || (last, Vec::new(), None),
            |SummaryRow { due_at, told, counted }| (due_at, told, Some(counted.0)),
        );
        let counted = counted.and_then(|counted| serde_json::from_value(counted).ok());
        let is_new = counted.is_none();
        let known = self.tally.take().or(counted);
        let mut tally = known.unwrap_or_else(|| WeekTally::new(now));
        let reports: Vec<StreamReport> = state
            .led()
            .await?
            .iter()
            .filter(|led| led.live)
            .filter_map(|led| {
                let told = StreamReport::told(led.report.as_ref(), led.group_report.as_ref())?;
                Some(StreamReport { leader: true, holder: led.holder.clone(), ..told })
            })
            .collect();
        tally.see(now, &reports);
        if last > due_at {
            let is_told = self.tell(now, (due_at, last), &told, &tally, &reports).await?;
            if is_told || now - last > GIVE_UP_AFTER {
                tally = tally.anew(now);
                state.end_summary(due_at, last, &json(&tally)).await?;
            }
        } else if is_new || now - self.kept_at >= KEEP_INTERVAL {
            state.count_on(due_at, &json(&tally)).await?;
            self.kept_at = now;
        }
        self.tally = Some(tally);
        Ok(())
    }

    /// Whether every channel has it.
    async fn tell(
        &self,
        now: DateTime<Utc>,
        (due_at, next): (DateTime<Utc>, DateTime<Utc>),
        told: &[String],
        tally: &WeekTally,
        reports: &[StreamReport],
    ) -> Result<bool, Fault> {
        let state = self.store.state();
        let letters: i64 = state.open_letters().await?.iter().map(|(_, number)| number).sum();
        let groups: BTreeSet<&str> = reports.iter().map(|report| report.group.as_str()).collect();
        let summary = Summary {
            until: now,
            streams: reports.len(),
            groups: groups.len(),
            tally: tally.clone(),
            incidents: self.store.incidents_since(tally.since).await?,
            walks: state.walks_since(tally.since).await?,
            dead_letters: u64::try_from(letters).unwrap_or_default(),
        };
        let mut is_told = true;
        for reader in &self.readers {
            let channel = reader.channel();
            if told.iter().any(|told| told == channel) {
                continue;
            }
            // Claimed before it is sent: whoever is killed in between leaves one week untold, and
            // none is told twice.
            if !self.outbox.is_due(now, channel) || !state.claim_summary(due_at, channel).await? {
                is_told = false;
                continue;
            }
            let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, next.to_rfc3339().as_bytes());
            let sent = reader.tell(&self.outbox, &summary, id).await;
            self.outbox.learn(now, channel, &sent);
            if matches!(sent, Sent::Later { .. } | Sent::Refused(_)) {
                is_told = false;
                state.unclaim_summary(channel).await?;
            }
        }
        Ok(is_told)
    }
}

fn json(tally: &WeekTally) -> Value {
    serde_json::to_value(tally).unwrap_or_default()
}
