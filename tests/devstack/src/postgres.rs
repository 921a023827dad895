//! A throwaway Postgres, a database a test.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::process::{Guarded, User, fresh_folder, fresh_folder_in, tail};
use crate::{Certificate, Result, binaries, free_port};

#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    /// Flush to disk as production does; off for tests, on for benches.
    pub durable: bool,
    /// More of `postgresql.conf`, such as `wal_writer_delay=10s`, which widens what a crash loses.
    pub settings: Vec<String>,
    /// Where its folder is made; under the system's temporary one if none is given.
    pub room: Option<PathBuf>,
    /// The server's certificate, for TLS.
    pub certificate: Option<Certificate>,
    /// The text of `pg_hba.conf`, else anybody is let in.
    pub access: Option<String>,
}

impl PostgresOptions {
    /// As in production.
    pub fn durable() -> Self {
        Self { durable: true, ..Self::default() }
    }

    fn folder(&self, user: User) -> Result<PathBuf> {
        match &self.room {
            Some(room) => fresh_folder_in(room, "postgres", user),
            None => fresh_folder("postgres", user),
        }
    }
}

/// A server with user `tidemark` and no password. Ended when dropped.
pub struct Postgres {
    process: Option<Guarded>,
    folder: PathBuf,
    port: u16,
    user: User,
    options: PostgresOptions,
}

impl Postgres {
    pub fn start(options: &PostgresOptions) -> Result<Self> {
        let user = User::unprivileged()?;
        let folder = options.folder(user)?;
        let bin = binaries::postgres_bin()?;
        let mut initdb = Command::new(bin.join("initdb"));
        initdb
            .args(["-U", "tidemark", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(folder.join("data"));
        initdb.current_dir("/").env("LC_ALL", "C");
        user.apply(&mut initdb);
        let output = initdb.output()?;
        if !output.status.success() {
            return Err(
                format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr)).into()
            );
        }
        Self::over(folder, user, options, &bin)
    }

    fn over(folder: PathBuf, user: User, options: &PostgresOptions, bin: &Path) -> Result<Self> {
        let options = options.clone();
        let mut postgres = Self { process: None, folder, port: free_port()?, user, options };
        postgres.launch(bin)?;
        Ok(postgres)
    }

    /// Another server that follows this one: an asynchronous hot standby over a copy of its data.
    pub fn standby(&self) -> Result<Self> {
        let folder = self.options.folder(self.user)?;
        let bin = binaries::postgres_bin()?;
        let mut backup = Command::new(bin.join("pg_basebackup"));
        backup.args(["-h", "127.0.0.1", "-U", "tidemark", "-p", &self.port.to_string()]);
        backup.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D"]);
        backup.arg(folder.join("data")).current_dir("/").env("LC_ALL", "C");
        self.user.apply(&mut backup);
        let output = backup.output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("pg_basebackup failed: {text}").into());
        }
        Self::over(folder, self.user, &self.options, &bin)
    }

    fn launch(&mut self, bin: &Path) -> Result<()> {
        let log = self.folder.join("log");
        let durable = if self.options.durable { "on" } else { "off" };
        let mut own = Vec::new();
        if let Some(certificate) = &self.options.certificate {
            self.present(certificate)?;
            let file = |name: &str| self.folder.join(name).display().to_string();
            own.push("ssl=on".to_owned());
            own.push(format!("ssl_cert_file={}", file("server.pem")));
            own.push(format!("ssl_key_file={}", file("server.key")));
        }
        if let Some(access) = &self.options.access {
            let path = self.folder.join("access.conf");
            std::fs::write(&path, access)?;
            self.user.own(&path)?;
            own.push(format!("hba_file={}", path.display()));
        }
        let mut arguments = vec![
            "-D".to_owned(),
            self.folder.join("data").display().to_string(),
            "-p".to_owned(),
            self.port.to_string(),
        ];
        let settings = [
            format!("unix_socket_directories={}", self.folder.display()),
            "listen_addresses=127.0.0.1".to_owned(),
            "max_connections=200".to_owned(),
            "shared_buffers=256MB".to_owned(),
            "max_wal_size=4GB".to_owned(),
            format!("fsync={durable}"),
            format!("full_page_writes={durable}"),
        ];
        let settings = settings.iter().chain(&own).chain(&self.options.settings).cloned();
        arguments.extend(settings.flat_map(|setting| ["-c".to_owned(), setting]));
        let process = Guarded::spawn(
            &bin.join("postgres"),
            &arguments,
            &log,
            "INT",
            Some(&self.folder),
            self.user,
        )?;
        let deadline = Instant::now() + Duration::from_secs(60);
        // Ready when the log says so: a port that is open may still refuse.
        // A standby is ready for reads.
        while !std::fs::read_to_string(&log).unwrap_or_default().contains("ready to accept") {
            if !process.is_running() || Instant::now() > deadline {
                return Err(
                    format!("Postgres did not start; the end of its log:\n{}", tail(&log)).into()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Presents another certificate from now on.
    pub fn present(&self, certificate: &Certificate) -> Result<()> {
        for (name, text) in [("server.pem", &certificate.pem), ("server.key", &certificate.key)] {
            let path = self.folder.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            self.user.own(&path)?;
        }
        match &self.process {
            Some(process) => process.signal("HUP"),
            None => Ok(()),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the server is there; a full disk may have ended it.
    pub fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Guarded::is_running)
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://tidemark@127.0.0.1:{}/{database}", self.port)
    }

    /// The same by the socket in the server's folder, where no packet waits for another's
    /// acknowledgement.
    pub fn socket_url(&self, database: &str) -> String {
        let (folder, port) = (self.folder.display(), self.port);
        format!("postgres:///{database}?user=tidemark&host={folder}&port={port}")
    }

    pub async fn connect(&self, database: &str) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url(database)).await?)
    }

    /// psql on a database, from beside the server's own binaries or from PATH.
    pub fn psql(&self, database: &str) -> Result<Command> {
        let mut psql = client("psql")?;
        psql.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]).arg(self.url(database));
        Ok(psql)
    }

    /// pg_dump of a database, found in the same places.
    pub fn dump(&self, database: &str) -> Result<Command> {
        let mut dump = client("pg_dump")?;
        dump.arg(self.url(database));
        Ok(dump)
    }

    /// A new, empty database. Returns its name.
    pub async fn database(&self) -> Result<String> {
        let name = crate::unique("t");
        let mut admin = self.connect("postgres").await?;
        sqlx::raw_sql(AssertSqlSafe(format!("create database {name}"))).execute(&mut admin).await?;
        admin.close().await?;
        Ok(name)
    }

    /// Ends the server at once, as a power cut would.
    pub fn kill(&mut self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        process.signal("QUIT")?;
        while process.is_running() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// An immediate stop and a start at the same port: what was committed but not flushed is gone.
    pub fn crash(&mut self) -> Result<()> {
        self.kill()?;
        self.restart()
    }

    /// Starts it again over its own data, at the same port.
    pub fn restart(&mut self) -> Result<()> {
        let aside = self.folder.with_extension("aside");
        std::fs::rename(&self.folder, &aside)?;
        drop(self.process.take());
        std::fs::rename(&aside, &self.folder)?;
        let _ = std::fs::remove_file(self.folder.join("log"));
        self.launch(&binaries::postgres_bin()?)
    }
}

/// A program of PostgreSQL's, from beside the server's own or from PATH.
fn client(program: &str) -> Result<Command> {
    let beside = binaries::postgres_bin()?.join(program);
    Ok(Command::new(if beside.exists() { beside } else { program.into() }))
}
