//! `tidemark views`: views for readers, as SQL.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::console::{failed, print};
use crate::ops;
use crate::ops::slip::Slip;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct ViewsArgs {
    /// Write them into a file instead
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long, requires = "out")]
    force: bool,
}

pub(super) fn views(settings: &Settings, args: &ViewsArgs) -> u8 {
    let sql = ops::views::views(settings);
    let Some(file) = &args.out else {
        print(&sql);
        return 0;
    };
    if file.exists() && !args.force {
        let message = format!("{} is there already", file.display());
        return failed(Slip::new(message, "name another, or replace it with --force"));
    }
    match fs::write(file, sql) {
        Ok(()) => {
            print(&format!("written to {0}: `psql -f {0}`\n", file.display()));
            0
        }
        Err(error) => {
            let message = format!("{} cannot be written: {error}", file.display());
            failed(Slip::new(message, "name a place that can be written to with --out"))
        }
    }
}
