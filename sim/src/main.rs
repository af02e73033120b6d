//! The simulator on the command line.
//!
//! The simulation itself is one thread without a clock; this program may spread seeds over threads and measure wall time.

mod plans;
mod report;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use backbeat_core::rules::Production;
use backbeat_sim::mutants::{self, Planted};
use backbeat_sim::scenario::Scenario;
use backbeat_sim::world::{Course, Report, World};
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
  backbeat-sim shrink --seed 4711        find a small plan that breaks the same invariant
  backbeat-sim run --plan FILE           run a plan
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
        /// These plans instead of seeds, with the planted bug that each of them names.
        #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["seeds", "from", "seed", "bytes"])]
        plan: Vec<PathBuf>,
        /// What a fuzzer's input stands for, instead of seeds.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "from", "seed"])]
        bytes: Option<PathBuf>,
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
    /// Run one seed or plan and print what happened.
    Replay {
        /// The seed, or the file of a plan.
        #[arg(value_name = "SEED|FILE")]
        subject: String,
        /// The scenario of a seed (see `list`).
        #[arg(long, default_value = "standard")]
        scenario: String,
        /// Replay with this planted bug.
        #[arg(long)]
        mutant: Option<String>,
        /// Replay a plan without the planted bug that it names.
        #[arg(long, conflicts_with = "mutant")]
        as_shipped: bool,
        /// Write the trace there instead of to standard output.
        #[arg(long)]
        trace: Option<PathBuf>,
    },
    /// Find a small plan that breaks the same invariant as a failing run.
    Shrink {
        /// The seed that fails.
        #[arg(long, required_unless_present_any = ["plan", "bytes"], conflicts_with_all = ["plan", "bytes"])]
        seed: Option<u64>,
        /// The scenario of the seed (see `list`).
        #[arg(long, default_value = "standard")]
        scenario: String,
        /// A plan that fails.
        #[arg(long, value_name = "FILE", conflicts_with = "bytes")]
        plan: Option<PathBuf>,
        /// A fuzzer's input that fails.
        #[arg(long, value_name = "FILE")]
        bytes: Option<PathBuf>,
        /// Run with this planted bug.
        #[arg(long)]
        mutant: Option<String>,
        /// Runs that shrinking may take.
        #[arg(long, default_value_t = 10_000)]
        runs: u32,
        /// Write the plan there instead of to standard output.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
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
    std::panic::set_hook(Box::new(report::assertion_failed));
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

fn planted_bug(name: &str) -> anyhow::Result<Planted> {
    mutants::named(name).ok_or_else(|| Usage(format!("no planted bug is named {name:?}: see `list`")).into())
}

/// Runs the engine as shipped, or with a planted bug.
fn run_course(mutant: Option<Planted>, course: &Course<'_>, text: bool) -> Report {
    match mutant {
        None => World::run(course, Production, text),
        Some(planted) => World::run(course, planted, text),
    }
}

#[expect(clippy::disallowed_methods, reason = "the program writes what it was asked for; worlds do no I/O")]
fn write_file(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}

fn dispatch(command: Command) -> anyhow::Result<u8> {
    // Everything but a run of seeds goes on after an assertion has failed.
    let only_runs = matches!(&command, Command::Run { plan, bytes: None, .. } if plan.is_empty());
    if cfg!(panic = "abort") && !only_runs {
        let refused =
            "this build ends where an assertion fails, so that it only runs seeds: build it with --release";
        return Err(Usage(refused.to_owned()).into());
    }
    match command {
        Command::Run {
            seeds,
            from,
            seed,
            plan,
            bytes,
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
            if !plan.is_empty() {
                return plans::run_files(&plan);
            }
            if let Some(path) = bytes {
                return plans::run_bytes(&path);
            }
            let scenario = scenario_named(&scenario)?;
            let range = seed.map_or(from..from + seeds, |seed| seed..seed + 1);
            Ok(report::run(scenario, range, threads(asked), failures_max, json, require_marks))
        }
        Command::Replay { subject, scenario, mutant, as_shipped, trace } => {
            let mutant = mutant.as_deref().map(planted_bug).transpose()?;
            let report = if let Ok(seed) = subject.parse::<u64>() {
                run_course(mutant, &Course::Drawn(scenario_named(&scenario)?, seed), true)
            } else {
                let regression = plans::read(subject.as_ref())?;
                let named = regression.mutant.filter(|_| !as_shipped);
                run_course(mutant.or(named), &Course::Listed(&regression.plan), true)
            };
            let text: String = report.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
            if let Some(path) = trace {
                write_file(&path, &text)?;
            } else {
                std::io::stdout().lock().write_all(text.as_bytes())?;
            }
            report::replayed(&report);
            Ok(if report.violation.is_some() { ANSWER_IS_BAD } else { 0 })
        }
        Command::Shrink { seed, scenario, plan, bytes, mutant, runs, output } => {
            let mut mutant = mutant.as_deref().map(planted_bug).transpose()?;
            let (start, origin) = match (seed, plan, bytes) {
                (Some(seed), _, _) => {
                    let scenario = scenario_named(&scenario)?;
                    let report = run_course(mutant, &Course::Drawn(scenario, seed), false);
                    (report.plan, format!("seed {seed} of the scenario {}", scenario.name()))
                }
                (None, Some(path), _) => {
                    let regression = plans::read(&path)?;
                    mutant = mutant.or(regression.mutant);
                    (regression.plan, format!("the plan {}", path.display()))
                }
                (None, None, Some(path)) => {
                    (plans::read_bytes(&path)?, format!("the bytes in {}", path.display()))
                }
                (None, None, None) => return Err(Usage("name a seed, a plan or bytes".to_owned()).into()),
            };
            plans::shrink(&start, &origin, mutant, runs, output.as_deref())
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
