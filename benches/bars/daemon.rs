//! The daemon under measurement: its own process, its figures read from outside.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devstack::{Mongo, Postgres};
use mongodb::Database;
use mongodb::bson::RawDocumentBuf;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::load::COLLECTION;
use crate::until;

pub struct Bench {
    pub mongo: Mongo,
    pub postgres: Postgres,
}

/// One bar's databases.
pub struct World {
    pub source: Database,
    pub target_url: String,
    /// By the server's socket.
    pub target_socket: String,
    config: PathBuf,
}

/// What one drain came to.
pub struct Run {
    pub events_per_second: f64,
    pub cpu_micros: f64,
    pub peak_megabytes: f64,
    pub first_tenth: f64,
    pub last_tenth: f64,
}

const TABLE: &str = "public.doctor";

impl Bench {
    /// The defaults, but for three typed columns as the figures in docs/performance.md have.
    pub async fn world(&self, name: &str) -> World {
        let streams = format!(
            "[[stream]]\nname = \"doctor\"\ncollection = {COLLECTION:?}\ntable = \
             \"doctor\"\ncolumn = [\n{{ name = \"last_name\", field = \"doctorLastName\", type = \
             \"text\" }},\n{{ name = \"doctor_status\", field = \"doctorStatus\", type = \"text\" \
             }},\n{{ name = \"submission_date\", field = \"submissionDate\", type = \"date\" \
             }},\n]\n"
        );
        self.world_of(name, &streams).await
    }

    pub async fn world_of(&self, name: &str, streams: &str) -> World {
        self.world_at(&self.postgres, name, streams).await
    }

    pub async fn world_at(&self, postgres: &Postgres, name: &str, streams: &str) -> World {
        self.world_named(postgres, &devstack::unique(name), streams).await
    }

    /// Of the source's database of this very name.
    pub async fn world_named(&self, postgres: &Postgres, name: &str, streams: &str) -> World {
        let database = postgres.database().await.unwrap();
        let file = format!("tidemark-bench-{}.toml", devstack::unique(name));
        let config = std::env::temp_dir().join(file);
        let (uri, url) = (self.mongo.uri(), postgres.url(&database));
        let text = format!(
            "source.uri = {uri:?}\nsource.database = {name:?}\ntarget.url = {url:?}\nstatus.listen \
             = \"127.0.0.1:0\"\nlog.format = \"json\"\n{streams}"
        );
        std::fs::write(&config, text).unwrap();
        World {
            source: self.mongo.client().await.unwrap().database(name),
            target_url: url,
            target_socket: postgres.socket_url(&database),
            config,
        }
    }
}

impl World {
    /// The same with more configuration, put before the sections.
    pub fn with(&self, extra: &str) -> Self {
        let config =
            std::env::temp_dir().join(format!("tidemark-bench-{}.toml", devstack::unique("with")));
        std::fs::write(
            &config,
            format!("{extra}{}", std::fs::read_to_string(&self.config).unwrap()),
        )
        .unwrap();
        Self {
            source: self.source.clone(),
            target_url: self.target_url.clone(),
            target_socket: self.target_socket.clone(),
            config,
        }
    }

    pub async fn pg(&self) -> PgConnection {
        PgConnection::connect(&self.target_url).await.unwrap()
    }

    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.pg().await).await.unwrap();
    }

    /// Follows the empty collection once, and keeps the position it began at.
    pub async fn first_position(&self) -> RawDocumentBuf {
        let daemon = self.start().await;
        daemon.until_phase("streaming").await;
        daemon.stop();
        self.execute(
            "create table start as select resume_token, token, cluster_time from \
             tidemark.checkpoint",
        )
        .await;
        let token: Vec<u8> = sqlx::query_scalar("select resume_token from start")
            .fetch_one(&mut self.pg().await)
            .await
            .unwrap();
        RawDocumentBuf::from_bytes(token).unwrap()
    }

    /// Back to that position, with an empty table that is not taken for one that was emptied.
    pub async fn rewind(&self) {
        self.execute(
            "truncate public.doctor; update tidemark.checkpoint c set resume_token = \
             s.resume_token, token = s.token, cluster_time = s.cluster_time from start s; update \
             tidemark.stream set witness_id = null, witness_time = null; checkpoint",
        )
        .await;
    }

    /// Back to before the stream was ever followed.
    pub async fn forget(&self) {
        let sql = "drop schema if exists tidemark cascade; drop table if exists public.doctor, \
                   public.copied; checkpoint";
        self.execute(sql).await;
    }

    pub async fn start(&self) -> Running {
        let log = self.config.with_extension("log");
        // As the image and the systemd unit set it.
        let child = Command::new(crate::binary())
            .env("MALLOC_ARENA_MAX", "2")
            .args(["run", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut address = String::new();
        until("the daemon starts", async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let found =
                text.split("status at http://").nth(1).and_then(|rest| rest.split('/').next());
            found.unwrap_or_default().clone_into(&mut address);
            !address.is_empty()
        })
        .await;
        Running { child, address }
    }

    /// Drains `events` events and ends.
    pub async fn drain(&self, events: u64) -> Run {
        let daemon = self.start().await;
        daemon.until_phase("streaming").await;
        let begun = Instant::now();
        let (mut first_tenth, mut nine_tenths) = (None, None);
        until("the backlog is drained", async || {
            let done = daemon.received().await;
            let now = begun.elapsed().as_secs_f64();
            if done >= events / 10 {
                first_tenth.get_or_insert((now, done));
            }
            if done >= events / 10 * 9 {
                nine_tenths.get_or_insert((now, done));
            }
            done >= events
        })
        .await;
        let seconds = begun.elapsed().as_secs_f64();
        let (cpu, peak) = (daemon.cpu_seconds(), daemon.peak_megabytes());
        daemon.stop();
        // Tenths end at the batch that passed them: seconds an event of each are compared.
        let ((first, applied_first), (ninth, applied_ninth)) =
            (first_tenth.unwrap(), nine_tenths.unwrap());
        Run {
            events_per_second: events as f64 / seconds,
            cpu_micros: cpu * 1e6 / events as f64,
            peak_megabytes: peak,
            first_tenth: first / applied_first as f64,
            last_tenth: (seconds - ninth) / (events - applied_ninth).max(1) as f64,
        }
    }

    /// Takes the first snapshot; returns its seconds.
    pub async fn snapshot(&self) -> f64 {
        let daemon = self.start().await;
        self.walked(daemon).await
    }

    /// Waits for the walk under way, and ends; returns the walk's seconds, from before it was noted
    /// until its last commit was answered.
    pub async fn walked(&self, daemon: Running) -> f64 {
        // Seldom looked at: the walk is timed by its own row and the daemon's own log.
        while daemon.stream().await["phase"] != "streaming" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        daemon.stop();
        let log = std::fs::read_to_string(self.config.with_extension("log")).unwrap();
        let mut lines =
            log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let ended = lines.rfind(|line| line["message"] == "walk ended").unwrap();
        let sql = "select extract(epoch from $1::text::timestamptz - started_at)::float8 from \
                   tidemark.resync order by id desc limit 1";
        sqlx::query_scalar(sql)
            .bind(ended["timestamp"].as_str())
            .fetch_one(&mut self.pg().await)
            .await
            .unwrap()
    }

    /// Rows inserted, updated or deleted so far.
    pub async fn row_versions(&self) -> f64 {
        // Statistics are reported when a session ends, or by the second.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let sql = "select (n_tup_ins + n_tup_upd + n_tup_del)::float8 from pg_stat_user_tables \
                   where relname = 'doctor'";
        sqlx::query_scalar(sql).fetch_one(&mut self.pg().await).await.unwrap()
    }

    pub async fn wal_bytes(&self) -> f64 {
        let sql = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8";
        sqlx::query_scalar(sql).fetch_one(&mut self.pg().await).await.unwrap()
    }

    /// Sessions of others than who asks in the target's database.
    pub async fn sessions(&self) -> f64 {
        let sql = "select count(*)::float8 from pg_stat_activity where datname = \
                   current_database() and pid <> pg_backend_pid()";
        sqlx::query_scalar(sql).fetch_one(&mut self.pg().await).await.unwrap()
    }

    pub async fn assert_equal(&self) {
        let found =
            devstack::compare(&self.source, COLLECTION, &mut self.pg().await, TABLE).await.unwrap();
        assert!(
            found.is_equal(),
            "{} missing, {} extra, {} different",
            found.missing.len(),
            found.extra.len(),
            found.different.len()
        );
    }
}

pub struct Running {
    child: Child,
    address: String,
}

impl Running {
    async fn get(&self, path: &str) -> String {
        tidemark::http_client::client()
            .get(format!("http://{}{path}", self.address))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    async fn stream(&self) -> serde_json::Value {
        let status: serde_json::Value = serde_json::from_str(&self.get("/status").await).unwrap();
        status["streams"][0].clone()
    }

    pub async fn until_phase(&self, phase: &str) {
        until(phase, async || self.stream().await["phase"] == phase).await;
    }

    /// Until all streams are in a phase, for two minutes at the most. Seldom looked at: the report
    /// of a thousand streams is long.
    pub async fn until_all(&self, phase: &str) {
        let begun = Instant::now();
        loop {
            let status: serde_json::Value =
                serde_json::from_str(&self.get("/status").await).unwrap();
            let streams = status["streams"].as_array().unwrap();
            let left = streams.iter().filter(|stream| stream["phase"] != phase).count();
            if left == 0 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "{left} are not {phase} yet");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn received(&self) -> u64 {
        self.stream().await["events_received"].as_u64().unwrap()
    }

    pub fn cpu_seconds(&self) -> f64 {
        cpu_seconds(self.child.id())
    }

    fn peak_megabytes(&self) -> f64 {
        self.megabytes("VmHWM")
    }

    /// One of the sizes of `/proc/PID/status`.
    pub fn megabytes(&self, size: &str) -> f64 {
        let status = proc(self.child.id(), "status");
        let line = status.lines().find(|line| line.starts_with(size)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub fn stop(mut self) {
        devstack::signal(self.child.id(), "TERM").unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn proc(pid: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap()
}

/// User's and system's, of a process.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = proc(pid, "stat");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
