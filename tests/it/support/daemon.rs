//! A daemon under test: its process, its log, and what its address answers.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Stopwatch;

/// On a machine that has other work.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// A running daemon, killed when dropped.
pub struct Daemon {
    pub child: Child,
    log: PathBuf,
    pub address: String,
}

impl Daemon {
    /// Runs a command that logs to this file, until it says there where its status is.
    pub fn start(mut command: Command, log: PathBuf) -> Self {
        let mut daemon = Self { child: command.spawn().unwrap(), log, address: String::new() };
        let deadline = Instant::now() + STARTS_WITHIN;
        loop {
            // Asked first: one that ends soon after it has begun has said so by then.
            let is_running = daemon.is_running();
            let text = daemon.log();
            let found =
                text.split("status at http://").nth(1).and_then(|rest| rest.split('/').next());
            if let Some(address) = found {
                address.clone_into(&mut daemon.address);
                return daemon;
            }
            assert!(Instant::now() < deadline && is_running, "the daemon did not start:\n{text}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// One that was started otherwise, and answers at this address; its log is not the test's.
    pub fn of(child: Child, address: &str) -> Self {
        let mut daemon = Self { child, log: PathBuf::new(), address: address.to_owned() };
        let deadline = Instant::now() + STARTS_WITHIN;
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
        self.signal("TERM");
        let watch = Stopwatch::start();
        while self.child.try_wait().unwrap().is_none() {
            assert!(watch.elapsed() < STOPS_WITHIN, "the daemon did not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        (self.child.wait().unwrap().code(), watch.elapsed())
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = tidemark::http_client::client()
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
