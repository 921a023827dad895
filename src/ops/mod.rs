//! What a person does: each command's work, returning a report. Printing is `cli`'s.

pub mod address;
pub mod alert;
pub mod check;
pub mod checkpoint;
pub mod compare;
pub mod ends;
pub mod healthcheck;
pub mod incident;
pub mod letter;
pub mod migrate;
pub mod purge;
pub mod request;
pub mod resync;
pub mod source;
pub mod status;
