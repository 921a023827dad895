//! A server process that ends with us, however we end.
//!
//! A shell stands between: it starts the server, says its process id, and waits for its standard
//! input to close. That happens when we drop it, when we panic, and when we are killed; then it
//! kills the server and removes its files.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::Result;

const WATCH: &str = r#"
"$@" >>"$DEVSTACK_LOG" 2>&1 </dev/null &
pid=$!
echo $pid
read _
kill -CONT $pid 2>/dev/null; kill -"$DEVSTACK_SIGNAL" $pid 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  kill -0 $pid 2>/dev/null || break
  sleep 0.1
done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
[ -n "$DEVSTACK_REMOVE" ] && rm -rf "$DEVSTACK_REMOVE"
true
"#;

/// A running server and the shell that watches over it.
pub struct Guarded {
    shell: Child,
    stdin: Option<ChildStdin>,
    pid: u32,
}

/// Who runs the servers: ourselves, or an unprivileged user if we are root.
#[derive(Debug, Clone, Copy)]
pub struct User(pub Option<(u32, u32)>);

impl User {
    /// Postgres refuses to run as root: `postgres` or `nobody` runs it then.
    pub fn unprivileged() -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(Self(None));
        }
        let passwd = fs::read_to_string("/etc/passwd")?;
        let ids = |name: &str| {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let found = ids("postgres").or_else(|| ids("nobody"));
        found.map(|ids| Self(Some(ids))).ok_or_else(|| {
            "Postgres does not run as root, and there is neither a user postgres nor nobody".into()
        })
    }

    pub fn own(self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.0 {
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    pub fn apply(self, command: &mut Command) {
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
    }
}

impl Guarded {
    /// Starts a server. `signal` ends it; `remove` goes with it.
    pub fn spawn(
        server: &Path,
        arguments: &[String],
        log: &Path,
        signal: &str,
        remove: Option<&Path>,
        user: User,
    ) -> Result<Self> {
        File::options().create(true).append(true).open(log)?;
        user.own(log)?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", WATCH, "watch"])
            .arg(server)
            .args(arguments)
            .env("DEVSTACK_LOG", log)
            .env("DEVSTACK_SIGNAL", signal)
            .env("DEVSTACK_REMOVE", remove.map_or_else(PathBuf::new, Path::to_owned))
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not in our process group: a Ctrl-C at the terminal is ours to handle.
            .process_group(0);
        user.apply(&mut command);
        let mut shell = command.spawn()?;
        let stdin = shell.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().map_err(|_| format!("{} did not start", server.display()))?;
        Ok(Self { shell, stdin, pid })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists() && !is_zombie(self.pid)
    }

    /// Sends a signal by name (`STOP`, `CONT`, `KILL`).
    pub fn signal(&self, name: &str) -> Result<()> {
        signal(self.pid, name)
    }
}

/// Sends a signal to a process by name.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("signal {name} could not be sent to {pid}").into())
    }
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    })
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.shell.wait();
    }
}

/// A fresh folder under the system's temporary one.
pub fn fresh_folder(what: &str, user: User) -> Result<PathBuf> {
    fresh_folder_in(&std::env::temp_dir(), what, user)
}

/// A fresh folder in this one.
pub fn fresh_folder_in(room: &Path, what: &str, user: User) -> Result<PathBuf> {
    let folder = room.join(crate::unique(&format!("tidemark-{what}")));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    user.own(&folder)?;
    Ok(folder)
}

/// The last lines of a server's log, for a message.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
