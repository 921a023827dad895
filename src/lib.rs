//! tidemark follows MongoDB collections through change streams and keeps Postgres tables equal to
//! them.
//!
//! The modules stand in the order of the way through: an event is read ([`source`]), gathered
//! ([`batch`]), written ([`apply`]) and remembered ([`state`]) in one transaction.
//! `docs/architecture.md` draws the picture and names each module's invariants; `tests/tidy.rs`
//! holds which may import which.

pub mod error;
pub mod model;

mod crypto;
pub mod failpoint;
pub mod http_client;
pub mod retry;
pub mod service_manager;
pub mod settings;
pub mod spans;

pub mod postgres;

pub mod source;
pub mod state;

pub mod apply;
pub mod batch;

pub mod resync;

pub mod status;

pub mod pipeline;

pub mod alert;

pub mod ops;

pub mod supervisor;

pub mod cli;
pub mod telemetry;

/// The release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, where the build was told.
pub const COMMIT: &str = match option_env!("TIDEMARK_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
