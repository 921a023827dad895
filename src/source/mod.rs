//! Step 1, read: the only importer of the MongoDB driver.
//!
//! Replies leave here as raw BSON with their positions, errors leave classified ([`classify`]).
//! Every call has a client-side deadline. The driver's own resume logic is not used: it would hide
//! errors from the classifier.

mod catalogue;
mod change_stream;
mod classify;
mod command;
mod cut;
mod documents;
mod heartbeat;
mod history_window;
mod identity;
mod login;
mod options;
mod probe;
mod reach;
mod reply;
mod unreachable;
mod uri;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mongodb::{Client, Database};

pub use catalogue::{CatalogueEntry, CollectionSize, Pick, is_picked_at_random};
pub use change_stream::{ChangeStream, ChangeStreamOptions};
pub use classify::{ServerAnswer, classify_answer};
pub use documents::Documents;
pub use history_window::Entry;
pub use identity::Found;
pub use probe::ServerFacts;
pub use reply::Reply;

use crate::error::Fault;
use crate::model::namespace::Namespace;
use crate::model::position::ClusterTime;
use crate::settings::Settings;
use options::Options;
use reach::Reach;

/// How long an answer may take before the wire counts as cut.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Whether `source.uri` can be used, as far as that can be told without asking anybody.
///
/// # Errors
/// What is wrong with it, without its secrets.
pub async fn judge(settings: &Settings) -> Result<(), Fault> {
    Options::read(&settings.source)?.agree().await
}

/// The source database. Cheap to clone; its name is resolved and it is connected to when first
/// used.
#[derive(Debug, Clone)]
pub struct Source {
    reach: Arc<Reach>,
    database: String,
    hosts: String,
    idle_options: Arc<[String]>,
    guarded: &'static str,
    login: Option<&'static str>,
    /// The server tells its operation time, so reads can be asked to be causally after one.
    /// `DocumentDB` does not; its reads go to the primary.
    causal: Arc<AtomicBool>,
    /// Changes that have nothing to do with each other may carry one cluster time: from MongoDB 8.0
    /// on.
    shares_times: Arc<AtomicBool>,
    /// The server did not know reads of one moment when it was last asked; it is asked again after
    /// a while, since an error may have had another cause, and servers are upgraded.
    inexact_since: Arc<Mutex<Option<Instant>>>,
}

/// How long a server is taken not to know reads of one moment.
const INEXACT_FOR: Duration = Duration::from_secs(60);

impl Source {
    /// Asks nobody, DNS included.
    ///
    /// # Errors
    /// The URI cannot be used; it is not repeated: it may hold a password.
    pub async fn new(settings: &Settings) -> Result<Self, Fault> {
        let options = Options::read(&settings.source)?;
        let source = Self {
            reach: Arc::new(Reach::new(settings)),
            database: settings.source.database.clone(),
            hosts: options.shown(),
            idle_options: options.idle.iter().cloned().collect(),
            guarded: options.guarded(),
            login: options.login(),
            causal: Arc::new(AtomicBool::new(true)),
            shares_times: Arc::default(),
            inexact_since: Arc::default(),
        };
        if options.is_plain() && settings.source.password_command.is_empty() {
            // There is no record to look up: whatever else is wrong with the URI is said now.
            source.client().await?;
        }
        Ok(source)
    }

    /// The client. An SRV record is looked up until it has been found once: DNS may be away for a
    /// while, at the start as at any other time.
    async fn client(&self) -> Result<Client, Fault> {
        self.reach.client().await
    }

    async fn database(&self) -> Result<Database, Fault> {
        Ok(self.client().await?.database(&self.database))
    }

    /// The hosts, for messages: never the user or password.
    pub fn shown(&self) -> &str {
        &self.hosts
    }

    /// Options of the URI that change nothing, each with why.
    pub fn idle_options(&self) -> &[String] {
        &self.idle_options
    }

    /// What of the wire is verified, in words for a person.
    pub const fn guarded(&self) -> &'static str {
        self.guarded
    }

    /// How it is logged in to, where that is by no password, in words for a person.
    pub const fn login(&self) -> Option<&'static str> {
        self.login
    }

    /// Runs a driver call under a deadline and classifies its error.
    async fn with_deadline<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = mongodb::error::Result<T>> + Send,
    ) -> Result<T, Fault> {
        self.reach.with_deadline(deadline, call).await
    }

    /// Whether the server tells its operation time.
    pub fn tells_its_time(&self) -> bool {
        self.causal.load(Ordering::Relaxed)
    }

    /// The time a read is asked to be causally after; zero where the server tells no time.
    fn causal(&self, after: ClusterTime) -> ClusterTime {
        if self.causal.load(Ordering::Relaxed) { after } else { ClusterTime::default() }
    }

    pub(super) fn shares_times(&self) -> bool {
        self.shares_times.load(Ordering::Relaxed)
    }

    fn reads_exactly(&self) -> bool {
        let since = *self.inexact_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_none_or(|since| since.elapsed() > INEXACT_FOR)
    }

    fn cannot_read_exactly(&self, why: &Fault) {
        let since = self
            .inexact_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(Instant::now());
        if since.is_none() {
            tracing::info!(
                "the server knows no reads of one moment, the majority's are taken: {why}"
            );
        }
    }

    /// The same source, of another database.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    pub fn database_name(&self) -> &str {
        &self.database
    }

    pub fn namespace(&self, collection: &str) -> Namespace {
        Namespace { database: self.database.clone(), collection: collection.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Code};
    use crate::settings::{Origin, Secret};

    #[tokio::test]
    async fn a_uri_that_the_driver_would_panic_at_is_refused_and_not_repeated() {
        for password in ["50%€", "%é", "%", "%4", "%4ü", "%zz"] {
            let mut settings = Settings::load(&Origin::default()).unwrap();
            settings.source.uri = Secret::new(format!("mongodb://u:{password}@127.0.0.1:1/"));
            let fault = Source::new(&settings).await.unwrap_err();
            assert_eq!((fault.class, fault.code), (Class::Halt, Code::SourceMisconfigured));
            assert!(!fault.to_string().contains(&format!("u:{password}")), "{fault}");
        }
    }
}
