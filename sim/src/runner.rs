//! Runs seeds: one world each, with the right rules or with a planted bug.

use backbeat_core::rules::Production;

use crate::checkers::Violation;
use crate::marks::Marks;
use crate::plan::{FaultCounters, Plan};
use crate::scenario::Scenario;
use crate::world::{Course, Report, World};

/// What several seeds came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// Seeds that broke an invariant, with the first invariant broken.
    pub failed: Vec<(u64, Violation)>,
    /// `handle` calls of machines.
    pub steps: u64,
    /// Virtual time in microseconds.
    pub simulated: u64,
    /// How often each fault struck.
    pub faults: FaultCounters,
    /// How often each mark was reached.
    pub marks: Marks,
    /// Per-seed trace hashes in seed order.
    pub hashes: Vec<(u64, u64)>,
}

impl Summary {
    /// Adds one seed.
    pub fn add(&mut self, report: Report) {
        self.seeds += 1;
        self.steps += report.steps;
        self.simulated += report.simulated;
        self.faults.add(&report.faults);
        self.marks.add(&report.marks);
        self.hashes.push((report.seed, report.hash));
        if let Some(violation) = report.violation {
            self.failed.push((report.seed, violation));
        }
    }

    /// Adds what another worker did.
    pub fn merge(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.simulated += other.simulated;
        self.faults.add(&other.faults);
        self.marks.add(&other.marks);
        self.hashes.extend(other.hashes);
        self.failed.extend(other.failed);
        self.hashes.sort_unstable();
        self.failed.sort_by_key(|(seed, _)| *seed);
    }

    /// The hash over all seeds, in seed order.
    pub fn trace_hash(&self) -> u64 {
        crate::trace::fold(self.hashes.iter().map(|(_, hash)| *hash))
    }
}

/// Runs one seed of the engine as shipped.
pub fn run(scenario: Scenario, seed: u64, text: bool) -> Report {
    World::run(&Course::Drawn(scenario, seed), Production, text)
}

/// Runs a plan with the engine as shipped.
pub fn run_plan(plan: &Plan, text: bool) -> Report {
    World::run(&Course::Listed(plan), Production, text)
}
