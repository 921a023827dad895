//! Where a group's stored position stands: how far it is behind what the source has, and how much
//! of the source's history is left to it.

use std::time::Duration;

use chrono::Utc;

use super::{Group, State};
use crate::model::history_window::HistoryWindow;
use crate::model::position::{ClusterTime, Position};
use crate::model::step::Step;
use crate::status::stream_report::PositionReport;

/// What a reply of the source proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet: opening asks for an empty reply.
    Opened,
    /// The source answers; nothing new.
    Still,
    /// Events, or a token further on.
    Moved,
}

impl Group {
    /// The source answered; `caught_up` if it had nothing more. `source_time` is its majority
    /// commit point.
    pub fn polled(&self, source_time: Option<ClusterTime>, caught_up: bool, answer: Answer) {
        let now = Utc::now();
        let mut state = self.state();
        state.report.last_poll_at = Some(now);
        state.source_time = source_time.or(state.source_time);
        state.caught_up = caught_up;
        if let Some(source_time) = source_time {
            state.majority.confirmed(source_time, now);
        }
        state.measure_lag();
        if answer != Answer::Opened && state.failing.forget_before() {
            state.show_failing();
        }
        let lost = state.report.halt_code.as_deref() == Some("history_lost");
        let proof = if lost { answer == Answer::Moved } else { answer != Answer::Opened };
        if caught_up && proof {
            self.proved(&mut state);
        }
    }

    /// The stored position, as loaded.
    pub fn placed(&self, position: &Position) {
        self.state().place(position);
    }

    /// A batch of so many events, or an idle position, was committed with its position.
    pub fn positioned(&self, position: &Position, events: u64, took: Duration) {
        self.committed(Some(position), &[Step::Apply, Step::Lookup]);
        if let Some(sizes) = self.inner.sizes.as_ref().filter(|_| events > 0) {
            sizes.observe(events, took);
        }
    }

    /// Something was committed without a position: a chunk of a walk, a part of a sweep.
    pub fn wrote(&self) {
        self.committed(None, &[Step::Apply]);
    }

    fn committed(&self, position: Option<&Position>, works: &[Step]) {
        let mut state = self.state();
        state.report.last_commit_at = Some(Utc::now());
        if let Some(position) = position {
            state.place(position);
        }
        state.works(works);
        self.proved(&mut state);
    }

    /// What the source's primary has applied, whether a majority has it or not.
    pub fn applied(&self, at: ClusterTime) {
        let mut state = self.state();
        state.majority.applied(at, Utc::now());
        if state.failing.is_stuck() {
            state.measure_lag();
        }
    }

    /// The source's history window was measured.
    pub fn history_window(&self, window: HistoryWindow) {
        let mut state = self.state();
        state.history_window = Some(window);
        state.report.history_window_seconds = window.window_seconds;
        state.measure_headroom();
    }
}

impl State {
    fn place(&mut self, position: &Position) {
        let at = position.cluster_time;
        self.report.position = Some(PositionReport::new(&position.token.text(), at));
        self.position = Some(position.clone());
        self.measure_lag();
        self.measure_headroom();
    }

    fn measure_lag(&mut self) {
        let position = self.position.as_ref().map(|position| position.cluster_time);
        // Nothing more is read once what was read cannot be written: what the last reply said
        // grows old.
        let is_stuck = self.failing.is_stuck();
        let now =
            if is_stuck { self.majority.newest().max(self.source_time) } else { self.source_time };
        let behind = now.zip(position).map(|(now, at)| now.seconds_since(at));
        let is_at_the_end = self.caught_up && !is_stuck;
        let lag = if is_at_the_end { 0.0 } else { behind.unwrap_or(0.0).max(0.0) };
        // What a majority has not confirmed cannot be read yet, and is behind all the same.
        let unread = position.and_then(|position| self.majority.lag_seconds(position));
        self.report.lag_seconds = lag.max(unread.unwrap_or(0.0));
        self.report.unconfirmed_since = self.majority.unconfirmed_since();
    }

    /// What of the source's window is left to the stored position.
    fn measure_headroom(&mut self) {
        let known = self.history_window.zip(self.position.as_ref());
        let headroom = known.and_then(|(window, position)| window.headroom(position.cluster_time));
        self.report.headroom_seconds = headroom.map(|headroom| headroom.left);
    }
}
