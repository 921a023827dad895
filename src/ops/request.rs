//! Asks something of a running daemon through the `command` table, and waits a moment for the answer.

use std::time::Duration;

use serde::Serialize;

use crate::checkpoint::Checkpoints;
use crate::error::Fault;

/// How long a daemon that is up takes to obey, at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// A recorded request.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    pub command: i64,
    pub verb: String,
    pub stream: String,
    pub actor: String,
    /// What the daemon did; `None` if none has answered yet: it is obeyed when one leads the stream.
    pub result: Option<String>,
}

impl Asked {
    pub fn refused(&self) -> bool {
        self.result.as_ref().is_some_and(|result| result.starts_with("refused"))
    }
}

/// Records a request and waits for it to be obeyed.
///
/// # Errors
/// Postgres cannot be asked.
pub async fn ask(
    checkpoints: &Checkpoints,
    verb: &str,
    stream: &str,
    arguments: &serde_json::Value,
    reason: &str,
) -> Result<Asked, Fault> {
    let actor = actor();
    let command = checkpoints.request(verb, stream, arguments, &actor, reason).await?;
    let mut asked = Asked { command, verb: verb.to_owned(), stream: stream.to_owned(), actor, result: None };
    let led = checkpoints.leases().await?.iter().any(|held| held.stream == stream && held.live);
    let waited = async {
        loop {
            if let Some(result) = checkpoints.command(command).await?.and_then(|command| command.result) {
                return Ok::<_, Fault>(result);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if led && let Ok(result) = tokio::time::timeout(PATIENCE, waited).await {
        asked.result = Some(result?);
    }
    Ok(asked)
}

/// Who asks: the login name and the host, as the environment tells.
pub fn actor() -> String {
    let user = ["TIDEMARK_ACTOR", "SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), host.trim())
}
