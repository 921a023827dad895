//! The client that reaches the source: made when it is first needed, and made anew when what it
//! logs in with has changed.
//!
//! A client keeps the password it was made with. Readers of an older client go on with it, since a
//! session that is logged in stays logged in.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use mongodb::Client;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, Tls};
use tokio::sync::Mutex;

use super::classify::{classify, is_by_aws, is_login_refused};
use super::options::{Options, has_client_certificate};
use crate::error::{Class, Code, Fault};
use crate::settings::{self, Patience, Secret, output_of};

/// How long looking up an SRV record may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// How often files with secrets are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// A client younger than this is not made anew after a refused login, because it has what there is
/// to log in with now.
const YOUNG: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Reach {
    source: settings::SourceSettings,
    service: String,
    needs: Needs,
    made: Mutex<Option<Made>>,
    patience: Patience,
}

#[derive(Debug)]
struct Made {
    client: Client,
    /// Connections to a server, at most; 0 is no limit.
    pool: u32,
    at: Instant,
    looked: Instant,
    uri: Secret,
    /// Files with certificates, each with its time and size when the client was made.
    files: Vec<(PathBuf, Option<(SystemTime, u64)>)>,
}

/// How many calls go to the source at once.
#[derive(Debug, Clone, Copy)]
struct Needs {
    groups: usize,
    /// Of a group at once.
    walks: usize,
}

impl Needs {
    /// What the driver may open: what is asked for, but never less than each group's change stream
    /// and two more; unasked, what all of it needs at the most. 0 is no limit.
    fn pool_size(self, asked: Option<u32>) -> u32 {
        let of_a_group = self.walks.saturating_mul(2).saturating_add(3);
        let most = self.groups.saturating_mul(of_a_group).saturating_add(6);
        let size = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        match asked {
            Some(0) => 0,
            Some(asked) => asked.max(size(self.groups.saturating_add(2))),
            None => size(most),
        }
    }
}

impl Made {
    /// Whether the secret or a file that the client was made with has changed since.
    fn is_outdated(&self, source: &settings::SourceSettings) -> bool {
        source.uri.now().expose() != self.uri.expose()
            || self.files.iter().any(|(path, before)| mark(path) != *before)
    }
}

impl Reach {
    pub fn new(settings: &settings::Settings) -> Self {
        Self {
            source: settings.source.clone(),
            service: settings.service.clone(),
            needs: Needs { groups: settings.groups.len(), walks: settings.resync.concurrent },
            made: Mutex::new(None),
            patience: Patience::default(),
        }
    }

    /// # Errors
    /// The URI cannot be used, its SRV record not be resolved, or the password not be had.
    pub async fn client(&self) -> Result<Client, Fault> {
        let mut made = self.made.lock().await;
        if let Some(present) = &mut *made {
            if present.looked.elapsed() < LOOK_EVERY {
                return Ok(present.client.clone());
            }
            present.looked = Instant::now();
            if !present.is_outdated(&self.source) {
                return Ok(present.client.clone());
            }
            tracing::info!("what source.uri logs in with has changed: logging in anew");
        }
        match (self.make().await, &*made) {
            (Ok(new), _) => Ok(made.insert(new).client.clone()),
            (Err(fault), None) => Err(self.may_pass(fault, false)),
            (Err(fault), Some(before)) => {
                tracing::warn!(
                    "what source.uri has become cannot be used, the one before still is: {fault}"
                );
                Ok(before.client.clone())
            }
        }
    }

    /// How many connections to a server may be opened at most; `None` if there is no limit.
    pub async fn pool_size(&self) -> Option<u32> {
        let made = self.made.lock().await;
        made.as_ref().map(|made| made.pool).filter(|pool| *pool > 0)
    }

    async fn make(&self) -> Result<Made, Fault> {
        let uri = self.source.uri.now();
        let options =
            Options::read(&settings::SourceSettings { uri: uri.clone(), ..self.source.clone() })?;
        let hosts = options.shown();
        let mut text = options.uri;
        if !self.source.password_command.is_empty() {
            let password = output_of(&self.source.password_command).await.map_err(|why| {
                let message = format!("source.password_command gave no password: {why}");
                let hint = "run it by hand as the user that tidemark runs as";
                Fault::new(Class::Transient, Code::SourceUnauthorised, message, hint)
            })?;
            if let Some(credential) = &mut text.credential {
                credential.password = Some(password.expose().to_owned());
            }
        }
        let files = match &text.tls {
            Some(Tls::Enabled(tls)) => {
                tls.ca_file_path.iter().chain(&tls.cert_key_file_path).cloned().collect()
            }
            _ => Vec::new(),
        };
        let options = self.resolved(text, &hosts).await?;
        let pool = options.max_pool_size.unwrap_or_default();
        let client = Client::with_options(options).map_err(|_| unusable())?;
        let files = files.into_iter().map(|path: PathBuf| (path.clone(), mark(&path))).collect();
        let now = Instant::now();
        Ok(Made { client, pool, at: now, looked: now, uri, files })
    }

    async fn resolved(
        &self,
        uri: mongodb::options::ConnectionString,
        hosts: &str,
    ) -> Result<ClientOptions, Fault> {
        let unresolved = |message: &str| {
            let message = format!("the SRV record of {hosts} {message}");
            Fault::new(
                Class::Transient,
                Code::SourceUnreachable,
                message,
                "check the name in source.uri, and DNS",
            )
        };
        let parse = async { ClientOptions::parse(uri).await };
        let mut options = match tokio::time::timeout(RESOLVE_DEADLINE, parse).await {
            Ok(Ok(options)) => options,
            Ok(Err(error)) if matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
                return Err(unresolved("cannot be resolved"));
            }
            Ok(Err(_)) => return Err(unusable()),
            Err(_) => {
                return Err(unresolved(&format!("was not resolved within {RESOLVE_DEADLINE:?}")));
            }
        };
        options.app_name.get_or_insert_with(|| self.service.clone());
        options.server_selection_timeout.get_or_insert(Duration::from_secs(10));
        options.connect_timeout.get_or_insert(Duration::from_secs(5));
        // The driver tries no read again by itself, so that each failed call reaches our own
        // classifier, once.
        options.retry_reads = Some(false);
        options.max_pool_size = Some(self.needs.pool_size(options.max_pool_size));
        Ok(options)
    }

    /// Runs a driver call under a deadline and classifies its error.
    pub async fn with_deadline<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = mongodb::error::Result<T>> + Send,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(answer)) => {
                self.patience.accepted();
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.refused(&error).await),
            Err(_) => Err(Fault::new(
                Class::Transient,
                Code::SourceUnreachable,
                format!("no answer from mongodb within {deadline:?}"),
                "",
            )),
        }
    }

    /// Classifies an error. After a refused login the client is dropped, so that the next one is
    /// made with the secrets as they are then; and the refusal is transient for a while, where a
    /// new password may be on its way.
    async fn refused(&self, error: &Error) -> Fault {
        let fault = classify(error);
        if !is_login_refused(error) {
            return fault;
        }
        let mut made = self.made.lock().await;
        if made.as_ref().is_some_and(|made| made.at.elapsed() > YOUNG) {
            *made = None;
        }
        self.may_pass(fault, is_by_aws(error))
    }

    /// Makes the fault of a refused login transient for a minute, where what is logged in with may
    /// be changed while the process runs.
    fn may_pass(&self, fault: Fault, changes: bool) -> Fault {
        let source = &self.source;
        let changes = changes
            || source.uri.may_change()
            || !source.password_command.is_empty()
            || has_client_certificate(source.uri.expose());
        if changes && self.patience.lasts() {
            Fault { class: Class::Transient, ..fault }
        } else {
            fault
        }
    }
}

fn unusable() -> Fault {
    let hint = "compare source.uri with docs/operating.md, Connection strings";
    Fault::new(
        Class::Halt,
        Code::SourceMisconfigured,
        "source.uri has options that do not go together",
        hint,
    )
}

/// Time and size of a file, by which it is told from one that took its place.
fn mark(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::Needs;

    #[test]
    fn a_pool_has_a_place_for_each_groups_change_stream_whatever_is_asked_for() {
        let of = |groups, asked| Needs { groups, walks: 2 }.pool_size(asked);
        assert_eq!((of(1, None), of(10, None)), (13, 76));
        assert_eq!((of(10, Some(4)), of(10, Some(50)), of(10, Some(0))), (12, 50, 0));
    }
}
