//! Incidents and what was sent about them.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec};

use super::maker::Maker;
use crate::error::{Code, Severity};

const CHANNELS: [&str; 4] = ["slack", "sentry", "webhook", "heartbeat"];
const RESULTS: [&str; 2] = ["ok", "failed"];

#[derive(Debug)]
pub struct Notices {
    pub incident_open: IntGaugeVec,
    pub incident_writes: IntCounterVec,
    pub alerts_sent: IntCounterVec,
    pub outbox_pending: IntGauge,
}

impl Notices {
    pub fn new(make: &Maker) -> Self {
        Self {
            outbox_pending: make.one_int_gauge(
                "outbox_pending",
                "Incidents that a channel has still to be told of",
            ),
            incident_open: make.int_gauge(
                "incident_open",
                "Incidents that are open",
                &["code", "severity"],
            ),
            incident_writes: make.counter(
                "incident_writes_total",
                "Incidents written down, by result",
                &["result"],
            ),
            alerts_sent: make.counter(
                "alerts_sent_total",
                "Notices sent, by channel and result",
                &["channel", "result"],
            ),
        }
    }

    pub fn start(&self) {
        for code in Code::ALL {
            for severity in Severity::ALL {
                self.incident_open.with_label_values(&[code.name(), severity.name()]);
            }
        }
        for result in RESULTS {
            self.incident_writes.with_label_values(&[result]);
            for channel in CHANNELS {
                self.alerts_sent.with_label_values(&[channel, result]);
            }
        }
    }
}
