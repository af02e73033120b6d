//! Plans on the command line: files read, run and shrunk.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use backbeat_sim::mutants::Planted;
use backbeat_sim::plan::text::{self, Regression};
use backbeat_sim::plan::{Plan, bytes};
use backbeat_sim::shrink;
use backbeat_sim::world::Course;

use crate::{ANSWER_IS_BAD, Usage, report, run_course, write_file};

#[expect(clippy::disallowed_methods, reason = "the program reads what it was asked for; worlds do no I/O")]
fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// Reads a plan.
pub(crate) fn read(path: &Path) -> anyhow::Result<Regression> {
    let text = String::from_utf8(read_file(path)?);
    let text = text.map_err(|_| Usage(format!("{} is not a plan: it is not text", path.display())))?;
    text::read(&text).map_err(|error| Usage(format!("{}, {error}", path.display())).into())
}

/// Reads the plan that a fuzzer's input stands for.
pub(crate) fn read_bytes(path: &Path) -> anyhow::Result<Plan> {
    Ok(bytes::plan(&read_file(path)?))
}

/// Runs plans. One that names a planted bug has to break what it says with it, and hold without it; any other has to hold.
pub(crate) fn run_files(paths: &[PathBuf]) -> anyhow::Result<u8> {
    let mut bad = 0;
    for path in paths {
        let Regression { plan, mutant, breaks } = read(path)?;
        let shipped = run_course(None, &Course::Listed(&plan), false);
        let mut faults: Vec<String> = shipped
            .violation
            .iter()
            .map(|violation| format!("{} {}", violation.id, violation.message))
            .collect();
        if let Some(mutant) = mutant {
            let report = run_course(Some(mutant), &Course::Listed(&plan), false);
            match (report.violation, breaks) {
                (None, _) => faults.push(format!("{} is not caught", mutant.name())),
                (Some(violation), Some(breaks)) if violation.id != breaks => {
                    faults.push(format!("{} breaks {} instead of {breaks}", mutant.name(), violation.id));
                }
                (Some(_), _) => {}
            }
        }
        if faults.is_empty() {
            println!("{}: as it says", path.display());
        } else {
            bad += 1;
            println!("{}: {}", path.display(), faults.join("; "));
            println!("  replay: cargo run --release -p backbeat-sim -- replay {}", path.display());
        }
    }
    println!("plans={} failed={bad}", paths.len());
    Ok(if bad > 0 { ANSWER_IS_BAD } else { 0 })
}

/// Runs what a fuzzer's input stands for.
pub(crate) fn run_bytes(path: &Path) -> anyhow::Result<u8> {
    let report = run_course(None, &Course::Listed(&read_bytes(path)?), false);
    report::replayed(&report);
    if report.violation.is_none() {
        return Ok(0);
    }
    println!("shrink: cargo run --release -p backbeat-sim -- shrink --bytes {}", path.display());
    Ok(ANSWER_IS_BAD)
}

/// Shrinks a failing plan and prints it.
pub(crate) fn shrink(
    plan: &Plan,
    origin: &str,
    mutant: Option<Planted>,
    runs: u32,
    output: Option<&Path>,
) -> anyhow::Result<u8> {
    let mut run = |plan: &Plan| run_course(mutant, &Course::Listed(plan), false);
    let Some(shrunk) = shrink::shrink(plan, runs, &mut run) else {
        return Err(Usage(format!("{origin} holds: there is nothing to shrink")).into());
    };
    let violation = &shrunk.violation;
    let comment = format!("{}: {}\nShrunk from {origin}.", violation.id, violation.message);
    let breaks = Some(violation.id.to_owned());
    let text = text::write(&Regression { plan: shrunk.plan.clone(), mutant, breaks }, &comment);
    match output {
        Some(path) => write_file(path, &text)?,
        None => std::io::stdout().lock().write_all(text.as_bytes())?,
    }
    eprintln!("{} {}", violation.id, violation.message);
    eprintln!(
        "operations {} to {}, faults {} to {}, in {} runs",
        plan.operations.len() + plan.fresh.len(),
        shrunk.plan.operations.len() + shrunk.plan.fresh.len(),
        plan.strikes.len() + plan.measures.len(),
        shrunk.plan.strikes.len() + shrunk.plan.measures.len(),
        shrunk.runs
    );
    Ok(ANSWER_IS_BAD)
}
