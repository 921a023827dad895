//! What a person does: each command's work, returning a report. Printing is `cli`'s.

pub mod address;
pub mod alert;
pub mod check;
pub mod checkpoint;
pub mod command;
pub mod compare;
pub mod connection_strings;
pub mod dead_letter;
pub mod healthcheck;
pub mod incident;
pub mod init;
pub mod migrate;
pub mod purge;
pub mod resync;
pub mod rewind;
pub mod slip;
pub mod source;
pub mod status;
pub mod wait;
