//! What the alert side tells the board: open incidents, how its channels fare, what was sent.

use std::sync::PoisonError;

use super::board::Board;
use super::report::{ChannelReport, IncidentReport, Verdict};

/// Incidents and channels, as last told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub incidents: Vec<IncidentReport>,
    pub channels: Vec<ChannelReport>,
}

impl Board {
    /// The open incidents, and the channels they are told to.
    pub fn incidents(&self, incidents: Vec<IncidentReport>, channels: Vec<ChannelReport>) {
        let notices = &self.metrics.notices;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in &told.incidents {
            notices
                .incident_open
                .with_label_values(&[gone.code.as_str(), gone.severity.name()])
                .set(0);
        }
        for open in &incidents {
            notices
                .incident_open
                .with_label_values(&[open.code.as_str(), open.severity.name()])
                .inc();
        }
        let pending: u64 = channels.iter().map(|channel| channel.pending).sum();
        notices.outbox_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        *told = Told { incidents, channels };
    }

    /// An incident was written down, or was not.
    pub fn incident_written(&self, ok: bool) {
        self.metrics.notices.incident_writes.with_label_values(&[result(ok)]).inc();
    }

    /// A notice was sent, or was not.
    pub fn notice(&self, channel: &str, ok: bool) {
        self.metrics.notices.alerts_sent.with_label_values(&[channel, result(ok)]).inc();
    }
}

const fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

/// The verdict the open incidents call for, and what a person must do about the worst of them.
pub(super) fn judge(incidents: &[IncidentReport]) -> (Verdict, Option<String>) {
    let verdict = |incident: &IncidentReport| Verdict::of(incident.severity);
    let worst = incidents.iter().map(verdict).max().unwrap_or(Verdict::Healthy);
    let wanted = incidents
        .iter()
        .filter(|incident| incident.action.is_some())
        .max_by_key(|incident| verdict(incident));
    let action = wanted.map(|incident| {
        let about = incident
            .stream
            .as_ref()
            .map_or_else(String::new, |stream| format!("stream {stream}: "));
        format!("{about}{}; {}", incident.summary, incident.action.as_deref().unwrap_or_default())
    });
    (worst, action)
}
