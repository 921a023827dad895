//! Incidents: what one is and how it lives, the book of those that are open, and their rows.
//!
//! [`life`], [`book`] and [`mute`] are pure; only the files of the tables (`store` of `incident`,
//! `outbox_rows`, `watch_row`) and [`record`] know Postgres.

pub mod book;
pub mod life;
pub mod mute;
mod outbox_rows;
pub mod record;
pub mod store;
mod watch_row;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::model::namespace::quote;
use crate::postgres::{Pool, Target};
use crate::settings::Settings;
use crate::state::StateTables;

/// Every call ends within this time: an alert does not wait for Postgres.
const DEADLINE: Duration = Duration::from_secs(5);

/// tidemark's tables of incidents.
#[derive(Debug, Clone)]
pub struct Store {
    /// tidemark's own tables, by sessions that incidents have for themselves.
    state: StateTables,
    /// Quoted, for statements.
    schema: Arc<str>,
    service: Arc<str>,
    environment: Arc<str>,
    /// This process, among those that may watch.
    nonce: Uuid,
}

impl Store {
    pub fn new(settings: &Settings, target: &Target) -> Self {
        let schema = &settings.target.state_schema;
        Self {
            state: StateTables::new(target.clone(), target.pool(2), schema).within(DEADLINE),
            schema: quote(schema).into(),
            service: settings.service.as_str().into(),
            environment: settings.environment.as_str().into(),
            nonce: Uuid::new_v4(),
        }
    }

    pub(super) const fn state(&self) -> &StateTables {
        &self.state
    }

    pub const fn pool(&self) -> &Pool {
        self.state.pool()
    }

    pub const fn process(&self) -> Uuid {
        self.nonce
    }
}
