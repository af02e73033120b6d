//! `backbeat demo`.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, Failure, Global};
use crate::demo::{self, Options};

const EXAMPLES: &str = "Examples:
  backbeat demo                              write, replicate and compare a few hundred objects
  backbeat demo --objects 2000 --json        more of them, with a receipt for programs
  backbeat demo --data-dir ./demo --keep     look at the result afterwards, with any S3 client

Exit codes: 0 every version is equal at both sites, 3 something differs or did not arrive, 1 the demo broke down.";

/// Write objects over S3, replicate them to two sites, prove that every version arrived.
///
/// It starts a source site and two target sites in this process, on free ports of the loopback interface.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Keys to write; some get several versions.
    #[arg(long, value_name = "N", default_value_t = 320)]
    objects: usize,
    /// Where the data goes. Without: a temporary directory, removed at the end.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Stay up afterwards, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(arguments: Arguments, global: &Global) -> Result<Exit, Failure> {
    let Arguments { objects, data_dir, keep } = arguments;
    let config = super::config::load(global)?;
    super::start_logging("warn");
    let options = Options { objects, data_dir, keep, json: global.json, config };
    let is_verified = super::runtime()?.block_on(demo::run(options))?;
    Ok(if is_verified { Exit::Done } else { Exit::Bad })
}
