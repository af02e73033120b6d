//! Shrinks a failing run: fewer faults, fewer operations, a smaller world, the same broken invariant.
//!
//! Delta debugging over a recorded plan. A candidate counts if it breaks the same invariant. Because everything left in a plan
//! keeps its time and its details, most of what does not matter can go in large pieces; a candidate that holds is tried with a few other
//! seeds for the latencies before it is given up, with more of them once nothing else helps. What a successful candidate did not get round to before the invariant broke is gone
//! with it. The search ends when no step makes the plan smaller, or when it has run as often as it may.

use std::collections::BTreeSet;

use backbeat_core::request::minting::TargetKind;

use crate::checkers::Violation;
use crate::faults::Fault;
use crate::ids::{ProcId, SiteId};
use crate::plan::{Act, Broken, Operation, Plan, Put};
use crate::scenario::{SECOND, key_names, site_names};
use crate::world::Report;

/// Other seeds for latencies that a candidate is tried with, in the first round and in the last one.
const LATENCIES: u64 = 2;
const LATENCIES_MAX: u64 = 32;

/// A shrunk run.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// What it breaks.
    pub violation: Violation,
    /// Runs that it took.
    pub runs: u32,
}

struct Search<'a> {
    run: &'a mut dyn FnMut(&Plan) -> Report,
    id: &'static str,
    best: Plan,
    violation: Violation,
    /// Seeds for latencies that a candidate is tried with.
    latencies: u64,
    runs: u32,
    runs_max: u32,
}

/// Shrinks `plan`, whose run by `run` breaks an invariant; `None` if it does not. At most `runs_max` runs are spent.
pub fn shrink(plan: &Plan, runs_max: u32, run: &mut dyn FnMut(&Plan) -> Report) -> Option<Shrunk> {
    let report = run(plan);
    let violation = report.violation?;
    let mut search = Search {
        run,
        id: violation.id,
        best: report.plan,
        violation,
        latencies: LATENCIES,
        runs: 1,
        runs_max,
    };
    loop {
        let before = search.weight();
        search.drop_fault_kinds();
        search.reduce_world();
        search.drop_strikes();
        search.drop_operations();
        search.merge_keys();
        search.simplify_operations();
        search.shorten();
        if search.is_spent() {
            break;
        }
        if search.weight() >= before {
            if search.latencies >= LATENCIES_MAX {
                break;
            }
            search.latencies *= 4;
        }
    }
    search.renumber();
    Some(Shrunk { plan: search.best, violation: search.violation, runs: search.runs })
}

/// Removes pieces of `list`, large ones first and single items last. `leave` says what is left of the rest, if the rest will do.
fn without_pieces<T: Clone>(mut list: Vec<T>, mut leave: impl FnMut(&[T]) -> Option<Vec<T>>) {
    let mut piece = list.len();
    while piece > 0 {
        let mut end = list.len();
        while end > 0 {
            // From the end: what comes late is needed least.
            let from = end.saturating_sub(piece);
            let rest: Vec<T> = list[..from].iter().chain(&list[end..]).cloned().collect();
            if let Some(left) = leave(&rest) {
                list = left;
            }
            end = from.min(list.len());
        }
        piece /= 2;
    }
}

impl Search<'_> {
    fn is_spent(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// What is to become small: first what happens, then the world in which it does, then how long it takes.
    fn weight(&self) -> (usize, usize, u64) {
        let plan = &self.best;
        let shape = &plan.shape;
        let counts = [
            shape.partitions as usize,
            shape.processes(),
            shape.keys.len(),
            plan.measures.len(),
            usize::from(plan.broken != Broken::Nothing),
            plan.operations.iter().filter(|operation| operation.act != Act::Put(Put::Whole)).count(),
        ];
        (plan.size(), counts.iter().sum(), plan.heal_at)
    }

    /// Takes `change` if the changed plan breaks the same invariant.
    fn attempt(&mut self, change: impl FnOnce(&mut Plan)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        candidate.normalise();
        if candidate == self.best {
            return false;
        }
        let first = candidate.latencies;
        for alternative in 0..=self.latencies {
            if self.is_spent() {
                return false;
            }
            if alternative > 0 {
                candidate.latencies = first.wrapping_mul(31).wrapping_add(alternative) % 1_000_000;
            }
            self.runs += 1;
            let report = (self.run)(&candidate);
            if let Some(violation) = report.violation.filter(|violation| violation.id == self.id) {
                self.best = report.plan;
                self.violation = violation;
                return true;
            }
        }
        false
    }

    fn drop_fault_kinds(&mut self) {
        self.attempt(|plan| plan.strikes.clear());
        for &fault in Fault::ALL {
            let listed = self.best.strikes.iter().any(|strike| strike.fault == fault)
                || self.best.measures.iter().any(|(known, _)| *known == fault);
            if listed {
                self.attempt(|plan| {
                    plan.strikes.retain(|strike| strike.fault != fault);
                    plan.measures.retain(|(known, _)| *known != fault);
                });
            }
        }
    }

    fn reduce_world(&mut self) {
        self.attempt(|plan| plan.broken = Broken::Nothing);
        let mut site = self.best.shape.kinds.len();
        while site > 1 {
            site -= 1;
            if self.best.shape.kinds.len() > 1 {
                self.attempt(|plan| remove_site(plan, site));
            }
        }
        for processors in 1..self.best.shape.processors {
            if self.attempt(|plan| plan.shape.processors = processors) {
                break;
            }
        }
        for partitions in 1..self.best.shape.partitions {
            if self.attempt(|plan| plan.shape.partitions = partitions) {
                break;
            }
        }
        self.attempt(|plan| plan.shape.wire = false);
        self.attempt(|plan| plan.shape.replays = false);
        self.attempt(|plan| plan.shape.repeats = false);
        self.attempt(|plan| plan.shape.nulls = false);
        self.attempt(|plan| plan.shape.source_compares = true);
        self.attempt(|plan| plan.shape.marks_changes = false);
        self.attempt(|plan| plan.shape.kinds.fill(TargetKind::KeepsVersions));
        self.attempt(|plan| plan.shape.latency_max = 1_000);
    }

    fn drop_strikes(&mut self) {
        without_pieces(self.best.strikes.clone(), |rest| {
            self.attempt(|plan| plan.strikes = rest.to_vec()).then(|| self.best.strikes.clone())
        });
    }

    fn drop_operations(&mut self) {
        without_pieces(self.best.fresh.clone(), |rest| {
            self.attempt(|plan| plan.fresh = rest.to_vec()).then(|| self.best.fresh.clone())
        });
        without_pieces(self.best.operations.clone(), |rest| {
            self.attempt(|plan| plan.operations = rest.to_vec()).then(|| self.best.operations.clone())
        });
    }

    fn merge_keys(&mut self) {
        let used: BTreeSet<u16> = every(&self.best).map(|operation| operation.key.0).collect();
        let count = u64::try_from(used.len().max(1)).expect("few keys");
        for keys in 1..=count {
            // The used ones get the lowest numbers; beyond `keys` they are merged.
            let numbers: Vec<u16> = used.iter().copied().collect();
            let merged = self.attempt(|plan| {
                for operation in plan.operations.iter_mut().chain(&mut plan.fresh) {
                    let place = numbers.binary_search(&operation.key.0).expect("collected above");
                    let limit = usize::try_from(keys).expect("few keys");
                    operation.key.0 = u16::try_from(place % limit).expect("few keys");
                }
                plan.shape.keys = key_names(keys);
            });
            if merged {
                return;
            }
        }
    }

    fn simplify_operations(&mut self) {
        for index in 0..self.best.operations.len() {
            let Some(operation) = self.best.operations.get(index) else { return };
            if operation.act != Act::Put(Put::Whole) {
                self.attempt(|plan| plan.operations[index].act = Act::Put(Put::Whole));
            }
        }
    }

    /// Less time: before the faults stop, and between what happens.
    fn shorten(&mut self) {
        let last = |plan: &Plan| {
            let operation = plan.operations.last().map_or(0, |operation| operation.at);
            operation.max(plan.strikes.last().map_or(0, |strike| strike.at))
        };
        let end = last(&self.best) + SECOND;
        if end < self.best.heal_at {
            self.attempt(|plan| plan.heal_at = end);
        }
        let mut times: Vec<u64> = self.best.operations.iter().map(|operation| operation.at).collect();
        times.extend(self.best.strikes.iter().map(|strike| strike.at));
        // The processes start within the first second.
        times.push(0);
        times.sort_unstable();
        times.dedup();
        // Gaps of more than two seconds become one second, the last one first: everything after a gap comes earlier.
        for pair in times.windows(2).rev() {
            let [before, after] = *pair else { continue };
            if after - before <= 2 * SECOND {
                continue;
            }
            let gain = after - before - SECOND;
            self.attempt(|plan| {
                let earlier = |at: &mut u64| {
                    if *at >= after {
                        *at -= gain;
                    }
                };
                plan.operations.iter_mut().for_each(|operation| earlier(&mut operation.at));
                plan.strikes.iter_mut().for_each(|strike| earlier(&mut strike.at));
                earlier(&mut plan.heal_at);
            });
        }
    }

    /// Small numbers read better.
    fn renumber(&mut self) {
        for index in 0..self.best.strikes.len() {
            for roll in 0..4 {
                let Some(strike) = self.best.strikes.get(index) else { return };
                if strike.roll < 4 || self.attempt(|plan| plan.strikes[index].roll = roll) {
                    break;
                }
            }
        }
    }
}

fn every(plan: &Plan) -> impl Iterator<Item = &Operation> {
    plan.operations.iter().chain(&plan.fresh)
}

fn remove_site(plan: &mut Plan, site: usize) {
    plan.shape.kinds.remove(site);
    plan.shape.sites = site_names(plan.shape.kinds.len());
    plan.broken = match plan.broken {
        Broken::Site(SiteId(broken)) if usize::from(broken) == site => Broken::Nothing,
        Broken::Site(SiteId(broken)) if usize::from(broken) > site => Broken::Site(SiteId(broken - 1)),
        Broken::Process(ProcId(process)) => {
            let last = u8::try_from(plan.shape.processes() - 1).expect("few processes");
            Broken::Process(ProcId(process.min(last)))
        }
        broken @ (Broken::Nothing | Broken::Site(_)) => broken,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_go_until_only_what_is_needed_is_left() {
        let mut left = Vec::new();
        without_pieces((0..100).collect(), |rest| {
            let needed = [3, 50, 99].iter().all(|item| rest.contains(item));
            if needed {
                left = rest.to_vec();
            }
            needed.then(|| rest.to_vec())
        });
        assert_eq!(left, [3, 50, 99]);
    }

    #[test]
    fn a_run_that_holds_is_not_shrunk() {
        let plan = crate::runner::run(crate::scenario::Scenario::Small, 1, false).plan;
        assert!(shrink(&plan, 10, &mut |plan| crate::runner::run_plan(plan, false)).is_none());
    }
}
