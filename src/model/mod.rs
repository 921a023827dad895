//! The vocabulary: what a position, an event, a value is. Pure; no I/O, no clocks, no drivers.

pub mod bson;
mod count;
pub mod dead_letter_code;
pub mod drift_kind;
pub mod event;
pub mod field;
pub mod filter;
pub mod fitting;
pub mod format;
pub mod history_window;
pub mod mapping_digest;
pub mod namespace;
pub mod on_delete;
pub mod owner;
pub mod phase;
pub mod position;
pub mod reason;
pub mod redaction;
mod resync_allowance;
pub mod resync_state;
pub mod severity;
pub mod shown;
pub mod standing;
pub mod step;
pub mod value;
pub mod version_operation;
pub mod vocabulary;

pub use count::count;
