//! The dead man's heartbeat: pings a URL for as long as there is proof that the data moves. Whoever
//! listens there tells people when it stops.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Client;

use crate::alert::channel::answer::{Sent, unanswered};
use crate::alert::incident::life::Incident;
use crate::error::Severity;
use crate::http_client::client;
use crate::model::phase::Phase;
use crate::settings::{Alert, Secret};
use crate::status::StreamReport;

/// Why there is no proof of progress; `None` if there is. Pure.
///
/// Every stream led here must have been answered by the source lately and be committing, or idle
/// with nothing to commit; and no critical incident may be without somebody who has taken it on. A
/// process that leads nothing has nothing to prove; a stream that is parked or paused proves
/// nothing, and its incident speaks for it.
pub fn without_proof(
    now: DateTime<Utc>,
    streams: &[StreamReport],
    incidents: &[Incident],
    fresh: TimeDelta,
) -> Option<String> {
    let led: Vec<&StreamReport> = streams.iter().filter(|stream| stream.leader).collect();
    if led.is_empty() {
        return Some("no stream is led here".to_owned());
    }
    let is_aside = |phase| matches!(phase, Phase::Parked | Phase::Paused);
    for stream in led.into_iter().filter(|stream| !is_aside(stream.phase)) {
        let name = &stream.name;
        if !stream.phase.follows() {
            return Some(format!("stream {name} is {}", stream.phase));
        }
        if stream.unconfirmed_since.is_some() {
            return Some(format!("the source of stream {name} confirms nothing"));
        }
        let lately = |at: Option<DateTime<Utc>>| at.is_some_and(|at| now - at < fresh);
        let catching_up = stream.lag_seconds > 0.0 && lately(stream.last_commit_at);
        if !lately(stream.last_poll_at) && !catching_up {
            return Some(format!("stream {name} has no recent answer of the source"));
        }
        let idle = stream.lag_seconds == 0.0 && stream.failing.is_empty();
        if !lately(stream.last_commit_at) && !idle {
            return Some(format!("stream {name} has no recent commit"));
        }
    }
    let alone = |i: &&Incident| {
        !i.is_resolved() && i.severity == Severity::Critical && i.acked(now).is_none()
    };
    incidents
        .iter()
        .find(alone)
        .map(|i| format!("a critical incident is open and not acknowledged: {}", i.key.code))
}

/// The client of the receiver.
#[derive(Debug)]
pub struct Heartbeat {
    http: Client,
    url: Secret,
    pub interval: Duration,
    /// Proof that is older is none.
    pub fresh: TimeDelta,
}

impl Heartbeat {
    /// `None` where no receiver is configured. `idle` is how often an idle stream's position is
    /// committed.
    pub fn new(alert: &Alert, idle: Duration) -> Option<Self> {
        let fresh =
            TimeDelta::from_std(alert.heartbeat_interval.max(idle * 3)).unwrap_or(TimeDelta::MAX);
        let fresh = fresh.max(TimeDelta::seconds(30));
        (!alert.heartbeat_url.is_empty()).then(|| Self {
            http: client(),
            url: alert.heartbeat_url.clone(),
            interval: alert.heartbeat_interval,
            fresh,
        })
    }

    /// One ping.
    pub async fn ping(&self) -> Sent {
        match self.http.get(self.url.now().expose()).send().await {
            Ok(answer) if answer.status().is_success() => Sent::Done(None),
            Ok(answer) => Sent::Later {
                after: None,
                reason: format!("answered HTTP {}", answer.status().as_u16()),
            },
            Err(error) => unanswered(&error),
        }
    }
}
