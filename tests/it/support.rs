//! What every end-to-end test needs: two databases, a daemon on them, ways to wait and to compare.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use devstack::{Comparison, Stack, compare};
use mongodb::bson::Document;
use mongodb::{Client, Collection, Database};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

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
        format!("{text}{}\n{}", config.extra, config.streams)
    }

    /// Starts a daemon and waits until it says where its status is.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Daemon {
        let log = self.folder.join(format!("{}.log", devstack::unique("daemon")));
        let file = std::fs::File::create(&log).unwrap();
        let child = self
            .command(&["run"])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child, log, address: String::new() };
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let text = daemon.log();
            let found =
                text.split("status at http://").nth(1).and_then(|rest| rest.split('/').next());
            if let Some(address) = found {
                address.clone_into(&mut daemon.address);
                return daemon;
            }
            assert!(
                Instant::now() < deadline && daemon.is_running(),
                "the daemon did not start:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The binary with this test's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark"));
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
        let mut connection = self.pg().await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while !sqlx::query_scalar::<_, Option<bool>>(AssertSqlSafe(sql.to_owned()))
            .fetch_one(&mut connection)
            .await
            .ok()
            .flatten()
            .unwrap_or(false)
        {
            assert!(Instant::now() < deadline, "not within a minute: {what}\n{}", self.logs());
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

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A running daemon, killed when dropped.
pub struct Daemon {
    pub child: Child,
    log: PathBuf,
    pub address: String,
}

impl Daemon {
    /// One that was started otherwise, and answers at this address; its log is not the test's.
    pub fn of(child: Child, address: &str) -> Self {
        let mut daemon = Self { child, log: PathBuf::new(), address: address.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline && daemon.is_running(), "the daemon did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The phases a stream has been in, from the log.
    pub fn phases(&self, stream: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let phases = lines.filter(|line| line["stream"] == stream && line["phase"].is_string());
        phases.map(|line| line["phase"].as_str().unwrap().to_owned()).collect()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, name: &str) {
        devstack::signal(self.child.id(), name).unwrap();
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop; returns its exit code and how long it took.
    pub fn stop(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        self.signal("TERM");
        while self.child.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "the daemon did not stop:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        (self.child.wait().unwrap().code(), begun.elapsed())
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = tidemark::http::client()
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status").await.1).unwrap()
    }

    pub async fn stream(&self, name: &str) -> Value {
        let status = self.status().await;
        status["streams"]
            .as_array()
            .unwrap()
            .iter()
            .find(|stream| stream["name"] == name)
            .unwrap()
            .clone()
    }

    /// One series' value.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.1;
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.ok_or_else(|| format!("no series {series}"))
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Waits until what is asked of a stream's status holds.
    pub async fn until(&self, stream: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.stream(stream).await;
            if holds(&status) {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "not within a minute: {stream} {what}\n{status:#}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something about the metrics holds.
    pub async fn until_metric(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds().await {
            assert!(Instant::now() < deadline, "not within a minute: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn until_readiness(&self, code: u16) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.get("/readyz").await.0 != code {
            assert!(Instant::now() < deadline, "/readyz never answered {code}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn until_phase(&self, stream: &str, phase: &str) -> Value {
        self.until(stream, &format!("in phase {phase}"), |status| status["phase"] == phase).await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// Runs a command: its exit code, and what it printed.
pub fn run(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = world.command(arguments).output().unwrap();
    (output.status.code(), text(&output))
}
