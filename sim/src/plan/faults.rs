//! The faults of one run, and the counters that prove each of them struck.
//!
//! They are drawn swarm style: each fault is absent from a run with probability one half, and where it is present its
//! strength is random. Omission finds bugs that a uniform mixture hides.

use super::{Plan, Strike};
use crate::faults::{Class, Fault, Shape};
use crate::rng::Rng;

/// Number of faults in the catalogue.
const COUNT: usize = Fault::ALL.len();

/// Which faults exist in a run, how strong they are, and when they strike.
///
/// The strength of a fault is zero where it is absent. Where a plan lists the strikes, it is the measure of a fault that holds for
/// the whole run, and one for any other that is listed.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    strength: [u32; COUNT],
    /// Off in the liveness phase.
    active: bool,
    strikes: Strikes,
    /// The last opportunity that each fault had, and how many of that moment it let pass before.
    passed: Box<[(u64, u32); COUNT]>,
}

/// When faults strike.
#[derive(Clone, Debug)]
enum Strikes {
    /// Drawn at each opportunity.
    Drawn(Rng),
    /// Listed for each fault, the next one last.
    Listed(Vec<Vec<Strike>>),
}

impl FaultPlan {
    /// A run without any fault.
    pub fn calm() -> Self {
        Self {
            strength: [0; COUNT],
            active: true,
            strikes: Strikes::Listed(Vec::new()),
            passed: Box::new([(u64::MAX, 0); COUNT]),
        }
    }

    /// Draws which faults exist and how strong they are; when they strike is drawn later.
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut plan = Self::calm();
        plan.strikes = Strikes::Drawn(rng.child("strikes"));
        for &fault in Fault::ALL {
            let (present, draw) = (rng.coin(), rng.below(u64::from(fault.strength_max())));
            if present && fault.class() == Class::Contract {
                plan.strength[fault.index()] = 1 + u32::try_from(draw).expect("below a 32 bit limit");
            }
        }
        plan
    }

    /// What a plan lists.
    pub fn listed(plan: &Plan) -> Self {
        let mut faults = Self::calm();
        let mut strikes = vec![Vec::new(); COUNT];
        for (fault, measure) in &plan.measures {
            faults.strength[fault.index()] = *measure;
        }
        for strike in plan.strikes.iter().rev() {
            faults.strength[strike.fault.index()] = 1;
            strikes[strike.fault.index()].push(*strike);
        }
        faults.strikes = Strikes::Listed(strikes);
        faults
    }

    /// An opportunity for a fault that strikes single requests or at ticks: whether it strikes, and if so, how.
    #[expect(clippy::inline_always, reason = "it has one caller, which is asked three times a step")]
    #[inline(always)]
    pub fn meets(&mut self, fault: Fault, now: u64) -> Option<Strike> {
        let index = fault.index();
        let strength = self.strength(fault);
        if strength == 0 {
            return None;
        }
        let (last, passed) = &mut self.passed[index];
        if *last == now {
            *passed += 1;
        } else {
            (*last, *passed) = (now, 0);
        }
        let skip = *passed;
        match &mut self.strikes {
            Strikes::Drawn(rng) => rng.chance(strength).then(|| {
                let roll = u32::try_from(rng.bits() >> 32).expect("32 bits");
                Strike { at: now, skip, fault, roll }
            }),
            Strikes::Listed(strikes) => {
                let next = strikes[index].last()?;
                let due = next.at < now || (next.at == now && next.skip <= skip);
                if due { strikes[index].pop().map(|strike| Strike { at: now, skip, ..strike }) } else { None }
            }
        }
    }

    /// Measures of the faults that hold for the whole run.
    pub fn measures(&self) -> Vec<(Fault, u32)> {
        let held = Fault::ALL.iter().filter(|fault| fault.shape() == Shape::Run && self.has(**fault));
        held.map(|fault| (*fault, self.strength[fault.index()])).collect()
    }

    /// The strength of `fault` now: zero when absent or when faults have stopped.
    #[inline]
    pub fn strength(&self, fault: Fault) -> u32 {
        if self.active { self.strength[fault.index()] } else { 0 }
    }

    /// Whether `fault` exists in this run, stopped or not.
    pub fn has(&self, fault: Fault) -> bool {
        self.strength[fault.index()] > 0
    }

    /// Ends the safety phase: nothing strikes any more.
    pub fn stop(&mut self) {
        self.active = false;
    }

    /// Whether faults strike.
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Sets the strength of one fault (scenarios and tests).
    pub fn set(&mut self, fault: Fault, strength: u32) {
        self.strength[fault.index()] = strength;
    }

    /// Whether the run has no faults at all.
    pub fn is_calm(&self) -> bool {
        self.strength.iter().all(|strength| *strength == 0)
    }
}

/// How often each fault struck.
#[derive(Clone, Debug)]
pub struct FaultCounters([u64; COUNT]);

impl Default for FaultCounters {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl FaultCounters {
    /// Counts one strike.
    pub fn count(&mut self, fault: Fault) {
        self.0[fault.index()] += 1;
    }

    /// How often `fault` struck.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault.index()]
    }

    /// All strikes.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds the counters of another run.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_faults_are_absent() {
        let mut rng = Rng::new(3);
        let present: usize = (0..100)
            .map(|_| {
                let plan = FaultPlan::swarm(&mut rng);
                Fault::ALL.iter().filter(|fault| plan.has(**fault)).count()
            })
            .sum();
        let share = present * 100 / (Fault::ALL.len() * 100);
        assert!((40..60).contains(&share), "{share} of 100");
    }

    #[test]
    fn a_listed_fault_strikes_at_the_first_opportunity_after_its_time() {
        let mut plan = crate::runner::run(crate::scenario::Scenario::Calm, 1, false).plan;
        let strike = |at, skip| Strike { at, skip, fault: Fault::RequestLost, roll: 7 };
        plan.strikes = vec![strike(100, 1), strike(150, 0)];
        let mut faults = FaultPlan::listed(&plan);
        assert_eq!(faults.meets(Fault::RequestLost, 99), None);
        assert_eq!(faults.meets(Fault::RequestLost, 100), None, "one opportunity is let pass");
        assert_eq!(faults.meets(Fault::RequestLost, 100), Some(strike(100, 1)));
        assert_eq!(faults.meets(Fault::RequestLost, 170), Some(strike(170, 0)));
        assert_eq!(faults.meets(Fault::RequestLost, 171), None);
        assert_eq!(faults.meets(Fault::RequestDoubled, 100), None);
    }

    #[test]
    fn stopped_faults_have_no_strength() {
        let mut plan = FaultPlan::calm();
        plan.set(Fault::Pause, 7);
        assert_eq!(plan.strength(Fault::Pause), 7);
        plan.stop();
        assert_eq!(plan.strength(Fault::Pause), 0);
        assert!(plan.has(Fault::Pause));
    }
}
