//! The command line: parses, runs, prints, and turns what came of it into an exit code.

mod checkpoint;
mod compare;
mod console;
mod dead_letter;
mod explain;
mod incident;
mod init;
mod log;
mod manual;
mod mute;
mod pause;
mod purge;
mod reload;
mod render;
mod resync;
mod run;
mod signals;
mod source;
mod status;
mod views;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, CommandFactory, Parser, Subcommand};

use console::{complain, ends, exit, failed, misconfigured, print, runtime, show};

use crate::ops;
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
    /// Look at the source, and propose streams, tables and columns: a commented configuration
    Init(init::InitArgs),
    /// Validate the configuration, then prove both ends; changes nothing
    Check(CheckArgs),
    /// Create or upgrade tidemark's own tables; create or widen the followed ones
    Migrate,
    /// What every stream is doing, read from Postgres: works when the daemon is down
    Status(status::StatusArgs),
    /// Repair a stream's table from its collection, or some documents of it: preview, request,
    /// list, cancel, approve
    Resync(resync::ResyncArgs),
    /// Walk source and table side by side; exit 1 if any document differs
    Compare(compare::CompareArgs),
    /// One document and its row: each column with why it is what it is
    Explain(explain::ExplainArgs),
    /// The stored position: show it, list retired ones, move it back
    Checkpoint(checkpoint::CheckpointArgs),
    /// Say which source is meant, where it is another one or was taken back in time
    Source(source::SourceArgs),
    /// Wait until a stream's table shows what the source had at a time
    Wait(wait::WaitArgs),
    /// Stop one stream for a while; its group goes on without it
    Pause(pause::PauseArgs),
    /// Let a paused stream go on, with a resync of its table
    Resume(pause::ResumeArgs),
    /// Take a changed configuration without a restart, as SIGHUP does: all of it, or nothing
    Reload(reload::ReloadArgs),
    /// Have running processes log more, or less, for a while
    Log(log::LogArgs),
    /// Events set aside: list, show, retry, discard
    DeadLetter(dead_letter::LetterArgs),
    /// Forget what is over: letters resolved, incidents and requests ended, positions retired
    Purge(purge::PurgeArgs),
    /// Open and past incidents; take one on
    Incident(incident::IncidentArgs),
    /// Print views of the followed tables for readers, as SQL made of the configuration
    Views(views::ViewsArgs),
    /// Try the alert channels
    Alert(incident::AlertArgs),
    /// Print what completes tidemark's commands in a shell
    Completions(manual::CompletionsArgs),
    /// Write the manual pages, one a command, into a folder
    Man(manual::ManArgs),
    /// Print the JSON Schema of the configuration, which editors complete it by
    Schema,
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
    let mut origin = Origin::of_process(cli.config.as_deref());
    if let Command::Init(args) = &cli.command {
        args.place(&mut origin);
    }
    keep_freed_memory();
    let code = match cli.command {
        Command::Run => run::run(origin),
        Command::Healthcheck => healthcheck(&origin),
        Command::Completions(args) => manual::completions(&args, Cli::command()),
        Command::Man(args) => manual::man(&args, Cli::command()),
        Command::Schema => manual::schema(),
        command => match (Settings::load(&origin), runtime()) {
            (Ok(settings), Some(runtime)) => {
                let code = runtime.block_on(obey(command, &settings, &origin));
                // Blocking DNS look-ups are not waited for.
                runtime.shutdown_background();
                code
            }
            (Err(problems), _) => misconfigured(&problems),
            (_, None) => exit::FAILED,
        },
    };
    code.into()
}

/// What needs the whole configuration, and ends by itself.
async fn obey(command: Command, settings: &Settings, origin: &Origin) -> u8 {
    if let Err(problems) = ops::connection_strings::judge(settings).await {
        return misconfigured(&problems);
    }
    match command {
        Command::Run
        | Command::Healthcheck
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Schema => {
            unreachable!("these read the configuration in their own ways, or none")
        }
        Command::Init(args) => init::init(settings, origin, &args).await,
        Command::Check(args) => check(settings, &args).await,
        Command::Migrate => migrate(settings).await,
        Command::Status(args) => status::status(settings, &args).await,
        Command::Resync(args) => resync::resync(settings, args).await,
        Command::Compare(args) => compare::compare(settings, &args).await,
        Command::Explain(args) => explain::explain(settings, &args).await,
        Command::Views(args) => views::views(settings, &args),
        Command::Checkpoint(args) => checkpoint::checkpoint(settings, args).await,
        Command::Source(args) => source::source(settings, args).await,
        Command::Wait(args) => wait::wait(settings, &args).await,
        Command::Pause(args) => pause::pause(settings, &args).await,
        Command::Resume(args) => pause::resume(settings, &args).await,
        Command::Reload(args) => reload::reload(settings, &args).await,
        Command::Log(args) => log::log(settings, args).await,
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
            complain(&format!("{why}; `tidemark run` serves it at status.listen"));
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
            if let Some(found) = ops::check::unlisted(&settings.groups) {
                print(&format!("{}; {}\n", found.detail, found.remedy));
            }
        }
        return 0;
    }
    let findings = ops::check::check(settings, args.role.as_deref()).await;
    show(args.json, findings.as_slice(), render::findings);
    let failing = findings.iter().filter(|finding| !finding.ok).count();
    if failing > 0 && !args.json {
        complain(&format!(
            "{failing} of {} do not hold; once they are mended, `tidemark check` again",
            findings.len()
        ));
    }
    if failing == 0 {
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
    let lines = migrated.done.iter().chain(&migrated.notes);
    lines.for_each(|line| print(&format!("{line}\n")));
    if migrated.done.is_empty() && migrated.failed.is_empty() {
        print("nothing to do: every table is as it should be\n");
    }
    migrated.failed.into_iter().map(failed).max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
