//! The binary `backbeat`.

use std::process::ExitCode;

/// Replication allocates and frees small things on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    backbeat::cli::run()
}
