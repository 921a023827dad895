//! The binary: reads the command line, hands over, exits with what came of it.

use std::process::ExitCode;

/// Replies of megabytes come and go as fast as the source gives them; the system's allocator hands each one's memory
/// back to the kernel and asks for it anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidemark::cli::main()
}
