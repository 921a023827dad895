//! Sentry: an event when an incident opens and when it worsens, check-ins of long jobs, and panics.
//! Envelopes are built with Sentry's own types and sent by our own client with deadlines; nothing
//! here is waited for by the data.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use sentry::protocol::{Breadcrumb, Context, Envelope, Event, Level, MonitorCheckIn, Values};
use sentry::types::Dsn;
use serde_json::{Value, json};

use crate::alert::channel::answer::{Sent, of_anybody, retry_after, said, unanswered};
use crate::alert::channel::message::{self, Voice};
use crate::alert::incident::life::Incident;
use crate::error::Severity;
use crate::http_client::client;
use crate::settings::{Secret, Settings};
use crate::telemetry::{self, Crumb};

/// The client of one Sentry project.
#[derive(Debug)]
pub struct Sentry {
    http: Client,
    dsn: Secret,
    voice: Voice,
    server_name: String,
}

const AGENT: &str = concat!("tidemark/", env!("CARGO_PKG_VERSION"));
const RELEASE: &str = concat!("tidemark@", env!("CARGO_PKG_VERSION"));

impl Sentry {
    /// `None` where no DSN is configured.
    pub fn new(settings: &Settings, server_name: &str) -> Option<Self> {
        let dsn = Some(settings.alert.sentry_dsn.clone()).filter(|dsn| !dsn.is_empty())?;
        let voice =
            Voice { service: settings.service.clone(), environment: settings.environment.clone() };
        Some(Self { http: client(), dsn, voice, server_name: server_name.to_owned() })
    }

    /// An incident, as it is now.
    pub async fn capture(&self, incident: &Incident) -> Sent {
        self.send(self.event(incident).into()).await
    }

    /// The start or end of a long job.
    pub async fn check_in(&self, check_in: MonitorCheckIn) -> Sent {
        let mut envelope = Envelope::new();
        envelope.add_item(check_in);
        self.send(envelope).await
    }

    /// An invariant that broke, or a panic. The process may be about to end, so this is given a
    /// moment and no more.
    pub async fn broken(&self, what: &str) -> Sent {
        let mut event = self.blank(Level::Fatal);
        event.message = Some(what.to_owned());
        let code = crate::error::Code::Stalled.name();
        event.fingerprint = self.fingerprint(&["bug", what]);
        event.tags.insert("code".to_owned(), code.to_owned());
        let sending = self.send(event.into());
        tokio::time::timeout(Duration::from_secs(2), sending)
            .await
            .unwrap_or(Sent::Later { after: None, reason: "no answer within 2s".to_owned() })
    }

    /// The event of an incident: identity in the fingerprint, the error's text nowhere in it.
    pub fn event(&self, incident: &Incident) -> Event<'static> {
        let level = match incident.severity {
            Severity::Critical => Level::Error,
            Severity::Warning => Level::Warning,
            Severity::Info => Level::Info,
        };
        let stream = incident.key.stream.clone().unwrap_or_default();
        let code = incident.key.code.name();
        let mut event = self.blank(level);
        event.message = Some(format!("{}: {}", message::title(incident), incident.summary));
        event.fingerprint = self.fingerprint(&[code, &stream]);
        event.breadcrumbs = Values { values: telemetry::crumbs().iter().map(breadcrumb).collect() };
        let tags = [("code", code), ("stream", &stream), ("severity", incident.severity.name())];
        event.tags.extend(
            tags.into_iter()
                .filter(|(_, v)| !v.is_empty())
                .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        event.tags.insert(
            "incident".to_owned(),
            incident.id.map_or_else(|| incident.tag.to_string(), |id| id.to_string()),
        );
        let context = json!({
            "tag": incident.tag,
            "opened_at": incident.opened_at,
            "since": incident.detail.since,
            "count": incident.count,
            "doing": incident.detail.doing,
            "action": incident.detail.action,
            "progress": incident.detail.progress,
        });
        if let Value::Object(fields) = context {
            let fields: BTreeMap<String, Value> = fields.into_iter().collect();
            event.contexts.insert("incident".to_owned(), Context::Other(fields));
        }
        event
    }

    fn blank(&self, level: Level) -> Event<'static> {
        let mut event = Event {
            level,
            logger: Some("tidemark".to_owned()),
            platform: "native".into(),
            release: Some(RELEASE.into()),
            environment: Some(self.voice.environment.clone().into()),
            server_name: Some(self.server_name.clone().into()),
            ..Event::default()
        };
        event.tags.insert("service".to_owned(), self.voice.service.clone());
        event
    }

    fn fingerprint(
        &self,
        rest: &[&str],
    ) -> std::borrow::Cow<'static, [std::borrow::Cow<'static, str>]> {
        let all = [self.voice.service.as_str(), self.voice.environment.as_str()]
            .into_iter()
            .chain(rest.iter().copied());
        all.map(|part| part.to_owned().into()).collect::<Vec<_>>().into()
    }

    async fn send(&self, envelope: Envelope) -> Sent {
        let mut body = Vec::new();
        if let Err(error) = envelope.to_writer(&mut body) {
            return Sent::Malformed(format!("the envelope cannot be written: {}", error.kind()));
        }
        let Ok(dsn) = self.dsn.now().expose().parse::<Dsn>() else {
            return Sent::Refused("alert.sentry.dsn_file holds no DSN any more".to_owned());
        };
        let request = self
            .http
            .post(dsn.envelope_api_url())
            .header("X-Sentry-Auth", dsn.to_auth(Some(AGENT)).to_string())
            .header("Content-Type", "application/x-sentry-envelope")
            .body(body);
        match request.send().await {
            Ok(answer) => classify(answer.status(), retry_after(&answer)),
            Err(error) => unanswered(&error),
        }
    }
}

fn classify(status: StatusCode, after: Option<Duration>) -> Sent {
    let said = said(status);
    of_anybody(status, after).unwrap_or_else(|| match status {
        StatusCode::BAD_REQUEST => Sent::Malformed(said),
        _ if status.is_client_error() => Sent::Refused(format!("{said}: check alert.sentry.dsn")),
        _ => Sent::Later { after, reason: said },
    })
}

fn breadcrumb(crumb: &Crumb) -> Breadcrumb {
    let level = match crumb.level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        _ => Level::Debug,
    };
    Breadcrumb {
        timestamp: crumb.at,
        category: Some(crumb.target.to_owned()),
        level,
        message: Some(crumb.message.clone()),
        data: crumb.fields.clone(),
        ..Breadcrumb::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let of = |status: u16| classify(StatusCode::from_u16(status).unwrap(), None);
        assert_eq!(of(200), Sent::Done(None));
        assert!(matches!(of(429), Sent::Later { after: Some(_), .. }));
        assert!(matches!(of(503), Sent::Later { after: None, .. }));
        assert!(matches!(of(403), Sent::Refused(_)) && matches!(of(413), Sent::Malformed(_)));
    }
}
