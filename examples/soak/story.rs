//! What is told while it runs: a line for what happened, a bar on a terminal, and what was found.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use devstack::Result;
use indicatif::{ProgressBar, ProgressStyle};

use crate::action::{Lane, Line};

#[derive(Default)]
struct Told {
    /// How often each thing was done, and how often it could not be.
    done: BTreeMap<&'static str, (usize, usize)>,
    findings: Vec<String>,
}

pub struct Story {
    begun: Instant,
    bar: ProgressBar,
    told: Mutex<Told>,
}

impl Story {
    pub fn of(seconds: u64) -> Self {
        let bar = if std::io::stdout().is_terminal() {
            ProgressBar::new(seconds)
        } else {
            ProgressBar::hidden()
        };
        let style = ProgressStyle::with_template("{bar:30} {elapsed_precise} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { begun: Instant::now(), bar, told: Mutex::default() }
    }

    pub fn say(&self, text: &str) {
        let seconds = self.begun.elapsed().as_secs();
        let line = format!("{:02}:{:02}  {text}", seconds / 60, seconds % 60);
        self.bar.set_position(seconds);
        if self.bar.is_hidden() {
            let _ = writeln!(std::io::stdout(), "{line}");
        } else {
            self.bar.println(line);
        }
    }

    /// Something was done, or could not be: the one is as much part of it as the other.
    pub fn happened(&self, line: &Line, outcome: &Result<String>) {
        let mut told = self.told();
        let (done, failed) = told.done.entry(line.name).or_default();
        *done += 1;
        if outcome.is_err() {
            *failed += 1;
        }
        drop(told);
        if line.lane == Lane::Load {
            self.bar.set_position(self.begun.elapsed().as_secs());
            return;
        }
        match outcome {
            Ok(detail) => self.say(&format!("{:<16} {} {detail}", line.name, line.story)),
            Err(error) => self.say(&format!("{:<16} could not be done: {error}", line.name)),
        }
    }

    /// Something that must not be.
    pub fn found(&self, what: String) {
        self.say(&format!("FOUND            {what}"));
        self.told().findings.push(what);
    }

    pub fn findings(&self) -> Vec<String> {
        self.told().findings.clone()
    }

    pub fn table(&self) -> String {
        let told = self.told();
        let rows = told.done.iter().map(|(name, (done, failed))| {
            let failed =
                if *failed == 0 { String::new() } else { format!("{failed} could not be") };
            format!("  {name:<18} {done:>6}  {failed}\n")
        });
        rows.collect()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
