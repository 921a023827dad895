//! Proves both ends without changing anything: what `run` needs is asked for here, in the same
//! words.

mod rights;
mod source;
mod table;
mod target;
mod tls;

use serde::Serialize;

use super::address;
use crate::error::Fault;
use crate::settings::Settings;

/// One thing proved, or not.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub ok: bool,
    /// What was found, or what is wrong.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
    /// A dependency did not answer: not a fault of the configuration.
    pub down: bool,
}

impl Finding {
    fn ok(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ok: true,
            detail: detail.into(),
            remedy: String::new(),
            down: false,
        }
    }

    fn failed(what: impl Into<String>, fault: &Fault) -> Self {
        let (detail, remedy) = (fault.message.clone(), fault.hint.to_owned());
        Self { what: what.into(), ok: false, detail, remedy, down: fault.class.may_retry() }
    }

    /// What `run` sees to by itself is no failure.
    fn pending(what: impl Into<String>, detail: &str) -> Self {
        Self::ok(what, format!("not there yet: {detail}"))
    }

    fn of(what: impl Into<String>, result: Result<String, Fault>) -> Self {
        match result {
            Ok(detail) => Self::ok(what, detail),
            Err(fault) => Self::failed(what, &fault),
        }
    }
}

/// Checks both ends. The rights in Postgres are those of `role`, or of the user of `target.url`.
pub async fn check(settings: &Settings, role: Option<&str>) -> Vec<Finding> {
    let mut findings = source::source(settings).await;
    findings.extend(target::target(settings, role).await);
    findings.extend(alerts(settings).await);
    let remedy = if address::is_open(settings) { address::REMEDY } else { "" };
    findings.push(Finding {
        remedy: remedy.to_owned(),
        ..Finding::ok("status address", address::describe(settings))
    });
    findings
}

/// The channels that are configured. Nothing is sent.
async fn alerts(settings: &Settings) -> Vec<Finding> {
    let alert = &settings.alert;
    let mut findings = Vec::new();
    if let Some(asked) = super::alert::ask_slack(settings).await {
        findings.push(Finding::of("slack", asked));
    }
    let others = [
        ("slack webhook", &alert.slack_webhook_url),
        ("sentry", &alert.sentry_dsn),
        ("heartbeat", &alert.heartbeat_url),
    ];
    for (what, _) in others.iter().filter(|(_, secret)| !secret.is_empty()) {
        findings.push(Finding::ok(*what, "configured; `tidemark alert test` sends through it"));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok("alert channels", "none configured: nobody is told of an incident"));
    }
    findings
}
