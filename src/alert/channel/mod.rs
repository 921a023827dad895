//! The channels: what each is sent, and what it answers. None knows the outbox.

pub mod answer;
pub mod backoff;
pub mod heartbeat;
pub mod message;
pub mod sentry;
pub mod sentry_checkin;
pub mod slack;
pub mod summary_message;
pub mod webhook;
