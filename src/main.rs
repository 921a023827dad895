//! The binary: reads the command line, hands over, exits with what came of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidemark::cli::main()
}
