//! Walks of whole collections, and what comparisons found.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::maker::Maker;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;

#[derive(Debug)]
pub struct Walks {
    pub ended: IntCounterVec,
    pub active: IntGaugeVec,
    pub documents_read: IntCounterVec,
    pub rows_upserted: IntCounterVec,
    pub rows_deleted: IntCounterVec,
    pub divergent: IntGaugeVec,
}

impl Walks {
    pub fn new(make: &Maker) -> Self {
        let s = &["stream"];
        Self {
            ended: make.counter(
                "resyncs_total",
                "Walks of the whole collection that ended",
                &["stream", "reason", "result"],
            ),
            active: make.int_gauge("resync_active", "1 while the collection is being walked", s),
            documents_read: make.counter(
                "resync_documents_read_total",
                "Documents read by walks",
                s,
            ),
            rows_upserted: make.counter("resync_rows_upserted_total", "Rows written by walks", s),
            rows_deleted: make.counter("resync_rows_deleted_total", "Rows deleted by sweeps", s),
            divergent: make.int_gauge(
                "divergent_documents",
                "Documents that the last scheduled comparison found missing, extra or different",
                s,
            ),
        }
    }

    pub fn start(&self, stream: &str) {
        for gauge in [&self.active, &self.divergent] {
            gauge.with_label_values(&[stream]);
        }
        for counter in [&self.documents_read, &self.rows_upserted, &self.rows_deleted] {
            counter.with_label_values(&[stream]);
        }
        for reason in Reason::ALL {
            for result in ResyncState::ALL.into_iter().filter(|state| !state.is_open()) {
                self.ended.with_label_values(&[stream, reason.name(), result.name()]);
            }
        }
    }
}
