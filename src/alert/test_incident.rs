//! A test incident, open and resolve, through one channel: proves the whole way without an
//! incident.

use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::alert::channel::answer::Sent;
use crate::alert::channel::message::{self, Voice};
use crate::alert::channel::webhook;
use crate::alert::incident::life::{Cause, Incident, Key};
use crate::alert::sender::{Notice, Sender};
use crate::error::{Code, Severity};

/// The incident that is sent: it has no cause, and stands in no book.
fn incident() -> Incident {
    let cause = Cause {
        key: Key { code: Code::ChannelFailing, stream: None },
        severity: Severity::Info,
        since: None,
        lasting: TimeDelta::zero(),
        summary: "a person asked for a test of the alert channels".to_owned(),
        action: None,
        doing: "It opens this test incident, and resolves it at once.".to_owned(),
        occurrences: 0,
        progress: None,
        resync: None,
        over: None,
        inhibited: false,
    };
    let now = Utc::now();
    let mut incident = Incident::open(now, &cause, now, TimeDelta::days(1));
    incident.detail.title = Some("test of the alert channels".to_owned());
    incident
}

impl Sender {
    /// Opens and resolves the test incident here.
    pub async fn try_out(&self, voice: &Voice) -> Sent {
        let mut incident = incident();
        let now = Utc::now();
        let opening = self.root(voice, &incident, true);
        let opened = self.send(&incident, &Notice::Post(opening)).await;
        let Sent::Done(place) = &opened else { return opened };
        incident.missed(now, TimeDelta::zero());
        let root = self.root(voice, &incident, false);
        match (self, place) {
            (Self::Bot(_), Some(place)) => {
                let reply =
                    Notice::Reply(message::reply(voice, &incident, 0, now), place.clone(), 2);
                let replied = self.send(&incident, &reply).await;
                if !matches!(replied, Sent::Done(_)) {
                    return replied;
                }
                self.send(&incident, &Notice::Edit(root, place.clone())).await
            }
            (Self::Webhook(_) | Self::Signed(_), _) => {
                self.send(&incident, &Notice::Post(root)).await
            }
            // Sentry is told of openings only.
            _ => opened,
        }
    }

    fn root(&self, voice: &Voice, incident: &Incident, first: bool) -> Value {
        let now = Utc::now();
        match self {
            Self::Signed(_) => webhook::body(voice, incident, first, 0, now),
            Self::Bot(_) | Self::Webhook(_) | Self::Sentry(_) => {
                message::root(voice, incident, now)
            }
        }
    }
}
