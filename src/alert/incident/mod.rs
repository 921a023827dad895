//! Incidents: what one is and how it lives, the book of those that are open, and their rows.
//!
//! [`life`] and [`book`] are pure; only [`store`] and [`record`] know Postgres.

pub mod book;
pub mod life;
pub mod record;
pub mod store;
