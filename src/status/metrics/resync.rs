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
    /// `by`: the label of its series.
    pub fn new(make: &Maker, by: &str) -> Self {
        let s = &[by];
        Self {
            ended: make.counter(
                "resyncs_total",
                "Walks of the whole collection that ended",
                &[by, "reason", "result"],
            ),
            active: make.int_gauge(
                "resync_active",
                "1 while the collection is being walked, or waits for its turn",
                s,
            ),
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

    /// Begins every counter of a stream, or of a group, at zero.
    pub fn start(&self, label: &str) {
        for counter in [&self.documents_read, &self.rows_upserted, &self.rows_deleted] {
            counter.with_label_values(&[label]);
        }
        for reason in Reason::ALL {
            for result in ResyncState::ALL.into_iter().filter(|state| !state.is_open()) {
                self.ended.with_label_values(&[label, reason.name(), result.name()]);
            }
        }
    }
}
