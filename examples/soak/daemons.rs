//! Two replicas of the daemon, started again whenever they end, as an orchestrator would.

use std::fs::{File, read_to_string};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use devstack::{Result, signal, unique};
use fastrand::Rng;

use crate::action::{Action, moment};
use crate::story::Story;

/// This executable is the daemon, too, if this is set: its own `main`, built as the rest was.
pub const PART: &str = "TIDEMARK_SOAK_PART";

/// How the program is run with the soak's configuration.
#[derive(Debug, Clone)]
pub struct Program {
    pub folder: PathBuf,
    pub config: PathBuf,
}

impl Program {
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).arg("--config").arg(&self.config);
        command.current_dir(&self.folder).env(PART, "tidemark").stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command to its end: its exit code, and what it printed. None may take a minute.
    pub fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let path = self.folder.join(unique("command"));
        let file = File::create(&path)?;
        let mut command = self.command(arguments)?;
        let mut child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let text = read_to_string(&path)?;
        std::fs::remove_file(path)?;
        Ok((status.and_then(|status| status.code()), text))
    }
}

struct Slot {
    child: Child,
    log: PathBuf,
    /// Whether its end is our doing.
    ended_by_us: bool,
    peak_kib: u64,
}

pub struct Daemons {
    program: Program,
    slots: Mutex<Vec<Slot>>,
}

impl Daemons {
    pub fn start(program: Program) -> Result<Self> {
        let daemons = Self { program, slots: Mutex::default() };
        for index in 0..2 {
            let slot = daemons.spawn(index)?;
            daemons.slots().push(slot);
        }
        Ok(daemons)
    }

    fn spawn(&self, index: usize) -> Result<Slot> {
        let log = self.program.folder.join(format!("daemon{index}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = self.program.command(&["run"])?;
        let child = command.stdout(Stdio::null()).stderr(file).spawn()?;
        Ok(Slot { child, log, ended_by_us: false, peak_kib: 0 })
    }

    /// Starts what ended. An end that nobody asked for is something found.
    pub fn keep(&self, story: &Story) -> Result<()> {
        for (index, slot) in self.slots().iter_mut().enumerate() {
            let status = format!("/proc/{}/status", slot.child.id());
            slot.peak_kib =
                slot.peak_kib.max(peak_kib(&read_to_string(status).unwrap_or_default()));
            let Some(status) = slot.child.try_wait()? else { continue };
            // 69: an end was down at the start, and it was told so.
            let accounted = slot.ended_by_us || status.code() == Some(69);
            if !accounted {
                story.found(format!("daemon {index} ended by itself: {status}"));
            }
            let peak_kib = slot.peak_kib;
            *slot = Slot { peak_kib, ..self.spawn(index)? };
        }
        Ok(())
    }

    pub fn perform(&self, action: Action, rng: &mut Rng) -> Result<String> {
        let index = rng.usize(..2);
        let pid = {
            let mut slots = self.slots();
            let slot = slots.get_mut(index).ok_or("no such daemon")?;
            slot.ended_by_us |= matches!(action, Action::KillDaemon | Action::StopDaemon);
            slot.child.id()
        };
        match action {
            Action::KillDaemon => signal(pid, "KILL")?,
            Action::StopDaemon => signal(pid, "TERM")?,
            Action::FreezeDaemon => {
                signal(pid, "STOP")?;
                let long = moment(rng, 500..8_000);
                std::thread::sleep(long);
                signal(pid, "CONT")?;
                return Ok(format!("({index}) for {long:?}"));
            }
            other => return Err(format!("{other:?} is not done to daemons").into()),
        }
        Ok(format!("({index})"))
    }

    /// Ends both; both have to end in time and well.
    pub fn stop(&self, story: &Story) -> Result<()> {
        for (index, slot) in self.slots().iter_mut().enumerate() {
            signal(slot.child.id(), "TERM")?;
            let deadline = Instant::now() + Duration::from_secs(20);
            let status = loop {
                match slot.child.try_wait()? {
                    Some(status) => break Some(status),
                    None if Instant::now() > deadline => break None,
                    None => std::thread::sleep(Duration::from_millis(20)),
                }
            };
            if status.and_then(|status| status.code()) != Some(0) {
                story.found(format!("daemon {index} told to stop, within 20 s: {status:?}"));
            }
        }
        Ok(())
    }

    /// The most memory one of them ever took, in MiB.
    pub fn peak_mib(&self) -> u64 {
        self.slots().iter().map(|slot| slot.peak_kib / 1024).max().unwrap_or_default()
    }

    /// All that they logged.
    pub fn logs(&self) -> String {
        self.slots().iter().map(|slot| read_to_string(&slot.log).unwrap_or_default()).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        for slot in self.slots().iter_mut() {
            let _ = slot.child.kill();
            let _ = slot.child.wait();
        }
    }
}

fn peak_kib(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
