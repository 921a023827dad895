//! What a person does: each command's work, returning a report. Printing is `cli`'s.

pub mod address;
pub mod alert;
pub mod check;
pub mod checkpoint;
pub mod command;
pub mod compare;
pub mod connection_strings;
pub mod dead_letter;
pub mod deadline;
pub mod explain;
pub mod healthcheck;
pub mod incident;
pub mod init;
mod mapping_change;
pub mod migrate;
pub mod mute;
pub mod pause;
pub mod purge;
pub mod resync;
pub mod resync_part;
pub mod rewind;
pub mod slip;
pub mod source;
pub mod status;
pub mod version_retention;
pub mod views;
pub mod wait;
