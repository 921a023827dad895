//! Asks something of a running daemon through the `command` table, and waits a moment for the
//! answer.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::Fault;
use crate::state::{Outcome, StateTables, Verb};

/// How long a daemon that is up takes to carry a request out, at most.
const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(100);

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
    /// Of a request to all processes: those that live and have not said what came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
}

impl Asked {
    /// Whether it has ended otherwise than it was meant.
    pub fn refused(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome != Outcome::Done)
    }

    /// Whether every process answers it for itself.
    pub const fn is_of_all(&self) -> bool {
        matches!(self.verb, Verb::Reload | Verb::LogLevel)
    }

    /// Whether some processes have done it, though others refused.
    pub fn is_done_by_some(&self) -> bool {
        let said = self.result.as_deref().unwrap_or_default();
        let mut answers = said.lines().filter(|line| !line.starts_with(' '));
        self.is_of_all() && self.refused() && answers.any(|line| !line.contains(": refused: "))
    }

    /// What has come of it by now.
    async fn look(&mut self, state: &StateTables) -> Result<(), Fault> {
        (self.outcome, self.result) = if let Some(command) = state.command(self.command).await? {
            (command.outcome, command.result)
        } else {
            let why = "Postgres went back to a state before it was recorded: ask again".to_owned();
            (Some(Outcome::Failed), Some(why))
        };
        Ok(())
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
    let mut asked = record(state, verb, stream, arguments, reason).await?;
    let led = is_led(state, stream).await?;
    let mut begun = Instant::now();
    while led && begun.elapsed() < PATIENCE {
        let before = asked.result.take();
        asked.look(state).await?;
        if asked.outcome.is_some() {
            break;
        }
        if verb == Verb::ResyncPart && asked.result != before {
            begun = Instant::now();
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(asked)
}

/// The same of what every process of the service answers for itself: all that live are waited for.
pub async fn ask_all(
    state: &StateTables,
    verb: Verb,
    arguments: &serde_json::Value,
    reason: &str,
) -> Result<Asked, Fault> {
    let mut asked = record(state, verb, "", arguments, reason).await?;
    let (led, begun) = (is_led(state, "").await?, Instant::now());
    loop {
        let living = state.living_processes().await?;
        asked.look(state).await?;
        let said = asked.result.as_deref().unwrap_or_default();
        asked.unanswered = unanswered(&living, said);
        let is_answered = asked.outcome.is_some() && asked.unanswered.is_empty();
        // One that has just begun leads before it is known to live.
        let is_heard = led || !living.is_empty();
        if is_answered || !is_heard || begun.elapsed() > PATIENCE {
            return Ok(asked);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a process leads the stream, or any if it is of none.
async fn is_led(state: &StateTables, stream: &str) -> Result<bool, Fault> {
    let led = state.led().await?;
    Ok(led.iter().any(|held| held.live && (stream.is_empty() || held.stream == stream)))
}

/// Which of the processes are not among those that have said something, a line or more each. Pure.
fn unanswered(living: &[String], said: &str) -> Vec<String> {
    let has_said = |holder: &&String| {
        let began = format!("{holder}: ");
        said.lines().any(|line| line.starts_with(&began))
    };
    living.iter().filter(|holder| !has_said(holder)).cloned().collect()
}

async fn record(
    state: &StateTables,
    verb: Verb,
    stream: &str,
    arguments: &serde_json::Value,
    reason: &str,
) -> Result<Asked, Fault> {
    let recorded = state.request(verb, stream, arguments, &actor(), reason).await?;
    Ok(Asked {
        command: recorded.id,
        verb,
        stream: recorded.stream,
        actor: recorded.actor,
        db_user: recorded.db_user,
        db_address: recorded.db_address,
        outcome: None,
        result: None,
        unanswered: Vec::new(),
    })
}

/// Who asks: the login name and the host, as the environment tells.
pub fn actor() -> String {
    let user = ["TIDEMARK_ACTOR", "SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_answered_is_known_by_name() {
        let living = ["a/1", "a/12", "b/1"].map(str::to_owned);
        let said = "a/12: refused: 1 configuration error\n  batch.events_max (x): a/1: wrong";
        assert_eq!(unanswered(&living, said), ["a/1", "b/1"]);
        assert_eq!(unanswered(&living, ""), living);
        let all = "a/1: taken\na/12: taken\nb/1: taken";
        assert_eq!(unanswered(&living, all), [""; 0]);
    }
}
