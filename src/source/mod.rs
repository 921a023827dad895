//! Step 1, read: the only importer of the MongoDB driver.
//!
//! Replies leave here as raw BSON with their positions, errors leave classified ([`classify`]). Every call has a
//! client-side deadline. The driver's own resume logic is not used: it would hide errors from the classifier.

mod classify;
mod command;
mod documents;
mod feed;
mod heartbeat;
mod history;
mod identity;
mod probe;
mod reply;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, ConnectionString, HostInfo};
use mongodb::{Client, Database};

pub use classify::{ServerAnswer, classify_answer};
pub use documents::Documents;
pub use feed::{Feed, FeedOptions};
pub use history::Entry;
pub use identity::Found;
pub use probe::Facts;
pub use reply::Reply;

use crate::error::{Class, Code, Fault};
use crate::model::namespace::Namespace;
use crate::model::position::ClusterTime;
use crate::settings::{Secret, Settings};

/// How long an answer may take before the wire counts as cut.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long looking up an SRV record may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(10);

/// The source database. Cheap to clone; its name is resolved and it is connected to when first used.
#[derive(Debug, Clone)]
pub struct Source {
    uri: Secret,
    client: Arc<OnceLock<Client>>,
    service: String,
    database: String,
    hosts: String,
    /// The server tells its operation time, so reads can be asked to be causally after one. `DocumentDB` does not;
    /// its reads go to the primary.
    causal: Arc<AtomicBool>,
    /// The server did not know reads of one moment when it was last asked; it is asked again after a while, since an
    /// error may have had another cause, and servers are upgraded.
    inexact_since: Arc<Mutex<Option<Instant>>>,
}

/// How long a server is taken not to know reads of one moment.
const INEXACT_FOR: Duration = Duration::from_secs(60);

/// What a URI looks like.
const HINT: &str = "write source.uri as mongodb://user:password@host:27017/?replicaSet=name";

impl Source {
    /// Asks nobody, DNS included.
    ///
    /// # Errors
    /// The URI cannot be used; it is not repeated: it may hold a password.
    pub async fn new(settings: &Settings) -> Result<Self, Fault> {
        let refused = || Fault::new(Class::Halt, Code::SourceMisconfigured, "source.uri cannot be parsed", HINT);
        let uri = settings.source.uri.expose();
        if !escapes_are_whole(uri) {
            return Err(refused());
        }
        let (hosts, is_plain) = match ConnectionString::parse(uri).map_err(|_| refused())?.host_info {
            HostInfo::HostIdentifiers(hosts) => {
                (hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), true)
            }
            HostInfo::DnsRecord(name) => (name, false),
            _ => return Err(refused()),
        };
        let source = Self {
            uri: settings.source.uri.clone(),
            client: Arc::default(),
            service: settings.service.clone(),
            database: settings.source.database.clone(),
            hosts,
            causal: Arc::new(AtomicBool::new(true)),
            inexact_since: Arc::default(),
        };
        if is_plain {
            // There is no record to look up: whatever else is wrong with the URI is said now.
            source.client().await?;
        }
        Ok(source)
    }

    /// The client. An SRV record is looked up until it has been found once: DNS may be away for a while, at the start
    /// as at any other time.
    async fn client(&self) -> Result<&Client, Fault> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let options = self.resolve().await?;
        // Who looked the record up at the same time may have been first.
        let client = Client::with_options(options)
            .map_err(|_| Fault::new(Class::Halt, Code::SourceMisconfigured, "source.uri cannot be used", HINT))?;
        Ok(self.client.get_or_init(|| client))
    }

    async fn resolve(&self) -> Result<ClientOptions, Fault> {
        let unresolved = |message: &str| {
            let message = format!("the SRV record of {} {message}", self.hosts);
            Fault::new(Class::Transient, Code::SourceUnreachable, message, "check the name in source.uri, and DNS")
        };
        let parse = ClientOptions::parse(self.uri.expose());
        let mut options = match tokio::time::timeout(RESOLVE_DEADLINE, parse).await {
            Ok(Ok(options)) => options,
            Ok(Err(error)) if matches!(*error.kind, ErrorKind::DnsResolve { .. }) => {
                return Err(unresolved("cannot be resolved"));
            }
            Ok(Err(_)) => {
                return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, "source.uri cannot be used", HINT));
            }
            Err(_) => return Err(unresolved(&format!("was not resolved within {RESOLVE_DEADLINE:?}"))),
        };
        options.app_name.get_or_insert_with(|| self.service.clone());
        options.server_selection_timeout.get_or_insert(Duration::from_secs(10));
        options.connect_timeout.get_or_insert(Duration::from_secs(5));
        // Each failed call reaches our own classifier, once.
        options.retry_reads = Some(false);
        Ok(options)
    }

    async fn database(&self) -> Result<Database, Fault> {
        Ok(self.client().await?.database(&self.database))
    }

    /// The hosts, for messages: never the user or password.
    pub fn shown(&self) -> &str {
        &self.hosts
    }

    /// Whether the server tells its operation time.
    pub fn tells_its_time(&self) -> bool {
        self.causal.load(Ordering::Relaxed)
    }

    /// The time a read is asked to be causally after; zero where the server tells no time.
    fn causal(&self, after: ClusterTime) -> ClusterTime {
        if self.causal.load(Ordering::Relaxed) { after } else { ClusterTime::default() }
    }

    fn reads_exactly(&self) -> bool {
        let since = *self.inexact_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_none_or(|since| since.elapsed() > INEXACT_FOR)
    }

    fn cannot_read_exactly(&self, why: &Fault) {
        let since = self.inexact_since.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        if since.is_none() {
            tracing::info!("the server knows no reads of one moment, the majority's are taken: {why}");
        }
    }

    pub fn namespace(&self, collection: &str) -> Namespace {
        Namespace { database: self.database.clone(), collection: collection.to_owned() }
    }
}

/// Whether two hex digits follow each `%`. The driver panics where a character of several bytes does, and
/// a panic's text quotes what it was in: the password.
fn escapes_are_whole(uri: &str) -> bool {
    let is_whole = |rest: &[u8]| matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    uri.as_bytes().split(|&byte| byte == b'%').skip(1).all(is_whole)
}

/// Runs a driver call under a deadline and classifies its error.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = mongodb::error::Result<T>> + Send,
) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(|error| classify::classify(&error)),
        Err(_) => Err(Fault::new(
            Class::Transient,
            Code::SourceUnreachable,
            format!("no answer from mongodb within {deadline:?}"),
            "",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Origin;

    #[tokio::test]
    async fn a_uri_that_the_driver_would_panic_at_is_refused_and_not_repeated() {
        for password in ["50%€", "%é", "%", "%4", "%4ü", "%zz"] {
            let mut settings = Settings::load(&Origin::default()).unwrap();
            settings.source.uri = Secret::new(format!("mongodb://u:{password}@127.0.0.1:1/"));
            let fault = Source::new(&settings).await.unwrap_err();
            assert_eq!((fault.class, fault.code), (Class::Halt, Code::SourceMisconfigured));
            assert!(!fault.to_string().contains(password), "{fault}");
        }
    }
}
