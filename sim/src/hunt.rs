//! Runs with a planted bug, and the hunt for the first seed that catches it.

use std::ops::Range;

use crate::checkers::Violation;
use crate::mutants::Planted;
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::world::{Course, Report, World};

/// How a planted bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The first seed that catches it.
    pub seed: u64,
    /// The invariant that broke.
    pub violation: Violation,
}

/// Runs one seed with a planted bug.
pub fn run(planted: Planted, scenario: Scenario, seed: u64, text: bool) -> Report {
    World::run(&Course::Drawn(scenario, seed), planted, text)
}

/// Runs a plan with a planted bug.
pub fn run_plan(planted: Planted, plan: &Plan, text: bool) -> Report {
    World::run(&Course::Listed(plan), planted, text)
}

/// The first seed of `seeds` that catches the bug.
pub fn hunt(planted: Planted, mut seeds: Range<u64>) -> Option<Caught> {
    seeds.find_map(|seed| {
        let violation = run(planted, Scenario::Standard, seed, false).violation?;
        Some(Caught { seed, violation })
    })
}
