//! The target: which hosts it is reached at, and sessions of it that are what they were asked to
//! be.
//!
//! Several hosts are tried in turn, the last that served first, until one takes writes: a standby
//! is not the target, whatever it answers. Who only reads makes do with one where there is no
//! other.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::watch;

use super::call::{close, in_time, with_deadline};
use super::connect_options;
use super::connection_errors::classify;
use super::password::Logins;
use super::session::{Promise, prove, takes_no_writes};
use crate::error::{Class, Code, Fault};
use crate::model::owner::Owner;
use crate::settings::Settings;

/// How long a session may take to be made, all hosts together.
const PATIENCE: Duration = Duration::from_secs(10);

/// A host that says nothing is given up after no less than this.
const PATIENCE_MIN: Duration = Duration::from_secs(2);

/// How to reach the target, and for how long to wait for it.
#[derive(Debug, Clone)]
pub struct Target {
    logins: Logins,
    shown: Arc<str>,
    promise: Promise,
    reach: Arc<Reach>,
    owner: Owner,
    /// A host that takes no writes will do, if none takes them.
    reads_only: bool,
    /// Longer than the server's own `statement_timeout`, so that the server's answer usually comes
    /// first.
    deadline: Duration,
}

/// What this process knows of the hosts.
#[derive(Debug)]
struct Reach {
    known: Mutex<Known>,
    /// The last session that was asked for was had.
    answers: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Known {
    /// Where the last session was had.
    last: Option<String>,
    /// Where sessions have been proved to last.
    proved: BTreeSet<String>,
    /// Whether the last session takes no writes.
    read_only: bool,
}

impl Target {
    /// Session timeouts end what a frozen client left behind within the lease's length.
    ///
    /// # Errors
    /// The URL cannot be parsed; it is not repeated, because it may hold a password.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let lease = settings.lease.duration;
        Ok(Self {
            logins: Logins::new(settings),
            shown: shown(&connect_options::hosts(settings)?).into(),
            promise: Promise::new(&settings.service, lease),
            reach: Arc::new(Reach { known: Mutex::default(), answers: watch::Sender::new(true) }),
            owner: settings.owner(),
            reads_only: false,
            deadline: lease + Duration::from_secs(5),
        })
    }

    /// The same for who writes nothing: while no host takes writes, one that answers will do.
    #[must_use]
    pub fn for_reading(self) -> Self {
        Self { reads_only: true, ..self }
    }

    /// Whether the last session was one of a host that takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.reach.known().read_only
    }

    /// `host:port,host:port/database as user`: an allowlist, for messages.
    pub fn shown(&self) -> String {
        self.shown.to_string()
    }

    /// Whose daemon this is.
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }

    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How long a session may be silent in a transaction before Postgres ends it.
    pub fn idle(&self) -> Duration {
        self.promise.idle_timeout()
    }

    /// A session of one's own.
    pub async fn connect(&self) -> Result<PgConnection, Fault> {
        // What it takes to make one is large, and rarely needed.
        let made = Box::pin(self.some_host()).await;
        let answers = made.is_ok();
        self.reach.answers.send_if_modified(|before| std::mem::replace(before, answers) != answers);
        made
    }

    async fn some_host(&self) -> Result<PgConnection, Fault> {
        let mut hosts = self.logins.now().await?;
        let last = self.reach.known().last.clone();
        if let Some(at) = hosts.iter().position(|host| Some(place(host)) == last) {
            hosts.rotate_left(at);
        }
        let patience = (PATIENCE / u32::try_from(hosts.len()).unwrap_or(1)).max(PATIENCE_MIN);
        let (mut refused, mut reading) = (Vec::new(), None);
        for host in hosts {
            let place = place(&host);
            match in_time(patience, self.host(host, &place)).await {
                Ok((connection, true)) => {
                    let mut known = self.reach.known();
                    (known.last, known.read_only) = (Some(place), false);
                    return Ok(connection);
                }
                Ok((connection, false)) if self.reads_only && reading.is_none() => {
                    reading = Some(connection);
                }
                Ok((connection, false)) => {
                    close(connection).await;
                    refused.push((place, takes_no_writes()));
                }
                Err(fault) => refused.push((place, fault)),
            }
        }
        self.reach.known().read_only = reading.is_some();
        reading.ok_or_else(|| together(refused))
    }

    /// A session of one host, and whether it takes writes.
    async fn host(
        &self,
        host: PgConnectOptions,
        place: &str,
    ) -> Result<(PgConnection, bool), Fault> {
        // Nothing but the name is asked for when a session is opened: a pooler refuses what it does
        // not know.
        let host = host
            .application_name(self.promise.name())
            .extra_float_digits(None)
            .disable_statement_logging();
        let connect = || async {
            let login = host.connect().await.map_err(|error| classify(&error));
            self.logins.accepted(login)
        };
        let mut connection = connect().await?;
        if !self.reach.known().proved.contains(place) {
            prove(&mut connection, connect().await?).await?;
            self.reach.known().proved.insert(place.to_owned());
        }
        let takes_writes = self.promise.keep(&mut connection).await?;
        Ok((connection, takes_writes))
    }

    /// Waits until a session is had again, if none was the last time one was asked for; else for
    /// ever.
    pub async fn answers_again(&self) {
        let mut answers = self.reach.answers.subscribe();
        let away = !*answers.borrow_and_update();
        if !away || answers.wait_for(|answers| *answers).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends what a frozen client, or a wire cut in silence, left in the middle of a COPY or of a
    /// message. Postgres interrupts no such wait, neither by `statement_timeout` nor by any other,
    /// and its transaction would keep a stream locked for ever. Only this service's own sessions,
    /// whose statement is older than any may get: each of them was made with this
    /// `statement_timeout`, or was not used.
    ///
    /// Not being allowed to is said, and no error.
    pub async fn end_abandoned(&self, connection: &mut PgConnection) {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = \
                   current_database() and usename = current_user and application_name = \
                   current_setting('application_name') and state = 'active' and wait_event = \
                   'ClientRead' and query_start < clock_timestamp() - make_interval(secs => $1)";
        let query = sqlx::query(sql).bind(self.promise.statement_timeout().as_secs_f64());
        match with_deadline(self.deadline, query.execute(connection))
            .await
            .map(|ended| ended.rows_affected())
        {
            Ok(0) => {}
            Ok(sessions) => tracing::warn!(
                sessions,
                "ended sessions whose client has been silent in mid-statement"
            ),
            Err(fault) => tracing::warn!("sessions of silent clients cannot be ended: {fault}"),
        }
    }
}

impl Reach {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(hosts: &[PgConnectOptions]) -> String {
    let places: Vec<String> = hosts.iter().map(place).collect();
    let first = hosts.first();
    let database = first.and_then(PgConnectOptions::get_database).unwrap_or("(default)");
    format!(
        "{}/{database} as {}",
        places.join(","),
        first.map_or("", PgConnectOptions::get_username)
    )
}

/// Where a host is, and nothing else of it.
fn place(host: &PgConnectOptions) -> String {
    match host.get_socket() {
        Some(socket) => format!("{}:{}", socket.display(), host.get_port()),
        None => format!("{}:{}", host.get_host(), host.get_port()),
    }
}

/// What it comes to that no host gave a session. One that is away may be the one that takes writes:
/// then it is no person's matter yet.
fn together(mut refused: Vec<(String, Fault)>) -> Fault {
    if refused.len() < 2 {
        let none =
            || Fault::new(Class::Halt, Code::TargetUnreachable, "target.url names no host", "");
        return refused.pop().map_or_else(none, |(host, fault)| named(&host, fault));
    }
    let mut message = "no host takes writes".to_owned();
    for (index, (host, fault)) in refused.iter().enumerate() {
        let _ = write!(message, "{} {host}: {fault}", if index == 0 { ":" } else { ";" });
    }
    let gravest = refused.iter().position(|(_, fault)| fault.class.may_retry()).unwrap_or_default();
    let Fault { class, code, hint, .. } = refused.swap_remove(gravest).1;
    Fault { class, code, message, hint }
}

/// With the host's name, if it is away: what answers names itself.
fn named(host: &str, fault: Fault) -> Fault {
    let away = fault.code == Code::TargetUnreachable && fault.class.may_retry();
    if away { Fault { message: format!("{host}: {fault}"), ..fault } } else { fault }
}

/// A fault on its way through sqlx's own error type, which an executor has to speak.
pub(super) fn wrapped(fault: Fault) -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(class: Class, message: &str) -> (String, Fault) {
        (format!("{message}:5432"), Fault::new(class, Code::TargetUnreachable, message, "hint"))
    }

    #[test]
    fn a_host_that_is_away_may_be_the_one_that_takes_writes() {
        let fault = together(vec![refused(Class::Halt, "a"), refused(Class::Transient, "b")]);
        assert_eq!(fault.class, Class::Transient);
        assert_eq!(fault.message, "no host takes writes: a:5432: a; b:5432: b");
        let fault = together(vec![refused(Class::Halt, "a"), refused(Class::Halt, "b")]);
        assert_eq!(fault.class, Class::Halt);
        assert_eq!(together(vec![refused(Class::Halt, "a")]).message, "a");
    }

    #[test]
    fn a_wrapped_fault_is_what_it_was() {
        let fault = refused(Class::Halt, "a").1;
        assert_eq!(classify(&wrapped(fault.clone())), fault);
    }
}
