//! The vocabulary: what a position, an event, a value is. Pure; no I/O, no clocks, no drivers.

pub mod bson;
pub mod event;
pub mod format;
pub mod history_window;
pub mod namespace;
pub mod owner;
pub mod position;
pub mod reason;
pub mod shown;
pub mod value;
