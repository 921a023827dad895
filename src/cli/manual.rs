//! What the program says of itself: completions of shells, manual pages, and the schema of its
//! configuration.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use super::console::{complain, exit, print};
use crate::settings::Settings;

const NAME: &str = "tidemark";

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell; `source <(tidemark completions bash)`
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder, which is made if it is not there; a man directory's `man1`
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// The JSON Schema of the configuration.
pub(super) fn schema() -> u8 {
    print(&Settings::schema());
    0
}

pub(super) fn completions(args: &CompletionsArgs, mut commands: Command) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands, NAME, &mut script);
    print(&String::from_utf8_lossy(&script));
    0
}

pub(super) fn man(args: &ManArgs, commands: Command) -> u8 {
    let written = std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(commands, &args.out));
    match written {
        Ok(()) => {
            print(&format!(
                "written to {}: `man {}/{NAME}.1`\n",
                args.out.display(),
                args.out.display()
            ));
            0
        }
        Err(error) => {
            complain(&format!(
                "{}: {error}; name a folder that may be written with --out",
                args.out.display()
            ));
            exit::FAILED
        }
    }
}
