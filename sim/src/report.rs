//! What the commands print.

#![expect(clippy::disallowed_types, reason = "the program measures wall time; worlds do not see it")]

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use backbeat_sim::checkers::PROPERTIES;
use backbeat_sim::faults::Fault;
use backbeat_sim::hunt;
use backbeat_sim::marks::Mark;
use backbeat_sim::mutants::Planted;
use backbeat_sim::runner::{self, Summary};
use backbeat_sim::scenario::Scenario;
use backbeat_sim::world::Report;

use crate::{ANSWER_IS_BAD, Usage};

thread_local! {
    /// What this thread runs, for a build that ends where an assertion fails.
    static UNDER_WAY: Cell<Option<(Scenario, u64)>> = const { Cell::new(None) };
}

/// An assertion failed. Where panics unwind, the world that it was in reports it; where they cannot, the seed is told here,
/// as any other that broke an invariant, and the program ends with it.
pub(crate) fn assertion_failed(panic: &PanicHookInfo<'_>) {
    if cfg!(panic = "unwind") {
        return;
    }
    let message = panic.payload_as_str().unwrap_or("a machine failed an assertion");
    match UNDER_WAY.get() {
        Some((scenario, seed)) => broken(scenario, seed, "ASSERT", message),
        None => eprintln!("error: {message}"),
    }
    std::process::exit(i32::from(ANSWER_IS_BAD));
}

fn broken(scenario: Scenario, seed: u64, id: &str, message: &str) {
    let flag = scenario_flag(scenario);
    println!("seed {seed}: {id} {message}");
    println!("  replay: cargo run --release -p backbeat-sim -- replay {seed}{flag}");
    println!("  shrink: cargo run --release -p backbeat-sim -- shrink --seed {seed}{flag}");
}

/// Runs seeds on several threads and reports.
pub(crate) fn run(
    scenario: Scenario,
    range: std::ops::Range<u64>,
    threads: usize,
    failures_max: usize,
    json: bool,
    require_marks: bool,
) -> u8 {
    let started = Instant::now();
    let summary = run_seeds(scenario, range, threads, failures_max);
    let wall = started.elapsed();
    for (seed, violation) in summary.failed.iter().take(failures_max) {
        broken(scenario, *seed, violation.id, &violation.message);
    }
    let unseen: Vec<Mark> = summary.marks.unseen().collect();
    let silent: Vec<Fault> =
        Fault::ALL.iter().copied().filter(|fault| summary.faults.of(*fault) == 0).collect();
    if !json && summary.seeds >= 1000 || require_marks {
        println!("marks reached: {} of {}", Mark::ALL.len() - unseen.len(), Mark::ALL.len());
        for mark in &unseen {
            println!("  not reached: {} ({})", mark.id(), mark.about());
        }
        println!("faults that struck: {} of {}", Fault::ALL.len() - silent.len(), Fault::ALL.len());
        for fault in &silent {
            println!("  silent: {} ({})", fault.id(), fault.about());
        }
    }
    if json {
        println!("{}", as_json(&summary));
    }
    println!(
        "seeds={} failed={} steps={} simulated_s={} wall_s={:.1} faults={} trace_hash={:016x}",
        summary.seeds,
        summary.failed.len(),
        summary.steps,
        summary.simulated / 1_000_000,
        wall.as_secs_f64(),
        summary.faults.total(),
        summary.trace_hash()
    );
    let bad = !summary.failed.is_empty() || require_marks && !(unseen.is_empty() && silent.is_empty());
    if bad { ANSWER_IS_BAD } else { 0 }
}

fn run_seeds(
    scenario: Scenario,
    range: std::ops::Range<u64>,
    threads: usize,
    failures_max: usize,
) -> Summary {
    let next = AtomicU64::new(range.start);
    let failures = AtomicU64::new(0);
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Summary::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= range.end || failures.load(Ordering::Relaxed) >= failures_max as u64 {
                            return mine;
                        }
                        UNDER_WAY.set(Some((scenario, seed)));
                        let report = runner::run(scenario, seed, false);
                        if report.violation.is_some() {
                            failures.fetch_add(1, Ordering::Relaxed);
                        }
                        mine.add(report);
                    }
                })
            })
            .collect();
        for worker in workers {
            summary.merge(worker.join().expect("workers catch the panics of their worlds"));
        }
    });
    summary
}

fn scenario_flag(scenario: Scenario) -> String {
    if scenario == Scenario::Standard { String::new() } else { format!(" --scenario {}", scenario.name()) }
}

fn as_json(summary: &Summary) -> String {
    let faults: Vec<String> =
        Fault::ALL.iter().map(|fault| format!("\"{}\":{}", fault.id(), summary.faults.of(*fault))).collect();
    let marks: Vec<String> =
        Mark::ALL.iter().map(|mark| format!("\"{}\":{}", mark.id(), summary.marks.of(*mark))).collect();
    let failed: Vec<String> = summary
        .failed
        .iter()
        .map(|(seed, violation)| {
            format!("{{\"seed\":{seed},\"id\":\"{}\",\"message\":{:?}}}", violation.id, violation.message)
        })
        .collect();
    format!(
        "{{\"seeds\":{},\"steps\":{},\"simulated_s\":{},\"failed\":[{}],\"faults\":{{{}}},\"marks\":{{{}}}}}",
        summary.seeds,
        summary.steps,
        summary.simulated / 1_000_000,
        failed.join(","),
        faults.join(","),
        marks.join(",")
    )
}

/// Says how a replayed seed ended.
pub(crate) fn replayed(report: &Report) {
    match &report.violation {
        Some(violation) => eprintln!("seed {}: {} {}", report.seed, violation.id, violation.message),
        None => eprintln!("seed {}: everything held", report.seed),
    }
    eprintln!(
        "steps={} simulated_s={} faults={} trace_hash={:016x}",
        report.steps,
        report.simulated / 1_000_000,
        report.faults.total(),
        report.hash
    );
}

/// Lists everything there is.
pub(crate) fn list() {
    println!("Scenarios:");
    for scenario in Scenario::ALL {
        println!("  {:<10} {}", scenario.name(), scenario.about());
    }
    println!("\nFaults ({}):", Fault::ALL.len());
    for fault in Fault::ALL {
        println!("  {:<4} {:?} {}", fault.id(), fault.class(), fault.about());
    }
    println!("\nCheckers ({}):", PROPERTIES.len());
    for (id, about) in PROPERTIES {
        println!("  {id:<9} {about}");
    }
    println!("\nMarks ({}):", Mark::ALL.len());
    for mark in Mark::ALL {
        println!("  {:<32} {}", mark.id(), mark.about());
    }
    println!("\nPlanted bugs ({}):", Planted::ALL.len());
    for planted in Planted::ALL {
        println!("  {:<32} {}", planted.name(), planted.about());
    }
}

/// Hunts planted bugs and prints the table.
pub(crate) fn mutants(seeds: u64, only: Option<&str>, record: bool, threads: usize) -> anyhow::Result<u8> {
    let hunted: Vec<Planted> = Planted::ALL
        .iter()
        .copied()
        .filter(|planted| only.is_none_or(|name| name == planted.name()))
        .collect();
    if hunted.is_empty() {
        return Err(Usage(format!("no planted bug is named {:?}: see `list`", only.unwrap_or(""))).into());
    }
    let next = AtomicU64::new(0);
    let escaped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                loop {
                    let index = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("small");
                    let Some(planted) = hunted.get(index) else { return };
                    let caught = hunt::hunt(*planted, 0..seeds);
                    if caught.is_none() {
                        escaped.store(true, Ordering::Relaxed);
                    }
                    sender.send((index, caught)).expect("the table outlives the hunters");
                }
            });
        }
        drop(sender);
        let mut table: Vec<_> = receiver.iter().collect();
        table.sort_by_key(|(index, _)| *index);
        if !record {
            println!("{:<32} {:>6}  {:<9} message", "planted bug", "seed", "caught by");
        }
        for (index, caught) in table {
            let name = hunted[index].name();
            match caught {
                Some(caught) if record => println!("{name} {} {}", caught.seed, caught.violation.id),
                Some(caught) => {
                    println!(
                        "{name:<32} {:>6}  {:<9} {}",
                        caught.seed, caught.violation.id, caught.violation.message
                    );
                }
                None => println!("{name:<32} {:>6}  {:<9}", "-", "ESCAPED"),
            }
        }
    });
    Ok(if escaped.load(Ordering::Relaxed) { ANSWER_IS_BAD } else { 0 })
}
