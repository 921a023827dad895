//! A real pgbouncer before a Postgres.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::process::{Guarded, User, fresh_folder, tail};
use crate::{Postgres, Result, binaries, free_port};

/// Ended when dropped.
pub struct PgBouncer {
    process: Option<Guarded>,
    folder: PathBuf,
    user: User,
    port: u16,
    postgres: u16,
}

impl PgBouncer {
    /// `mode` is its `pool_mode`; `settings` are more lines of its `[pgbouncer]`.
    pub fn start(postgres: &Postgres, mode: &str, settings: &[&str]) -> Result<Self> {
        let user = User::unprivileged()?;
        let folder = fresh_folder("pgbouncer", user)?;
        let mut bouncer =
            Self { process: None, folder, user, port: free_port()?, postgres: postgres.port() };
        bouncer.launch(mode, settings)?;
        Ok(bouncer)
    }

    /// Ends it and starts it again, at the same port.
    pub fn restart(&mut self, mode: &str, settings: &[&str]) -> Result<()> {
        drop(self.process.take());
        self.launch(mode, settings)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://tidemark@127.0.0.1:{}/{database}", self.port)
    }

    fn launch(&mut self, mode: &str, settings: &[&str]) -> Result<()> {
        let (users, ini, log) =
            (self.folder.join("users"), self.folder.join("pgbouncer.ini"), self.folder.join("log"));
        std::fs::write(&users, "\"tidemark\" \"\"\n")?;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = \
             127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = \
             {}\npool_mode = {mode}\nmax_client_conn = 200\ndefault_pool_size = 40\n{}\n",
            self.postgres,
            self.port,
            users.display(),
            settings.join("\n")
        );
        std::fs::write(&ini, text)?;
        let (program, libraries) = binaries::pgbouncer()?;
        // What was fetched brings its libraries along.
        let arguments =
            [format!("LD_LIBRARY_PATH={}", libraries.display()), program.display().to_string()];
        let arguments = [&arguments[..], &[ini.display().to_string()]].concat();
        let process =
            Guarded::spawn("/usr/bin/env".as_ref(), &arguments, &log, "KILL", None, self.user)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if !process.is_running() || Instant::now() > deadline {
                return Err(format!(
                    "pgbouncer did not start; the end of its log:\n{}",
                    tail(&log)
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.take());
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
