//! Every planted bug is caught again by the seed that is recorded for it.

use backbeat_sim::hunt;
use backbeat_sim::mutants::{self, Planted};
use backbeat_sim::scenario::Scenario;

/// One line a bug: its name, the seed, the invariant that breaks. Written by `backbeat-sim mutants --record`.
const KILLING_SEEDS: &str = include_str!("../killing-seeds.txt");

fn recorded() -> Vec<(Planted, u64, &'static str)> {
    let entry = |line: &'static str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [name, seed, id] = fields[..] else { panic!("not a name, a seed and an invariant: {line}") };
        let planted = mutants::named(name).unwrap_or_else(|| panic!("no planted bug is named {name}"));
        (planted, seed.parse().expect("a seed is a number"), id)
    };
    KILLING_SEEDS.lines().map(entry).collect()
}

#[test]
fn every_planted_bug_has_a_killing_seed() {
    let recorded: Vec<Planted> = recorded().into_iter().map(|(planted, ..)| planted).collect();
    assert_eq!(recorded, Planted::ALL);
    assert!(recorded.len() >= 18);
}

#[test]
fn recorded_seeds_kill() {
    for (planted, seed, id) in recorded() {
        let report = hunt::run(planted, Scenario::Standard, seed, false);
        let violation = report.violation.unwrap_or_else(|| panic!("{} escapes seed {seed}", planted.name()));
        assert_eq!(violation.id, id, "{} and seed {seed}: {}", planted.name(), violation.message);
    }
}
