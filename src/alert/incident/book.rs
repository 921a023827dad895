//! The book of incidents: from one look to the next it turns what is wrong now into incidents that
//! have begun, gone on or ended. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::incident::life::{Ack, Cause, Incident, Key, State, Transition, later};

/// A cause that returns within this time goes on in the same thread.
pub const REOPEN_WITHIN: TimeDelta = TimeDelta::minutes(30);

/// The times by which incidents go on and end.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The time between two reminders.
    pub repeat: TimeDelta,
    /// How long the cause must stay away before the incident is resolved.
    pub keep_firing_for: TimeDelta,
}

/// Holds every incident that is open, may be reopened, or has still to be told, and the causes that
/// have not lasted long enough to be one.
#[derive(Debug)]
pub struct Book {
    pace: Pace,
    pub incidents: Vec<Incident>,
    pending: BTreeMap<Key, DateTime<Utc>>,
}

impl Book {
    pub const fn new(pace: Pace) -> Self {
        Self { pace, incidents: Vec::new(), pending: BTreeMap::new() }
    }

    /// Takes in one look at the causes. `blind` says of which incidents it cannot be seen now
    /// whether their cause is still there: they stay as they are.
    pub fn step(&mut self, now: DateTime<Utc>, causes: &[Cause], blind: impl Fn(&Key) -> bool) {
        let there =
            |key: &Key| causes.iter().any(|cause| cause.over.is_none() && cause.key == *key);
        self.pending.retain(|key, _| there(key));
        for cause in causes {
            self.look(now, cause);
        }
        for incident in self.incidents.iter_mut().filter(|incident| !incident.is_resolved()) {
            if !there(&incident.key) && !blind(&incident.key) {
                incident.missed(now, self.pace.keep_firing_for);
            }
        }
        self.remind(now);
        self.incidents
            .retain(|i| i.resolved_at.is_none_or(|at| now - at < REOPEN_WITHIN) || i.is_pending());
    }

    fn look(&mut self, now: DateTime<Utc>, cause: &Cause) {
        let Pace { repeat, .. } = self.pace;
        // The newest incident of this identity that is open, or may be opened again.
        let known = self.incidents.iter_mut().rev().find(|incident| {
            incident.key == cause.key
                && incident.resolved_at.is_none_or(|at| now - at < REOPEN_WITHIN)
        });
        match (known, &cause.over) {
            (Some(incident), Some(gap)) if !incident.is_resolved() => incident.repaired(gap),
            (Some(incident), Some(gap)) if incident.detail.resync == Some(gap.resync) => {}
            (Some(incident), None) if !incident.is_resolved() => incident.met(now, cause),
            (known, over) => {
                let since = cause.since.unwrap_or(now);
                let since = *self.pending.entry(cause.key.clone()).or_insert(since);
                // What is over already need not last; what a person asked for opens nothing.
                let lasts = over.is_some() || now - since >= cause.lasting;
                if cause.inhibited || cause.lasting == TimeDelta::MAX || !lasts {
                    return;
                }
                self.pending.remove(&cause.key);
                match known {
                    Some(incident) => {
                        incident.reopen(now, cause, repeat);
                        if let Some(gap) = over {
                            incident.repaired(gap);
                        }
                    }
                    None => self.incidents.push(Incident::open(now, cause, since, repeat)),
                }
            }
        }
    }

    fn remind(&mut self, now: DateTime<Utc>) {
        for incident in self.incidents.iter_mut().filter(|incident| incident.state == State::Open) {
            if incident.inhibited || now < incident.detail.remind_at {
                continue;
            }
            let on_schedule = later(incident.detail.remind_at, self.pace.repeat);
            incident.detail.remind_at =
                if on_schedule > now { on_schedule } else { later(now, self.pace.repeat) };
            incident.turn(now, Transition::Reminder);
        }
    }

    /// Notes that somebody has taken an incident on.
    pub fn acknowledge(&mut self, now: DateTime<Utc>, id: i64, ack: &Ack) {
        let open = self
            .incidents
            .iter_mut()
            .find(|incident| incident.id == Some(id) && !incident.is_resolved());
        if let Some(incident) = open.filter(|incident| incident.ack.as_ref() != Some(ack)) {
            incident.detail.remind_at = ack.until;
            incident.ack = Some(ack.clone());
            incident.turn(now, Transition::Acknowledged);
        }
    }
}
