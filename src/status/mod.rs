//! What is happening: the one state that the log, the metrics, HTTP and the page are all read from.
//!
//! A thing that happened is told here once ([`Stream`]'s methods) and shows everywhere, so that the
//! log and the metrics cannot disagree. Nobody waits for this module; it knows the model and
//! nothing else.

mod board;
mod drift;
mod foreign;
mod http;
mod majority;
mod metrics;
mod notices;
mod page;
mod rates;
mod report;
mod stream;
mod told;
mod trouble;
mod verdict;
mod walks;

pub use board::Board;
pub use drift::{FieldsSeen, NAMES_MAX, REMEMBERED};
pub use http::{Access, serve};
pub use report::{
    ChannelReport, ComparedReport, DriftReport, FailingReport, FieldsReport, IncidentReport,
    PositionReport, Report, ResyncReport, StreamReport, Verdict,
};
pub use stream::Stream;
pub use told::{Answer, Committed};
pub use verdict::judge;

/// A length as a count.
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
