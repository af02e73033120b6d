//! A run written out: the shape of its world, every operation of the clients, every strike of a fault.
//!
//! A seed draws all of this while it runs; what it drew is recorded, and the recorded plan runs exactly the same. Plans are
//! what shrinking works on ([`crate::shrink`]), what a file holds ([`text`]) and what a fuzzer's bytes stand for ([`bytes`]).
//! What stays drawn are latencies, from a seed of their own, so that taking one strike out of a plan does not shuffle all
//! others.

mod acts;
pub mod bytes;
mod faults;
pub mod text;

pub use acts::{Change, NullOrigin, Put};
pub use faults::{FaultCounters, FaultPlan};

use backbeat_core::request::minting::TargetKind;

use crate::faults::Fault;
use crate::ids::{KeyId, ProcId, SiteId};
use crate::rng::Rng;
use crate::scenario::Shape;

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What configurations, clocks and old objects are drawn from.
    pub seed: u64,
    /// What latencies are drawn from.
    pub latencies: u64,
    /// The shape of the world.
    pub shape: Shape,
    /// When faults stop, in microseconds. Of the operations after it clients get round to the first one only.
    pub heal_at: u64,
    /// What stays broken then.
    pub broken: Broken,
    /// Measures of the faults that hold for the whole run.
    pub measures: Vec<(Fault, u32)>,
    /// What clients do, in order.
    pub operations: Vec<Operation>,
    /// What clients do once everything has its ending; times count from there.
    pub fresh: Vec<Operation>,
    /// Faults that strike, in order.
    pub strikes: Vec<Strike>,
}

/// What stays broken when faults stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nothing.
    Nothing,
    /// A target site.
    Site(SiteId),
    /// A process.
    Process(ProcId),
}

impl Broken {
    /// Draws what stays broken: a site in a quarter of the runs, a process in another quarter.
    pub(crate) fn draw(rng: &mut Rng, sites: usize, processes: usize) -> Self {
        match rng.below(4) {
            0 if sites > 1 => Self::Site(SiteId(u8::try_from(rng.index(sites)).expect("few sites"))),
            1 => Self::Process(ProcId(u8::try_from(rng.index(processes)).expect("few processes"))),
            _ => Self::Nothing,
        }
    }
}

/// One client operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// When, in microseconds since its phase began.
    pub at: u64,
    /// The key.
    pub key: KeyId,
    /// What.
    pub act: Act,
}

/// What a client does to a key. A change or deletion of a key that holds nothing is a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It puts a version.
    Put(Put),
    /// It changes the version so many places before the latest one.
    Change(u32, Change),
    /// It deletes the version so many places before the latest one.
    Delete(u32),
}

/// One strike of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// It strikes at the first opportunity from here on, in microseconds.
    pub at: u64,
    /// So many opportunities at exactly that moment are let pass.
    pub skip: u32,
    /// The fault.
    pub fault: Fault,
    /// What the details are drawn from: whom it strikes, how long it lasts.
    pub roll: u32,
}

impl Plan {
    /// Takes out what the world's contract does not allow together (`docs/simulation.md`), and what names something that is not
    /// there.
    pub fn normalise(&mut self) {
        let shape = &mut self.shape;
        if shape.nulls || !shape.source_compares {
            // One or the other: what was overwritten comes back only where targets keep version ids, and so do null versions.
            shape.kinds.fill(TargetKind::KeepsVersions);
        }
        let mints = shape.kinds.iter().any(|kind| *kind != TargetKind::KeepsVersions);
        shape.marks_changes &= !mints;
        if mints || !shape.source_compares {
            self.strikes.retain(|strike| !matches!(strike.fault, Fault::JournalCut | Fault::JournalReplaced));
        }
        if !shape.marks_changes {
            shape.repeats &= !self.strikes.iter().any(|strike| LATE.contains(&strike.fault));
        }
        let (sites, processes) = (shape.kinds.len(), shape.processes());
        match self.broken {
            Broken::Site(site) if sites < 2 || site.index() >= sites => self.broken = Broken::Nothing,
            Broken::Process(process) if process.index() >= processes => self.broken = Broken::Nothing,
            // Somebody else has to take over.
            Broken::Process(process)
                if shape.processors < 2 && (2..processes - 2).contains(&process.index()) =>
            {
                self.broken = Broken::Nothing;
            }
            Broken::Site(_) | Broken::Process(_) | Broken::Nothing => {}
        }
        let keys = u16::try_from(shape.keys.len()).expect("few keys");
        for operation in self.operations.iter_mut().chain(&mut self.fresh) {
            operation.key.0 %= keys;
        }
    }

    /// How large it is: operations and strikes.
    pub fn size(&self) -> usize {
        self.operations.len() + self.fresh.len() + self.strikes.len()
    }
}

/// With these a write may be under way for long. No tag of a state tells apart two states of the same content, so where clients
/// write the same content again and the source does not mark changes, they must not strike.
pub(crate) const LATE: [Fault; 4] =
    [Fault::LateDuplicate, Fault::DelaySpike, Fault::RequestDoubled, Fault::Clogged];

/// What clients do next: drawn as it comes, or listed.
#[derive(Debug)]
pub(crate) enum Workload {
    /// Drawn from a seed.
    Drawn(Rng),
    /// Listed in a plan, the next one last.
    Listed(Vec<Operation>),
}

impl Workload {
    /// What a plan lists.
    pub(crate) fn listed(operations: &[Operation]) -> Self {
        Self::Listed(operations.iter().rev().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner;
    use crate::scenario::Scenario;

    #[test]
    fn a_recorded_plan_runs_as_its_seed_did() {
        for (scenario, seeds) in
            [(Scenario::Standard, 0..12), (Scenario::Small, 0..12), (Scenario::Minting, 0..4)]
        {
            for seed in seeds {
                let drawn = runner::run(scenario, seed, false);
                let listed = runner::run_plan(&drawn.plan, false);
                assert_eq!(drawn.hash, listed.hash, "{} {seed}", scenario.name());
                assert!(drawn.plan == listed.plan, "{} {seed}", scenario.name());
            }
        }
    }

    #[test]
    fn what_the_contract_does_not_allow_is_taken_out() {
        let mut plan = runner::run(Scenario::Small, 3, false).plan;
        plan.shape.source_compares = false;
        plan.shape.kinds = vec![TargetKind::MintsVersions { conditional: true }];
        plan.broken = Broken::Process(ProcId(2));
        plan.shape.processors = 1;
        plan.strikes.push(Strike { at: 0, skip: 0, fault: Fault::JournalCut, roll: 0 });
        plan.normalise();
        assert_eq!(plan.shape.kinds, [TargetKind::KeepsVersions]);
        assert_eq!(plan.broken, Broken::Nothing);
        assert!(plan.strikes.iter().all(|strike| strike.fault != Fault::JournalCut));
        plan.broken = Broken::Site(SiteId(0));
        plan.normalise();
        assert_eq!(plan.broken, Broken::Nothing, "the only site has to live");
    }
}
