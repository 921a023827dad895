//! What every end-to-end test needs: two databases, a daemon on them, ways to wait and to compare.

mod daemon;
pub mod source;
pub mod state;
mod stopwatch;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use devstack::{Comparison, Stack, compare};
use mongodb::bson::Document;
use mongodb::{Client, Collection, Database};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

pub use daemon::Daemon;
pub use stopwatch::Stopwatch;

/// One test's databases. The source and target may be the shared servers or the test's own.
pub struct World {
    pub name: String,
    pub source: Database,
    pub source_uri: String,
    pub target_url: String,
    folder: PathBuf,
    pub config: PathBuf,
}

/// What a test changes in the configuration; the rest is quick variants of the defaults.
#[derive(Default)]
pub struct Config {
    /// Whole lines, put before the sections.
    pub extra: String,
    /// `[[stream]]` lists; the defaults' if empty.
    pub streams: String,
    /// Each stream is a group of its own: what befalls one is seen apart from the others.
    pub apart: bool,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let stack = Stack::shared();
        let database = stack.postgres.database().await.unwrap();
        Self::of(&stack.mongo.uri(), &stack.postgres.url(&database), config).await
    }

    /// Over servers of the test's own.
    pub async fn of(source_uri: &str, target_url: &str, config: Config) -> Self {
        let name = devstack::unique("t");
        // failCommand is limited to one test by the name its daemon goes by.
        let source_uri = format!("{source_uri}&appName={name}");
        let client = Client::with_uri_str(&source_uri.replace(&name, "test")).await.unwrap();
        let folder = std::env::temp_dir().join(format!("tidemark-test-{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("tidemark.toml");
        let world = Self {
            source: client.database(&name),
            name,
            source_uri,
            target_url: target_url.to_owned(),
            folder,
            config: file,
        };
        std::fs::write(&world.config, world.toml(&config)).unwrap();
        world
    }

    /// The same databases under another configuration.
    pub fn beside(&self, config: &Config) -> Self {
        let folder = self.folder.join(devstack::unique("beside"));
        std::fs::create_dir_all(&folder).unwrap();
        let world = Self {
            name: self.name.clone(),
            source: self.source.clone(),
            source_uri: self.source_uri.clone(),
            target_url: self.target_url.clone(),
            config: folder.join("tidemark.toml"),
            folder,
        };
        std::fs::write(&world.config, world.toml(config)).unwrap();
        world
    }

    fn toml(&self, config: &Config) -> String {
        let mut text = String::new();
        let (uri, url, name) = (&self.source_uri, &self.target_url, &self.name);
        let defaults = [
            ("source.uri", format!("{uri:?}")),
            ("source.database", format!("{name:?}")),
            ("target.url", format!("{url:?}")),
            ("status.listen", "\"127.0.0.1:0\"".to_owned()),
            ("checkpoint.idle_interval", "\"500ms\"".to_owned()),
            ("lease.duration", "\"3s\"".to_owned()),
            ("retry.delay_max", "\"1s\"".to_owned()),
            ("log.format", "\"json\"".to_owned()),
        ];
        for (key, value) in defaults {
            if !config.extra.contains(key) {
                writeln!(text, "{key} = {value}").unwrap();
            }
        }
        let streams = if config.apart { apart(&config.streams) } else { config.streams.clone() };
        format!("{text}{}\n{streams}", config.extra)
    }

    /// Puts another configuration in the place of its own.
    pub fn configure(&self, config: &Config) {
        std::fs::write(&self.config, self.toml(config)).unwrap();
    }

    /// Starts a daemon and waits until it says where its status is.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = self.folder.join(format!("{}.log", devstack::unique("daemon")));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = self.command(&["run"]);
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(file);
        Daemon::start(command, log)
    }

    /// The binary with this test's configuration: the one under test, unless
    /// `TIDEMARK_TEST_BINARY` names another build of it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let under_test = || env!("CARGO_BIN_EXE_tidemark").into();
        let binary = std::env::var_os("TIDEMARK_TEST_BINARY").unwrap_or_else(under_test);
        let mut command = Command::new(binary);
        command.args(arguments).arg("--config").arg(&self.config).current_dir(&self.folder);
        command
    }

    pub fn collection(&self, name: &str) -> Collection<Document> {
        self.source.collection(name)
    }

    pub async fn pg(&self) -> PgConnection {
        PgConnection::connect(&self.target_url).await.unwrap()
    }

    /// One value from the target.
    pub async fn scalar<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
        (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
    {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut self.pg().await)
            .await
            .unwrap()
    }

    /// One row from the target.
    pub async fn row<T>(&self, sql: &str) -> T
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        self.row_or_none(sql).await.unwrap()
    }

    pub async fn row_or_none<T>(&self, sql: &str) -> Option<T>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as(AssertSqlSafe(sql.to_owned()))
            .fetch_optional(&mut self.pg().await)
            .await
            .unwrap()
    }

    /// One column of texts.
    pub async fn column(&self, sql: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.pg().await)
            .await
            .unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.pg().await).await.unwrap();
    }

    /// Waits until a query answers true.
    pub async fn until(&self, what: &str, sql: &str) {
        self.until_within(Duration::from_secs(60), what, sql).await;
    }

    pub async fn until_within(&self, patience: Duration, what: &str, sql: &str) {
        let mut connection = self.pg().await;
        let deadline = Instant::now() + patience;
        while !sqlx::query_scalar::<_, Option<bool>>(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .ok()
            .flatten()
            .unwrap_or(false)
        {
            assert!(Instant::now() < deadline, "not within {patience:?}: {what}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the table equals the collection: the end of every end-to-end test.
    pub async fn until_equal(&self, collection: &str, table: &str) -> usize {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let found = self.compare(collection, table).await;
            if found.is_equal() {
                return found.documents;
            }
            let brief = |ids: &[String]| format!("{} {:?}", ids.len(), &ids[..ids.len().min(3)]);
            assert!(
                Instant::now() < deadline,
                "{collection} and {table} differ: missing {}, extra {}, different {}\n{}",
                brief(&found.missing),
                brief(&found.extra),
                brief(&found.different),
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn compare(&self, collection: &str, table: &str) -> Comparison {
        match compare(&self.source, collection, &mut self.pg().await, table).await {
            Ok(found) => found,
            // The table may not have been made yet.
            Err(error) => Comparison { missing: vec![error.to_string()], ..Comparison::default() },
        }
    }

    /// The end of every daemon's log, for a message.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "log") {
                let log = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                writeln!(text, "--- {}", entry.path().display()).unwrap();
                for line in &lines[lines.len().saturating_sub(15)..] {
                    writeln!(text, "{line}").unwrap();
                }
            }
        }
        text
    }
}

/// The same streams, the defaults' if there are none, each in a group of its own.
fn apart(streams: &str) -> String {
    const DEFAULTS: &str = include_str!("../../config/default.toml");
    let defaults = DEFAULTS.find("\n[[stream]]").map_or("", |start| &DEFAULTS[start..]);
    let streams = if streams.is_empty() { defaults } else { streams };
    let (mut text, mut is_stream) = (String::new(), false);
    for line in streams.lines() {
        if line.starts_with('[') {
            is_stream = line.starts_with("[[stream]]");
        }
        if is_stream && line.starts_with("group =") {
            continue;
        }
        writeln!(text, "{line}").unwrap();
        if let Some(name) = line.strip_prefix("name =").filter(|_| is_stream) {
            writeln!(text, "group ={name}").unwrap();
        }
    }
    text
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The most memory a daemon ever held.
pub fn peak_bytes(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The processor's time that a daemon has used.
pub fn cpu_seconds(daemon: &Daemon) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One stream of one collection, with these columns.
pub fn stream(name: &str, collection: &str, rest: &str) -> String {
    format!("[[stream]]\nname = {name:?}\ncollection = {collection:?}\ntable = {name:?}\n{rest}\n")
}

/// What a command printed, on both channels.
pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// What `status` tells, once it says that all is well: it reads what is reported now and then.
pub async fn status_of_the_well(world: &World) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (code, told) = run(world, &["status"]);
        if code == Some(0) {
            return told;
        }
        assert!(Instant::now() < deadline, "never said to be well: {told}\n{}", world.logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Runs a command: its exit code, and what it printed.
pub fn run(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = world.command(arguments).output().unwrap();
    (output.status.code(), text(&output))
}
