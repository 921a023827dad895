//! What a stream's walk of the whole collection is doing, whether it is a first snapshot or a
//! resync, and what a scheduled comparison found. State, metric and log together.

use chrono::{DateTime, Utc};

use super::{Inner, Stream};
use crate::error::Code;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::step::Step;
use crate::status::stream_report::{ComparedReport, ResyncReport, StreamReport};

impl Stream {
    /// A walk began, went on or is resumed; `None` when there is none.
    pub fn walking(&self, walk: Option<ResyncReport>) {
        let mut state = self.change();
        if walk.is_none() {
            state.works(&[Step::Walk, Step::Sweep]);
        }
        state.report.resync = walk;
    }

    /// A walk waits for its turn, after so many others.
    pub fn queued(&self, place: usize) {
        if let Some(walk) = &mut self.change().report.resync {
            walk.queue_place = Some(crate::model::count(place));
        }
    }

    /// A chunk was committed.
    pub fn walked(&self, documents: u64, rows: u64, eta: Option<DateTime<Utc>>) {
        let Inner { label, metrics, .. } = &*self.inner;
        metrics.walks.documents_read.with_label_values(&[label]).inc_by(documents);
        metrics.walks.rows_upserted.with_label_values(&[label]).inc_by(rows);
        if let Some(walk) = &mut self.change().report.resync {
            walk.documents_read += documents;
            walk.rows_upserted += rows;
            walk.eta_at = eta;
        }
    }

    /// A part of a sweep was committed.
    pub fn swept(&self, rows: u64) {
        let Inner { label, metrics, .. } = &*self.inner;
        metrics.walks.rows_deleted.with_label_values(&[label]).inc_by(rows);
        if let Some(walk) = &mut self.change().report.resync {
            walk.rows_deleted += rows;
        }
    }

    /// A walk went over to another state.
    pub fn walk_state(&self, to: ResyncState) {
        if let Some(walk) = &mut self.change().report.resync {
            walk.state = to;
        }
    }

    /// A walk waits for a person's word.
    pub fn walk_held(&self, code: Code, note: &str, rows_to_delete: Option<u64>) {
        if let Some(walk) = &mut self.change().report.resync {
            walk.state = ResyncState::Held;
            walk.held_code = Some(code.name().to_owned());
            walk.note = Some(note.to_owned());
            walk.rows_to_delete = rows_to_delete;
        }
        tracing::error!(
            stream = self.name(),
            code = code.name(),
            rows_to_delete,
            "resync waits for a person: {note}"
        );
    }

    /// A walk ended.
    pub fn walk_ended(&self, reason: Reason, result: ResyncState) {
        let (reason, ended) = (reason.name(), result.name());
        let ends = &self.inner.metrics.walks.ended;
        ends.with_label_values(&[self.inner.label.as_str(), reason, ended]).inc();
        let mut state = self.change();
        state.works(&[Step::Walk, Step::Sweep]);
        let walk = state.report.resync.take();
        if result == ResyncState::Completed {
            // What a comparison found before is repaired.
            state.report.compared = None;
        }
        drop(state);
        let (documents, rows) = walk.map_or((0, 0), |w| (w.documents_read, w.rows_upserted));
        tracing::info!(stream = self.name(), reason, result = ended, documents, rows, "walk ended");
    }

    /// What another process, which leads it, last told of it.
    pub fn led_elsewhere(&self, told: &StreamReport) {
        let report = &mut self.change().report;
        report.exact = told.exact;
        report.last_event_at = told.last_event_at;
        report.resync.clone_from(&told.resync);
    }

    /// A scheduled comparison began, or broke off.
    pub fn comparing(&self, under_way: bool) {
        self.change().report.comparing_since = under_way.then(Utc::now);
    }

    /// A scheduled comparison ended.
    pub fn compared(&self, compared: ComparedReport) {
        if compared.differences() > 0 {
            let code = Code::DivergenceFound.name();
            let ComparedReport { documents, missing, extra, different, .. } = compared;
            tracing::error!(
                stream = self.name(),
                code,
                documents,
                missing,
                extra,
                different,
                "source and table differ"
            );
        }
        let mut state = self.change();
        (state.report.compared, state.report.comparing_since) = (Some(compared), None);
    }
}
