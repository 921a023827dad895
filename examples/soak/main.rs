//! What no test run has time for: real servers, two replicas of the daemon, a load, and everything
//! that can go wrong, at random and at the same time; in the end, tables equal to their source.
//!
//! `cargo run --release --example soak -- --minutes 60 --seed N`. It goes in rounds: after each the
//! world is left in peace, and what must be true then is looked at (`verdict`). What may happen,
//! and how often, is a list (`action`); `--without` and `--only` choose from it. A seed repeats
//! what is done in which order, not how it falls in time. Exit code 0 only if nothing was found.

#![expect(clippy::indexing_slicing, reason = "of arrays whose length stands beside them")]

mod action;
mod daemons;
mod load;
mod people;
mod room;
mod source;
mod story;
mod target;
mod verdict;

use std::cell::Cell;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use devstack::{Fakes, Result};
use fastrand::Rng;

use action::{Action, Lane, Line};
use daemons::{Daemons, Program};
use load::{DATABASE, Load};
use people::People;
use source::Source;
use story::Story;
use target::Target;
use verdict::Judge;

/// Everything that can go wrong, for as long as it is given.
#[derive(Debug, Parser)]
struct Asked {
    /// How long things may happen; what is waited for afterwards comes on top
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// How long until the world is left in peace and looked at
    #[arg(long, default_value_t = 180)]
    round_seconds: u64,
    /// How long anything may take to mend itself afterwards
    #[arg(long, default_value_t = 180)]
    patience_seconds: u64,
    #[arg(long, default_value_t = fastrand::u64(..1_000_000))]
    seed: u64,
    /// The most memory a daemon may take, in MiB
    #[arg(long, default_value_t = 700)]
    memory_mib: u64,
    /// Something that shall not happen, by its name; may be given again
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Nothing else shall happen, beside the load; may be given again
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Do not wait in the end for what takes ten minutes to be over
    #[arg(long)]
    hurry: bool,
    /// Keep configuration and logs
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    if std::env::var_os(daemons::PART).is_some() {
        return tidemark::cli::main();
    }
    let asked = Asked::parse();
    let names: Vec<&str> = action::ACTIONS.iter().map(|line| line.name).collect();
    let unknown = asked.without.iter().chain(&asked.only).find(|n| !names.contains(&n.as_str()));
    if let Some(name) = unknown {
        say(&format!("nothing is called {name}; there are {}", names.join(", ")));
        return ExitCode::from(2);
    }
    match soak(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("the soak itself failed: {error}"));
            ExitCode::from(70)
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn soak(asked: &Asked) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let handle = runtime.handle();
    let story = Story::of(asked.minutes * 60);
    story.say(&format!("seed {}; starting servers", asked.seed));
    let mut source = Source::start(handle)?;
    let mut target = Target::start(handle)?;
    let fakes = Fakes::start()?;
    let mut load = Load::start(handle, &source.mongo, asked.seed)?;
    let program = configured(&source, &target, &fakes)?;
    let daemons = Daemons::start(program.clone())?;
    let people = People::new(program.clone(), target.url(), handle);
    story.say(&format!("following; logs in {}", program.folder.display()));
    let end = Instant::now() + Duration::from_secs(asked.minutes * 60);
    let mut rng = Rng::with_seed(asked.seed);
    while Instant::now() < end {
        let round = Round {
            asked,
            seed: rng.u64(..),
            until: end.min(Instant::now() + Duration::from_secs(asked.round_seconds)),
            story: &story,
        };
        round.go(&mut source, &mut target, &mut load, &daemons, &people)?;
        story.say(&format!("peace, after {} changes", load.changes()));
        source.calm()?;
        target.calm()?;
        let judge = Judge {
            program: &program,
            daemons: &daemons,
            people: &people,
            fakes: &fakes,
            story: &story,
            handle,
            source: source.database()?,
            patience: Duration::from_secs(asked.patience_seconds),
            acted: Cell::new(None),
        };
        judge.judge(&mut target)?;
        if Instant::now() > end && !asked.hurry {
            judge.at_last(&mut target)?;
        }
    }
    daemons.stop(&story)?;
    let peak = daemons.peak_mib();
    if peak > asked.memory_mib {
        story.found(format!("a daemon took {peak} MiB, more than {}", asked.memory_mib));
    }
    let findings = story.findings();
    summary(asked, &story, load.changes(), peak);
    if findings.is_empty() && !asked.keep {
        std::fs::remove_dir_all(&program.folder)?;
    }
    Ok(findings.is_empty())
}

fn configured(source: &Source, target: &Target, fakes: &Fakes) -> Result<Program> {
    let folder = std::env::temp_dir().join(devstack::unique("tidemark-soak"));
    std::fs::create_dir_all(&folder)?;
    let config = folder.join("tidemark.toml");
    let text = format!(
        "environment = \"soak\"\nsource.uri = {:?}\nsource.database = {DATABASE:?}\ntarget.url = \
         {:?}\nstatus.listen = \"127.0.0.1:0\"\ncheckpoint.idle_interval = \
         \"500ms\"\nlease.duration = \"3s\"\nretry.delay_max = \"2s\"\nretry.escalate_after = \
         \"20s\"\nresync.automatic_per_day_max = 1000000\nalert.resolve_hold = \
         \"2s\"\nalert.repeat_interval = \"1m\"\nlog.format = \"json\"\n{}",
        source.mongo.uri(),
        target.url(),
        fakes.config()
    );
    std::fs::write(&config, text)?;
    Ok(Program { folder, config })
}

/// Some minutes in which everything happens at the same time.
struct Round<'a> {
    asked: &'a Asked,
    seed: u64,
    until: Instant,
    story: &'a Story,
}

impl Round<'_> {
    fn go(
        &self,
        source: &mut Source,
        target: &mut Target,
        load: &mut Load,
        daemons: &Daemons,
        people: &People,
    ) -> Result<()> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let lanes = [
                scope.spawn(|| self.lane(Lane::Source, &mut |a, rng| source.perform(a, rng))),
                scope.spawn(|| self.lane(Lane::Target, &mut |a, rng| target.perform(a, rng))),
                scope.spawn(|| self.lane(Lane::Load, &mut |a, rng| load.perform(a, rng))),
                scope.spawn(|| self.lane(Lane::Daemons, &mut |a, rng| daemons.perform(a, rng))),
                scope.spawn(|| {
                    let story = self.story;
                    self.lane(Lane::People, &mut |a, rng| people.perform(a, rng, story));
                }),
            ];
            let keeper = scope.spawn(|| -> Result<()> {
                while !over.load(Ordering::Relaxed) {
                    daemons.keep(self.story)?;
                    std::thread::sleep(Duration::from_millis(200));
                }
                Ok(())
            });
            let ended: Vec<_> = lanes.into_iter().map(|lane| lane.join().is_ok()).collect();
            over.store(true, Ordering::Relaxed);
            keeper.join().map_err(|_| "the keeper of daemons panicked")??;
            if ended.contains(&false) { Err("a lane panicked".into()) } else { Ok(()) }
        })
    }

    fn lane(&self, lane: Lane, perform: &mut dyn FnMut(Action, &mut Rng) -> Result<String>) {
        let lines = action::chosen(lane, &self.asked.only, &self.asked.without);
        let mut rng = Rng::with_seed(self.seed ^ u64::from(lane as u8));
        while Instant::now() < self.until {
            let Some(line) = action::pick(&mut rng, &lines) else { return };
            let outcome = perform(line.action, &mut rng);
            self.story.happened(&line, &outcome);
            self.rest(&line, &mut rng);
        }
    }

    fn rest(&self, line: &Line, rng: &mut Rng) {
        let left = self.until.saturating_duration_since(Instant::now());
        std::thread::sleep(line.lane.rest(rng).min(left));
    }
}

fn summary(asked: &Asked, story: &Story, changes: usize, peak: u64) {
    let findings = story.findings();
    say(&format!("\n{} minutes, seed {}, {changes} changes\n", asked.minutes, asked.seed));
    say(&story.table());
    say(&format!("  most memory a daemon took: {peak} MiB"));
    for finding in &findings {
        say(&format!("  FOUND {finding}"));
    }
    say(match findings.len() {
        0 => "nothing found: tables equal, history sound, every incident resolved",
        _ => "SOMETHING IS WRONG",
    });
}
