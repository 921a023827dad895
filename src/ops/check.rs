//! Proves both ends without changing anything: what `run` needs is asked for here, in the same
//! words.

mod clear_values;
mod connections;
mod days;
mod export;
mod finding;
mod groups;
mod hidden;
mod rights;
mod source;
mod table;
mod target;
mod unfit;
mod wire;

pub use finding::Finding;
pub use groups::unlisted;
pub use unfit::unfit;

use super::address;
use crate::settings::{Maintenance, Settings};

/// Checks both ends. The rights in Postgres are those of `role`, or of the user of `target.url`.
pub async fn check(settings: &Settings, role: Option<&str>) -> Vec<Finding> {
    let mut findings = source::source(settings).await;
    findings.extend(target::target(settings, role).await);
    findings.extend(unlisted(&settings.groups));
    findings.extend(alerts(settings).await);
    findings.extend(export::export(&settings.collector).await);
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
        ("webhook", &alert.webhook_url),
        ("heartbeat", &alert.heartbeat_url),
    ];
    for (what, _) in others.iter().filter(|(_, secret)| !secret.is_empty()) {
        findings.push(Finding::ok(*what, "configured; `tidemark alert test` sends through it"));
    }
    let endless = alert.maintenance.iter().filter(|window| window.when.is_endless());
    let endless: Vec<Finding> = endless.map(of_endless).collect();
    if findings.is_empty() {
        findings
            .push(Finding::ok("alert channels", "none configured: nobody is told of an incident"));
    }
    findings.extend(endless);
    findings
}

/// A window in which nobody is ever told again.
fn of_endless(window: &Maintenance) -> Finding {
    let codes: Vec<&str> = window.codes.iter().map(|code| code.name()).collect();
    let of = if codes.is_empty() { "any incident".to_owned() } else { codes.join(", ") };
    Finding {
        remedy: "let `until` of [[alert.maintenance]] be another time than `from`, or name `days`"
            .to_owned(),
        ..Finding::ok(
            format!("maintenance window {}", window.name),
            format!("it never ends: nobody is told of {of}"),
        )
    }
}
