//! `[alert]`: the channels, and how often they are told.

use std::time::Duration;

use super::maintenance::{self, Maintenance};
use super::schedule::Schedule;
use super::secret::Secret;
use super::trust::is_guarded;
use super::values::Reader;

#[derive(Debug, Clone)]
pub struct Alert {
    pub repeat_interval: Duration,
    pub resolve_hold: Duration,
    /// Windows in which nothing is told, but for what is open at their end.
    pub maintenance: Vec<Maintenance>,
    /// When the summary of a week is told, if it is.
    pub weekly_summary: Option<Schedule>,
    pub slack_bot_token: Secret,
    pub slack_channel: String,
    pub slack_webhook_url: Secret,
    pub slack_api_base: String,
    pub sentry_dsn: Secret,
    pub webhook_url: Secret,
    pub webhook_secret: Secret,
    pub heartbeat_url: Secret,
    pub heartbeat_interval: Duration,
}

impl Alert {
    pub(super) fn read(r: &mut Reader) -> Self {
        let alert = Self {
            repeat_interval: r.duration("alert.repeat_interval"),
            resolve_hold: r.duration("alert.resolve_hold"),
            maintenance: maintenance::read(r),
            weekly_summary: weekly_summary(r),
            slack_bot_token: r.secret("alert.slack.bot_token"),
            slack_channel: r.text("alert.slack.channel"),
            slack_webhook_url: r.secret("alert.slack.webhook_url"),
            slack_api_base: r.text("alert.slack.api_base"),
            sentry_dsn: r.secret("alert.sentry.dsn"),
            webhook_url: r.secret("alert.webhook.url"),
            webhook_secret: r.secret("alert.webhook.secret"),
            heartbeat_url: r.secret("alert.heartbeat.url"),
            heartbeat_interval: r.duration("alert.heartbeat.interval"),
        };
        let has_channel = alert.slack_bot_token.is_empty() || !alert.slack_channel.is_empty();
        r.check("alert.slack.channel", has_channel, "must be set when alert.slack.bot_token is");
        for (key, value) in [
            ("alert.slack.webhook_url", alert.slack_webhook_url.expose()),
            ("alert.slack.api_base", &alert.slack_api_base),
            ("alert.sentry.dsn", alert.sentry_dsn.expose()),
            ("alert.webhook.url", alert.webhook_url.expose()),
            ("alert.heartbeat.url", alert.heartbeat_url.expose()),
        ] {
            let guarded = value.is_empty() || is_guarded(value);
            r.check(
                key,
                guarded,
                "must begin with https://; http:// only to this machine, as others could read it",
            );
        }
        let is_signed = alert.webhook_url.is_empty() || alert.webhook_secret.expose().len() >= 16;
        r.check(
            "alert.webhook.secret",
            is_signed,
            "must be 16 bytes or more where alert.webhook.url is set: `openssl rand -hex 32`",
        );
        let dsn = &alert.sentry_dsn;
        let is_dsn = dsn.is_empty() || dsn.expose().parse::<sentry::types::Dsn>().is_ok();
        r.check(
            "alert.sentry.dsn",
            is_dsn,
            "is not a DSN: copy it from the project's page, https://KEY@HOST/PROJECT",
        );
        let often = alert.repeat_interval >= Duration::from_secs(1)
            && alert.heartbeat_interval >= Duration::from_secs(1);
        r.check("alert.repeat_interval", often, "and alert.heartbeat.interval must be at least 1s");
        alert
    }
}

fn weekly_summary(r: &mut Reader) -> Option<Schedule> {
    let key = "alert.weekly_summary";
    let text = r.text(key);
    let schedule = Schedule::parse(&text);
    let is_one = schedule.is_some() || text.is_empty();
    r.check(key, is_one, "must be a day and a time in UTC such as \"Mon 09:00\", or empty");
    schedule
}
