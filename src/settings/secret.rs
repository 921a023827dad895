//! Values that never show themselves, and where the present one is to be had.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::process::Command;

/// A value that never shows itself. One that stands in a file is read there anew by whoever needs
/// it as of now.
#[derive(Clone)]
pub struct Secret {
    value: String,
    file: Option<SecretFile>,
    /// Where it was given.
    layer: String,
}

/// Shared by all copies of a secret, so that none goes back to what another has seen replaced.
#[derive(Clone)]
struct SecretFile {
    path: PathBuf,
    /// What it said when it last said something.
    last: Arc<Mutex<String>>,
}

impl Secret {
    pub const fn new(value: String) -> Self {
        Self { value, file: None, layer: String::new() }
    }

    pub(super) fn from_file(path: &Path) -> std::io::Result<Self> {
        let value = read(path)?;
        let last = Arc::new(Mutex::new(value.clone()));
        let file = SecretFile { path: path.to_owned(), last };
        Ok(Self { value, file: Some(file), layer: path.display().to_string() })
    }

    /// Given in this layer.
    pub(super) fn of_layer(value: String, layer: &str) -> Self {
        Self { value, file: None, layer: layer.to_owned() }
    }

    /// Where it was given: a layer, or the path of its file.
    pub fn place(&self) -> &str {
        &self.layer
    }

    pub fn expose(&self) -> &str {
        &self.value
    }

    pub const fn is_empty(&self) -> bool {
        self.value.is_empty()
    }

    /// Whether it may be another one by now.
    pub const fn may_change(&self) -> bool {
        self.file.is_some()
    }

    /// The secret as its file has it now. A file that is away or empty is one in the middle of
    /// being replaced: what it said last holds, and never what was replaced before.
    #[must_use]
    pub fn now(&self) -> Self {
        let Some(file) = &self.file else { return self.clone() };
        let mut last = file.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = read(&file.path).ok().filter(|value| !value.is_empty()) {
            *last = value;
        }
        Self { value: last.clone(), ..self.clone() }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    std::fs::read_to_string(path).map(|text| without_newline(&text).to_owned())
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Without the newline an editor or a command ends with.
fn without_newline(text: &str) -> &str {
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

/// How long refused logins are taken for a password that is on its way here: it is changed in two
/// places, and not at once.
const GRACE: Duration = Duration::from_secs(60);

/// Tells a login that is refused while its password is changed from one that needs a person.
#[derive(Debug, Default)]
pub struct Patience {
    /// Whether a login ever was accepted, and since when it has not been.
    state: Mutex<(bool, Option<Instant>)>,
}

impl Patience {
    pub fn accepted(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (true, None);
    }

    /// A login was refused: whether it may pass by itself.
    pub fn lasts(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *state.1.get_or_insert_with(Instant::now);
        state.0 && since.elapsed() < GRACE
    }
}

/// How long a command that says a password may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a shell command says: a password. It is nowhere repeated, nor is what it says on standard
/// error.
///
/// # Errors
/// Why there is none, in words.
pub async fn output_of(command: &str) -> Result<Secret, String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let ended = match tokio::time::timeout(PATIENCE, shell.output()).await {
        Ok(ended) => ended.map_err(|error| format!("no shell can be started: {}", error.kind()))?,
        Err(_) => return Err(format!("it did not end within {PATIENCE:?}")),
    };
    if !ended.status.success() {
        return Err(format!("it ended with {}", ended.status));
    }
    let text = String::from_utf8(ended.stdout).map_err(|_| "what it says is no text".to_owned())?;
    match without_newline(&text) {
        "" => Err("it says nothing".to_owned()),
        password => Ok(Secret::new(password.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_says_a_password_or_why_there_is_none() {
        let said = |command| async move {
            output_of(command).await.map(|secret| secret.expose().to_owned())
        };
        assert_eq!(said("printf 'a b\\n'").await.as_deref(), Ok("a b"));
        assert_eq!(said("printf 'a\\n\\n'").await.as_deref(), Ok("a\n"));
        assert_eq!(said("true").await, Err("it says nothing".to_owned()));
        assert_eq!(
            said("echo secret; echo secret >&2; exit 3").await,
            Err("it ended with exit status: 3".to_owned())
        );
    }

    #[test]
    fn a_file_that_is_away_or_empty_leaves_the_secret_it_said_last() {
        let path = std::env::temp_dir().join(format!("tidemark-secret-{}", std::process::id()));
        std::fs::write(&path, "one\n").unwrap();
        let secret = Secret::from_file(&path).unwrap();
        std::fs::write(&path, "two\r\n").unwrap();
        assert_eq!(secret.now().expose(), "two");
        std::fs::write(&path, "").unwrap();
        assert_eq!(secret.now().expose(), "two", "what was replaced is never said again");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(secret.clone().now().expose(), "two");
    }
}
