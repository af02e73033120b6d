//! The simulator on the command line.
//!
//! The simulation itself is one thread without a clock; this program may spread seeds over threads and measure wall time.

mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use backbeat_sim::scenario::Scenario;
use backbeat_sim::{mutants, runner};
use clap::{Parser, Subcommand, ValueEnum};

/// Machines and models allocate small things often; nothing in a run depends on where they lie.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An invariant broke, a planted bug escaped, or a mark was not reached.
const ANSWER_IS_BAD: u8 = 3;
/// Wrong usage.
const USAGE: u8 = 2;

/// Deterministic simulation of the replication engine.
#[derive(Debug, Parser)]
#[command(name = "backbeat-sim", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  backbeat-sim run --seeds 1000          run seeds 0 to 999 of the standard scenario
  backbeat-sim run --seed 4711           run one seed
  backbeat-sim replay 4711               run one seed and print what happened, a line a step
  backbeat-sim mutants                   hunt every planted bug

Exit codes: 0 everything held, 2 wrong usage, 3 an invariant broke, a planted bug escaped or a mark was not reached.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// The machines in a model world.
    Core,
    /// The production drivers over memory adapters.
    Driver,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds and check every invariant.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// One seed only.
        #[arg(long, conflicts_with_all = ["seeds", "from"])]
        seed: Option<u64>,
        /// The scenario (see `list`).
        #[arg(long, default_value = "standard")]
        scenario: String,
        /// What is simulated.
        #[arg(long, value_enum, default_value_t = Layer::Core)]
        layer: Layer,
        /// Print the outcome as one JSON object before the last line.
        #[arg(long)]
        json: bool,
        /// Threads that share the seeds; each world still runs in one.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Fail if a mark was not reached or a fault did not strike.
        #[arg(long)]
        require_marks: bool,
        /// Stop after so many seeds that failed.
        #[arg(long, default_value_t = 10)]
        failures_max: usize,
    },
    /// Run one seed and print what happened.
    Replay {
        /// The seed.
        seed: u64,
        /// The scenario (see `list`).
        #[arg(long, default_value = "standard")]
        scenario: String,
        /// Replay with this planted bug.
        #[arg(long)]
        mutant: Option<String>,
        /// Write the trace there instead of to standard output.
        #[arg(long)]
        trace: Option<PathBuf>,
    },
    /// List scenarios, faults, checkers, marks and planted bugs.
    List,
    /// Hunt every planted bug.
    Mutants {
        /// How many seeds each of them may take.
        #[arg(long, default_value_t = 1000)]
        seeds: u64,
        /// Hunt this one only.
        #[arg(long)]
        only: Option<String>,
        /// Print the killing seeds in the form of `sim/killing-seeds.txt`.
        #[arg(long)]
        record: bool,
        /// Threads that share the planted bugs.
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
}

fn main() -> ExitCode {
    // A machine's failed assertion is reported with its seed; the default report would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments = Arguments::parse();
    match dispatch(arguments.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { USAGE } else { 1 })
        }
    }
}

/// Wrong usage that the argument parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn scenario_named(name: &str) -> anyhow::Result<Scenario> {
    Scenario::named(name).ok_or_else(|| {
        let known: Vec<&str> = Scenario::ALL.iter().map(|scenario| scenario.name()).collect();
        Usage(format!("no scenario is named {name:?}: there are {}", known.join(", "))).into()
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program writes the trace it was asked for; worlds do no I/O"
)]
fn write_file(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    std::fs::write(path, text)
}

fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}

fn dispatch(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run {
            seeds,
            from,
            seed,
            scenario,
            layer,
            json,
            threads: asked,
            require_marks,
            failures_max,
        } => {
            if layer == Layer::Driver {
                return Err(Usage(
                    "the driver layer is not built in (docs/roadmap.md); --layer core simulates the machines"
                        .to_owned(),
                )
                .into());
            }
            let scenario = scenario_named(&scenario)?;
            let range = seed.map_or(from..from + seeds, |seed| seed..seed + 1);
            Ok(report::run(scenario, range, threads(asked), failures_max, json, require_marks))
        }
        Command::Replay { seed, scenario, mutant, trace } => {
            let scenario = scenario_named(&scenario)?;
            let report = match mutant {
                None => runner::run(scenario, seed, true),
                Some(name) => {
                    let planted = mutants::named(&name)
                        .ok_or_else(|| Usage(format!("no planted bug is named {name:?}: see `list`")))?;
                    mutants::run(planted, scenario, seed, true)
                }
            };
            let text: String = report.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            if let Some(path) = trace {
                write_file(&path, &text).with_context(|| format!("write the trace to {}", path.display()))?;
            } else {
                std::io::stdout().lock().write_all(text.as_bytes())?;
            }
            report::replayed(&report);
            Ok(if report.violation.is_some() { ANSWER_IS_BAD } else { 0 })
        }
        Command::List => {
            report::list();
            Ok(0)
        }
        Command::Mutants { seeds, only, record, threads: asked } => {
            report::mutants(seeds, only.as_deref(), record, threads(asked))
        }
    }
}
