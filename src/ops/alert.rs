//! Proves the alert channels: `alert test` sends through each, `check` asks without sending.

use std::sync::Arc;

use serde::Serialize;

use crate::alert::{Bot, HEARTBEAT, Heartbeat, Sent, Sentry, Voice, senders};
use crate::error::{Class, Code, Fault};
use crate::settings::Settings;

/// What came of trying one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub channel: &'static str,
    pub ok: bool,
    pub detail: String,
}

impl Tried {
    fn of(channel: &'static str, sent: Sent, done: &str) -> Self {
        let (ok, detail) = match sent {
            Sent::Done(_) => (true, done.to_owned()),
            Sent::Gone => (false, "the message was gone before it could be changed".to_owned()),
            Sent::Later { reason, .. } | Sent::Refused(reason) | Sent::Malformed(reason) => {
                (false, reason)
            }
        };
        Self { channel, ok, detail }
    }
}

/// Sends one test incident, open and resolve, through every configured channel. Empty where none is
/// configured.
pub async fn test(settings: &Settings) -> Vec<Tried> {
    let voice =
        Voice { service: settings.service.clone(), environment: settings.environment.clone() };
    let sentry = Sentry::new(settings, "alert test").map(Arc::new);
    let mut tried = Vec::new();
    for sender in senders(settings, sentry.as_ref()) {
        let sent = sender.try_out(&voice).await;
        tried.push(Tried::of(sender.channel(), sent, "the test incident was opened and resolved"));
    }
    if let Some(heartbeat) = Heartbeat::new(&settings.alert, settings.checkpoint.idle_interval) {
        tried.push(Tried::of(HEARTBEAT, heartbeat.ping().await, "pinged once"));
    }
    tried
}

/// Asks Slack whether the bot may speak and where; sends nothing. `None` where no bot is
/// configured.
///
/// # Errors
/// The token is refused, the channel is not there, or Slack does not answer.
pub async fn ask_slack(settings: &Settings) -> Option<Result<String, Fault>> {
    let bot = Bot::new(&settings.alert)?;
    let fault = |class, said: String| {
        Fault::new(
            class,
            Code::ChannelFailing,
            said,
            "see alert.slack in the configuration, and Slack's page of the app",
        )
    };
    Some(match bot.test_token().await {
        Sent::Refused(why) | Sent::Malformed(why) => Err(fault(
            Class::Halt,
            format!(
                "slack: \
                 {why}"
            ),
        )),
        Sent::Later { reason, .. } => Err(fault(Class::Transient, format!("slack: {reason}"))),
        Sent::Gone | Sent::Done(_) => match bot.test_channel().await {
            Sent::Done(_) => Ok("the token is good and the channel is there".to_owned()),
            Sent::Refused(why) if why.contains("channel") => {
                Err(fault(Class::Halt, format!("slack: {why}")))
            }
            // Looking a channel up wants a scope that posting does not.
            _ => Ok("the token is good; the channel cannot be looked up: `tidemark alert test` \
                     proves it"
                .to_owned()),
        },
    })
}
