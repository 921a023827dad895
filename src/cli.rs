//! The command line: parses, runs, prints, and turns what came of it into an exit code.

mod checkpoint;
mod compare;
mod console;
mod dead_letter;
mod incident;
mod purge;
mod render;
mod resync;
mod run;
mod signals;
mod source;
mod wait;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use console::{complain, ends, exit, failed, print, print_json, runtime, show, state};

use crate::alert::Store;
use crate::ops;
use crate::postgres::Target;
use crate::settings::{Origin, Settings};

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (commit {})", crate::VERSION, crate::COMMIT));

/// Follows MongoDB collections through change streams and keeps Postgres tables equal to them.
#[derive(Debug, Parser)]
#[command(name = "tidemark", version = &**VERSION, max_term_width = 100)]
pub struct Cli {
    /// Configuration file; its keys win over the defaults and config/<environment>.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow every configured stream until SIGTERM or SIGINT; a second signal exits at once
    Run,
    /// Validate the configuration, then prove both ends; changes nothing
    Check(CheckArgs),
    /// Create or upgrade tidemark's own tables; create or widen the followed ones
    Migrate,
    /// What every stream is doing, read from Postgres: works when the daemon is down
    Status(StatusArgs),
    /// Repair a stream's table by a full walk of its collection: preview, request, list, cancel,
    /// approve
    Resync(resync::ResyncArgs),
    /// Walk source and table side by side; exit 1 if any document differs
    Compare(compare::CompareArgs),
    /// The stored position: show it, list retired ones, move it back
    Checkpoint(checkpoint::CheckpointArgs),
    /// Say which source is meant, where it is another one or was taken back in time
    Source(source::SourceArgs),
    /// Wait until a stream's table shows what the source had at a time
    Wait(wait::WaitArgs),
    /// Events set aside: list, show, retry, discard
    DeadLetter(dead_letter::LetterArgs),
    /// Forget what is over: letters resolved, incidents and requests ended, positions retired
    Purge(purge::PurgeArgs),
    /// Open and past incidents; take one on
    Incident(incident::IncidentArgs),
    /// Try the alert channels
    Alert(incident::AlertArgs),
    /// For container health checks: GET /livez on the configured listener, within 2 s
    Healthcheck,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Validate the configuration only
    #[arg(long)]
    offline: bool,
    /// Print the effective configuration, secrets as ***
    #[arg(long)]
    print: bool,
    /// Prove the rights of this Postgres role, instead of the user's that asks
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Show it anew every two seconds
    #[arg(long)]
    watch: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Teaches glibc's malloc to keep what replies and batches free, up to twice this size, instead of
/// giving it back to the system and having it mapped and zeroed again page by page: freeing a block
/// of a size that had been mapped raises its thresholds (`M_MMAP_THRESHOLD` in mallopt(3)). The
/// block is never touched, so it takes no memory.
fn keep_freed_memory() {
    const SIZE: usize = 4 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(SIZE)));
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let origin = Origin::of_process(cli.config.as_deref());
    keep_freed_memory();
    let code = match cli.command {
        Command::Run => run::run(origin),
        Command::Healthcheck => healthcheck(&origin),
        command => match (Settings::load(&origin), runtime()) {
            (Ok(settings), Some(runtime)) => {
                let code = runtime.block_on(obey(command, &settings));
                // Blocking DNS look-ups are not waited for.
                runtime.shutdown_background();
                code
            }
            (Err(problems), _) => {
                complain(&problems.to_string());
                exit::CONFIGURATION
            }
            (_, None) => exit::FAILED,
        },
    };
    code.into()
}

/// What needs the whole configuration, and ends by itself.
async fn obey(command: Command, settings: &Settings) -> u8 {
    if let Err(problems) = ops::connection_strings::judge(settings).await {
        complain(&problems.to_string());
        return exit::CONFIGURATION;
    }
    match command {
        Command::Run | Command::Healthcheck => {
            unreachable!("these read the configuration in their own ways")
        }
        Command::Check(args) => check(settings, &args).await,
        Command::Migrate => migrate(settings).await,
        Command::Status(args) => status(settings, &args).await,
        Command::Resync(args) => resync::resync(settings, args).await,
        Command::Compare(args) => compare::compare(settings, &args).await,
        Command::Checkpoint(args) => checkpoint::checkpoint(settings, args).await,
        Command::Source(args) => source::source(settings, args).await,
        Command::Wait(args) => wait::wait(settings, &args).await,
        Command::DeadLetter(args) => dead_letter::letter(settings, args).await,
        Command::Purge(args) => purge::purge(settings, &args).await,
        Command::Incident(args) => incident::incident(settings, args).await,
        Command::Alert(args) => incident::alert(settings, &args).await,
    }
}

fn healthcheck(origin: &Origin) -> u8 {
    let listen = Settings::listen(origin).ok_or("status.listen is not an address".to_owned());
    let Some(runtime) = runtime() else { return exit::FAILED };
    match listen.and_then(|listen| runtime.block_on(ops::healthcheck::healthcheck(listen))) {
        Ok(()) => 0,
        Err(why) => {
            complain(&why);
            exit::FAILED
        }
    }
}

async fn check(settings: &Settings, args: &CheckArgs) -> u8 {
    if args.print {
        print(settings.print());
    }
    if args.offline {
        if !args.print {
            print("configuration is valid\n");
        }
        return 0;
    }
    let findings = ops::check::check(settings, args.role.as_deref()).await;
    show(args.json, findings.as_slice(), render::findings);
    if findings.iter().all(|finding| finding.ok) {
        0
    } else if findings.iter().any(|finding| finding.too_old) {
        exit::CONFIGURATION
    } else if findings.iter().any(|finding| finding.down) {
        exit::UNAVAILABLE
    } else {
        exit::FAILED
    }
}

async fn migrate(settings: &Settings) -> u8 {
    let (target, state) = match ends(settings) {
        Ok(ends) => ends,
        Err(fault) => return failed(fault),
    };
    let migrated = ops::migrate::migrate(settings, &target, &state).await;
    migrated.done.iter().for_each(|line| print(&format!("{line}\n")));
    if migrated.done.is_empty() && migrated.failed.is_empty() {
        print("nothing to do: every table is as it should be\n");
    }
    migrated.failed.into_iter().map(failed).max().unwrap_or_default()
}

async fn status(settings: &Settings, args: &StatusArgs) -> u8 {
    // Nothing is written: what a standby has is told while no host takes writes.
    let target = match Target::new(settings) {
        Ok(target) => target.for_reading(),
        Err(fault) => return failed(fault),
    };
    let state = state(settings, &target);
    let store = Store::new(settings, &target);
    loop {
        let report = match ops::status::status(settings, &state, &store).await {
            Ok(report) => report,
            Err(fault) => return failed(fault),
        };
        if args.watch && !args.json {
            let _ = std::io::stdout().write_all(b"\x1b[2J\x1b[H");
        }
        if args.json {
            print_json(&report);
        } else {
            print(&render::status(&report));
        }
        if target.is_read_only() {
            complain("no host of target.url takes writes: this is what a standby has");
        }
        if !args.watch {
            return report.verdict.exit_code();
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

#[cfg(test)]
mod tests;
