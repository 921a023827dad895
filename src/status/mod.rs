//! What is happening: the one state that the log, the metrics, HTTP and the page are all read from.
//!
//! A thing that happened is told here once ([`Stream`]'s methods) and shows everywhere, so that the
//! log and the metrics cannot disagree. Nobody waits for this module; it knows the model and
//! nothing else.

mod board;
mod concern;
mod failing;
mod foreign;
mod group;
mod group_report;
mod http;
mod metrics;
mod queue;
mod report;
mod stream;
mod stream_report;
mod verdict;

pub use board::{Board, GroupNames};
pub use concern::{SharedGroups, worst_first};
pub use group::{Answer, Group};
pub use group_report::GroupReport;
pub use http::{Access, serve};
pub use queue::foresee;
pub use report::{ChannelReport, IncidentReport, MuteReport, Report, Verdict};
pub use stream::{Committed, FieldsSeen, REMEMBERED, Stream, StreamNames};
pub use stream_report::{
    ComparedReport, DriftReport, FailingReport, FieldsReport, PositionReport, ResyncReport,
    StreamReport,
};
pub use verdict::judge;
