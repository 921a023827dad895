//! What befalls a stream's group, told by a pipeline that knows its one stream.

use super::Stream;
use crate::error::Fault;
use crate::model::history_window::HistoryWindow;
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position};
use crate::status::group::Answer;
use crate::status::group_report::GroupReport;
use crate::status::stream_report::StreamReport;

impl Stream {
    /// The phase of both: what is the group's own, or that it follows.
    pub fn both_entered(&self, phase: Phase) {
        if phase.follows() {
            self.entered(phase);
            self.group().entered(Phase::Streaming);
        } else {
            self.group().entered(phase);
        }
    }

    pub fn taken_up(&self) {
        self.state().failing.taken_up();
        self.group().taken_up();
    }

    pub fn halted(&self, fault: &Fault) {
        self.given_up();
        self.group().halted(fault);
    }

    pub fn commit_failed(&self, fault: &Fault) {
        self.group().commit_failed(fault);
    }

    pub fn renewed(&self) {
        self.group().renewed();
    }

    pub fn granted(&self, epoch: i64, holder: &str) {
        self.group().granted(epoch, holder);
    }

    pub fn lease_ended(&self) {
        self.given_up();
        self.group().lease_ended();
    }

    /// Another process leads it; `told` is what it last reported.
    pub fn led_by(&self, holder: Option<String>, epoch: i64, told: Option<&StreamReport>) {
        if let Some(told) = told {
            self.led_elsewhere(told);
        }
        self.group().led_by(holder, epoch, told.map(GroupReport::from));
    }

    pub fn fenced(&self) {
        self.group().fenced();
    }

    pub fn rewound(&self, how: &str) {
        self.group().rewound(how);
    }

    pub fn polled(&self, source_time: Option<ClusterTime>, caught_up: bool, answer: Answer) {
        self.group().polled(source_time, caught_up, answer);
        if answer != Answer::Opened && self.state().failing.forget_before() {
            self.change().show_failing();
        }
    }

    pub fn placed(&self, position: &Position) {
        self.group().placed(position);
    }

    pub fn applied(&self, at: ClusterTime) {
        self.group().applied(at);
    }

    pub fn history_window(&self, window: HistoryWindow) {
        self.group().history_window(window);
    }
}

/// What of a stream's report is its group's, where it is alone in it.
impl From<&StreamReport> for GroupReport {
    fn from(stream: &StreamReport) -> Self {
        Self {
            leader: stream.leader,
            holder: stream.holder.clone(),
            epoch: stream.epoch,
            exact: stream.exact,
            position: stream.position.clone(),
            last_poll_at: stream.last_poll_at,
            last_commit_at: stream.last_commit_at,
            history_window_seconds: stream.history_window_seconds,
            headroom_seconds: stream.headroom_seconds,
            lag_seconds: stream.lag_seconds,
            unconfirmed_since: stream.unconfirmed_since,
            rewound_at: stream.rewound_at,
            ..Self::new(&stream.group)
        }
    }
}
