//! The binary `backbeat`.

use std::process::ExitCode;

fn main() -> ExitCode {
    backbeat::cli::run()
}
