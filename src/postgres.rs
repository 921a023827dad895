//! The connection to Postgres: how it is made, what deadline every call has, and how its errors are
//! classified.
//!
//! Error texts of Postgres may quote values, so for errors about data only the code and names are
//! kept.

mod backend;
mod call;
mod connect_options;
mod connection_errors;
pub mod ddl;
mod password;
mod pool;
mod refusal;
mod session;
mod sqlstate;
mod target;
mod tls;
mod url;

pub use backend::Backend;
pub use call::{Ending, about_rows, cancelled_after, close, commit, with_deadline};
pub use connect_options::guarded;
pub use connection_errors::classify;
pub use pool::{Lent, Pool};
pub use refusal::{Refusal, Trouble};
pub use sqlstate::Whose;
pub use target::Target;

use crate::error::Fault;
use crate::settings::Settings;

/// Whether `target.url` can be used, as far as that can be told without asking anybody.
///
/// # Errors
/// What is wrong with it, without its secrets.
pub fn judge(settings: &Settings) -> Result<(), Fault> {
    connect_options::hosts(settings).map(drop)
}
