//! Seeds of the standard scenario: fresh ones, and those that once found a bug.

use backbeat_sim::faults::Fault;
use backbeat_sim::marks::Mark;
use backbeat_sim::runner::{self, Summary};
use backbeat_sim::scenario::Scenario;

fn run(scenario: Scenario, seeds: impl IntoIterator<Item = u64>) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        summary.add(runner::run(scenario, seed, false));
    }
    summary
}

fn assert_held(summary: &Summary) {
    assert!(summary.failed.is_empty(), "{:?}", summary.failed);
}

/// Seeds that an unoptimised build has time for are fewer.
const SEEDS: u64 = if cfg!(debug_assertions) { 20 } else { 200 };

#[test]
fn standard_seeds_hold() {
    assert_held(&run(Scenario::Standard, 0..SEEDS));
}

#[test]
fn other_scenarios_hold() {
    assert_held(&run(Scenario::Calm, 0..SEEDS / 10));
    assert_held(&run(Scenario::Small, 0..SEEDS));
    assert_held(&run(Scenario::Wide, 0..SEEDS / 20));
    assert_held(&run(Scenario::Minting, 0..SEEDS));
}

/// What these seeds found when they failed: a message absorbed by a copy that waited (30), an outcome recorded on a revision of
/// the same content (467, 808), a status written on a replica (263), a version parked without anybody to try it again (1793),
/// a timer that fired without end (37), data deleted under a write that came twice (750).
#[test]
fn seeds_that_found_bugs_hold() {
    assert_held(&run(
        Scenario::Standard,
        [30, 37, 69, 263, 425, 467, 513, 750, 808, 1003, 1108, 1793, 2780, 2915, 5929],
    ));
    assert_held(&run(Scenario::Calm, [37]));
}

/// Every fault strikes and every mark is reached: the world has teeth. Only an optimised build has the time.
#[cfg(not(debug_assertions))]
#[test]
fn every_fault_strikes_and_every_mark_is_reached() {
    let summary = std::thread::scope(|scope| {
        let workers: Vec<_> = [1_000..1_450, 1_450..1_900]
            .into_iter()
            .map(|seeds| scope.spawn(|| run(Scenario::Standard, seeds)))
            .collect();
        workers.into_iter().fold(Summary::default(), |mut all, worker| {
            all.merge(worker.join().expect("worlds do not panic"));
            all
        })
    });
    assert_held(&summary);
    let silent: Vec<&str> =
        Fault::ALL.iter().filter(|fault| summary.faults.of(**fault) == 0).map(|fault| fault.id()).collect();
    assert!(silent.is_empty(), "faults that never struck: {silent:?}");
    let unseen: Vec<&str> = summary.marks.unseen().map(Mark::id).collect();
    assert!(unseen.is_empty(), "marks that were not reached: {unseen:?}");
}
