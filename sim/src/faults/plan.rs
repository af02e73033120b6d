//! The faults of one run and how often each of them struck.

use super::catalogue::{Class, Fault};
use crate::rng::Rng;

/// Number of faults in the catalogue.
const COUNT: usize = Fault::ALL.len();

/// Which faults exist in a run and how strong they are; zero means absent.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    strength: [u32; COUNT],
    /// Off in the liveness phase.
    active: bool,
}

impl FaultPlan {
    /// A run without any fault.
    pub fn calm() -> Self {
        Self { strength: [0; COUNT], active: true }
    }

    /// Draws which faults exist and how strong they are.
    pub fn swarm(rng: &mut Rng) -> Self {
        let mut plan = Self::calm();
        for &fault in Fault::ALL {
            let (present, draw) = (rng.coin(), rng.below(u64::from(fault.strength_max())));
            if present && fault.class() == Class::Contract {
                plan.strength[fault.index()] = 1 + u32::try_from(draw).expect("below a 32 bit limit");
            }
        }
        plan
    }

    /// The strength of `fault` now: zero when absent or when faults have stopped.
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
    fn stopped_faults_have_no_strength() {
        let mut plan = FaultPlan::calm();
        plan.set(Fault::Pause, 7);
        assert_eq!(plan.strength(Fault::Pause), 7);
        plan.stop();
        assert_eq!(plan.strength(Fault::Pause), 0);
        assert!(plan.has(Fault::Pause));
    }
}
