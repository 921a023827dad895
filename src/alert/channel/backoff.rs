//! How a channel fares: how long it is left alone after an answer, and what is told of it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::channel::answer::Sent;

/// A channel that does not take notices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelTrouble {
    pub name: &'static str,
    pub since: DateTime<Utc>,
    /// It refuses: waiting does not mend it.
    pub refused: bool,
    pub reason: String,
}

/// Whether a channel takes what it is sent, and when it is next tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    failing_since: Option<DateTime<Utc>>,
    attempts: u32,
    next_at: Option<DateTime<Utc>>,
    refused: bool,
    reason: String,
}

const DELAY_MIN: TimeDelta = TimeDelta::seconds(1);
const DELAY_MAX: TimeDelta = TimeDelta::seconds(60);
/// Whatever a server says, it is asked again within this time.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

impl Health {
    /// Whether the channel may be tried now.
    pub fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.next_at.is_none_or(|at| at <= now)
    }

    pub const fn is_refused(&self) -> bool {
        self.refused
    }

    /// Learns from an answer.
    pub fn learn(&mut self, now: DateTime<Utc>, sent: &Sent) {
        let (after, reason, refused) = match sent {
            Sent::Done(_) | Sent::Gone | Sent::Malformed(_) => {
                *self = Self::default();
                return;
            }
            Sent::Later { after, reason } => (*after, reason, false),
            Sent::Refused(reason) => (None, reason, true),
        };
        let doubled = DELAY_MIN * (1 << self.attempts.min(6));
        let delay = match after {
            Some(after) => TimeDelta::from_std(after.min(RETRY_AFTER_MAX)).unwrap_or(DELAY_MAX),
            None if refused => DELAY_MAX,
            None => doubled.min(DELAY_MAX),
        };
        self.failing_since.get_or_insert(now);
        self.attempts += 1;
        self.next_at = Some(now + delay);
        self.refused = refused;
        self.reason.clone_from(reason);
    }

    /// What the rules are told of it.
    pub fn trouble(&self, name: &'static str) -> Option<ChannelTrouble> {
        let since = self.failing_since?;
        Some(ChannelTrouble { name, since, refused: self.refused, reason: self.reason.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_channel_is_left_alone_for_longer_and_longer_but_as_long_as_it_asks() {
        let start = DateTime::<Utc>::UNIX_EPOCH;
        let mut health = Health::default();
        let later = |after| Sent::Later { after, reason: "away".into() };
        let mut waited = Vec::new();
        for _ in 0..8 {
            health.learn(start, &later(None));
            waited.push((health.next_at.unwrap() - start).num_seconds());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
        health.learn(start, &later(Some(Duration::from_secs(30))));
        assert!(
            !health.is_due(start + TimeDelta::seconds(29))
                && health.is_due(start + TimeDelta::seconds(30))
        );
        health.learn(start, &Sent::Refused("invalid_auth".into()));
        assert!(health.is_refused() && health.trouble("slack").unwrap().refused);
        health.learn(start, &Sent::Done(None));
        assert!(health.is_due(start) && health.trouble("slack").is_none());
    }
}
