//! What is happening: the one state that the log, the metrics, HTTP and the page are all read from.
//!
//! A thing that happened is told here once ([`Stream`]'s methods) and shows everywhere, so that the
//! log and the metrics cannot disagree. Nobody waits for this module; it knows the model and
//! nothing else.

mod board;
mod foreign;
mod http;
mod metrics;
mod report;
mod stream;
mod verdict;

pub use board::Board;
pub use http::{Access, serve};
pub use report::{
    ChannelReport, ComparedReport, DriftReport, FailingReport, FieldsReport, IncidentReport,
    PositionReport, Report, ResyncReport, StreamReport, Verdict,
};
pub use stream::{Answer, Committed, FieldsSeen, REMEMBERED, Stream, StreamNames};
pub use verdict::judge;
