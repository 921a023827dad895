//! Where a stream's stored position stands: how far it is behind what the source has, and how much
//! of the source's history is left to it.

use chrono::Utc;

use super::{State, Stream};
use crate::model::history_window::HistoryWindow;
use crate::model::position::{ClusterTime, Position};
use crate::status::metrics::seconds;
use crate::status::report::PositionReport;

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

impl Stream {
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
        self.measure_lag(&mut state);
        if answer != Answer::Opened {
            state.failing.forget_before();
            state.show_failing();
        }
        let lost = state.report.halt_code.as_deref() == Some("history_lost");
        let proof = if lost { answer == Answer::Moved } else { answer != Answer::Opened };
        drop(state);
        self.metrics.times.last_poll.with_label_values(&[&*self.name]).set(seconds(now));
        if caught_up && proof {
            self.proved();
        }
    }

    fn measure_lag(&self, state: &mut State) {
        let behind = state
            .source_time
            .zip(state.position.as_ref())
            .map(|(now, p)| now.seconds_since(p.cluster_time));
        let lag = if state.caught_up { 0.0 } else { behind.unwrap_or(0.0).max(0.0) };
        // What a majority has not confirmed cannot be read yet, and is behind all the same.
        let position = state.position.as_ref().map(|position| position.cluster_time);
        let unread = position.and_then(|position| state.majority.lag_seconds(position));
        let lag = lag.max(unread.unwrap_or(0.0));
        state.report.lag_seconds = lag;
        state.report.unconfirmed_since = state.majority.unconfirmed_since();
        self.lag.set(lag);
    }

    /// The stored position, as loaded or committed.
    pub fn placed(&self, position: &Position) {
        let mut state = self.state();
        self.place(&mut state, position);
    }

    pub(super) fn place(&self, state: &mut State, position: &Position) {
        let at = position.cluster_time;
        state.report.position = Some(PositionReport::new(&position.token.text(), at));
        state.position = Some(position.clone());
        self.metrics.times.position.with_label_values(&[&*self.name]).set(f64::from(at.seconds()));
        self.measure_lag(state);
        self.measure_headroom(state);
    }

    /// What the source's primary has applied, whether a majority has it or not.
    pub fn applied(&self, at: ClusterTime) {
        self.state().majority.applied(at, Utc::now());
    }

    /// The source's history window was measured.
    pub fn history_window(&self, window: HistoryWindow) {
        let mut state = self.state();
        state.history_window = Some(window);
        state.report.history_window_seconds = window.window_seconds;
        self.measure_headroom(&mut state);
        drop(state);
        self.metrics
            .times
            .history_window
            .with_label_values(&[&*self.name])
            .set(window.window_seconds.unwrap_or(f64::NAN));
    }

    /// What of the source's window is left to the stored position.
    fn measure_headroom(&self, state: &mut State) {
        let known = state.history_window.zip(state.position.as_ref());
        let headroom = known.and_then(|(window, position)| window.headroom(position.cluster_time));
        let headroom = headroom.map(|headroom| headroom.left);
        state.report.headroom_seconds = headroom;
        self.metrics
            .times
            .headroom
            .with_label_values(&[&*self.name])
            .set(headroom.unwrap_or(f64::NAN));
    }
}
