//! Asks something of a running daemon through the `command` table, and waits a moment for the
//! answer.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Fault;
use crate::state::{Outcome, StateTables, Verb};

/// How long a daemon that is up takes to carry a request out, at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// A recorded request.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    pub command: i64,
    pub verb: Verb,
    /// Empty: it is of none, and carried out by the process that watches for incidents.
    pub stream: String,
    /// Who asks, as the environment tells.
    pub actor: String,
    /// The same as Postgres knows; the address is `None` through a socket.
    pub db_user: Option<String>,
    pub db_address: Option<String>,
    /// How it ended; `None` if it has not yet: it is carried out when a daemon leads the stream.
    pub outcome: Option<Outcome>,
    /// What the daemon did; why it did not; or, before it has ended, why it could not yet.
    pub result: Option<String>,
}

impl Asked {
    /// Whether it has ended otherwise than it was meant.
    pub fn refused(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome != Outcome::Done)
    }
}

/// Records a request and waits for it to be carried out; for one that goes on turn by turn, as long
/// as it gets on.
pub async fn ask(
    state: &StateTables,
    verb: Verb,
    stream: &str,
    arguments: &serde_json::Value,
    reason: &str,
) -> Result<Asked, Fault> {
    let recorded = state.request(verb, stream, arguments, &actor(), reason).await?;
    let command = recorded.id;
    let mut asked = Asked {
        command,
        verb,
        stream: recorded.stream,
        actor: recorded.actor,
        db_user: recorded.db_user,
        db_address: recorded.db_address,
        outcome: None,
        result: None,
    };
    let led = state
        .led()
        .await?
        .iter()
        .any(|held| held.live && (stream.is_empty() || held.stream == stream));
    let mut begun = Instant::now();
    while led && begun.elapsed() < PATIENCE {
        let before = asked.result.take();
        (asked.outcome, asked.result) = if let Some(command) = state.command(command).await? {
            (command.outcome, command.result)
        } else {
            let why = "Postgres went back to a state before it was recorded: ask again".to_owned();
            (Some(Outcome::Failed), Some(why))
        };
        if asked.outcome.is_some() {
            break;
        }
        if verb == Verb::ResyncPart && asked.result != before {
            begun = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(asked)
}

/// Who asks: the login name and the host, as the environment tells.
pub fn actor() -> String {
    let user = ["TIDEMARK_ACTOR", "SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.trim())
}
