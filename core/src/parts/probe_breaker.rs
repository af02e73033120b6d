//! The breaker of upstream: probes are evaluated in intervals, and consumption pauses while one of them is unhealthy
//! (replication reference 10.6). What a probe measures is the driver's.

use crate::time::{Instant, Span};

/// How often probes are evaluated, and how many healthy evaluations end a trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeBreakerPolicy {
    /// Time between evaluations while nominal.
    pub nominal_interval: Span,
    /// Time between evaluations while stabilizing.
    pub stabilizing_interval: Span,
    /// Time between evaluations while tripped.
    pub tripped_interval: Span,
    /// Healthy evaluations in a row needed to become nominal. The one that ends the trip counts, and never suffices.
    pub stabilize_after_successes: u32,
}

impl Default for ProbeBreakerPolicy {
    fn default() -> Self {
        Self {
            nominal_interval: Span::from_secs(60),
            stabilizing_interval: Span::from_secs(60),
            tripped_interval: Span::from_secs(60),
            stabilize_after_successes: 2,
        }
    }
}

/// The state of the breaker. Its number is the value of upstream's gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeBreakerState {
    /// All probes are healthy: consume.
    Nominal = 0,
    /// All probes are healthy again, for too short a time: stay as you are.
    Stabilizing = 1,
    /// A probe is unhealthy: pause.
    Tripped = 2,
}

impl ProbeBreakerState {
    /// The value of the gauge: 0, 1 or 2.
    pub const fn gauge(self) -> u8 {
        self as u8
    }
}

/// A breaker fed by the evaluation of probes.
#[derive(Clone, Debug)]
pub struct ProbeBreaker {
    policy: ProbeBreakerPolicy,
    state: ProbeBreakerState,
    successes: u32,
    next_evaluation: Instant,
}

impl ProbeBreaker {
    /// A nominal breaker, to be evaluated for the first time one interval from now.
    pub fn new(policy: ProbeBreakerPolicy, now: Instant) -> Self {
        let next_evaluation = now + policy.nominal_interval;
        Self { policy, state: ProbeBreakerState::Nominal, successes: 0, next_evaluation }
    }

    /// Takes in one evaluation: whether all probes are healthy. Returns the new state if it changed.
    pub fn evaluated(&mut self, now: Instant, all_healthy: bool) -> Option<ProbeBreakerState> {
        let before = self.state;
        self.state = match (before, all_healthy) {
            (_, false) => ProbeBreakerState::Tripped,
            (ProbeBreakerState::Nominal, true) => ProbeBreakerState::Nominal,
            (ProbeBreakerState::Tripped, true) => {
                self.successes = 1;
                ProbeBreakerState::Stabilizing
            }
            (ProbeBreakerState::Stabilizing, true) => {
                self.successes = self.successes.saturating_add(1);
                if self.successes >= self.policy.stabilize_after_successes {
                    ProbeBreakerState::Nominal
                } else {
                    ProbeBreakerState::Stabilizing
                }
            }
        };
        self.next_evaluation = now
            + match self.state {
                ProbeBreakerState::Nominal => self.policy.nominal_interval,
                ProbeBreakerState::Stabilizing => self.policy.stabilizing_interval,
                ProbeBreakerState::Tripped => self.policy.tripped_interval,
            };
        (self.state != before).then_some(self.state)
    }

    /// When the probes are to be evaluated next.
    pub const fn next_evaluation(&self) -> Instant {
        self.next_evaluation
    }

    /// The state.
    pub const fn state(&self) -> ProbeBreakerState {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProbeBreakerState::{Nominal, Stabilizing, Tripped};
    use proptest::prelude::*;

    fn states(successes: u32, evaluations: &[bool]) -> Vec<ProbeBreakerState> {
        let policy =
            ProbeBreakerPolicy { stabilize_after_successes: successes, ..ProbeBreakerPolicy::default() };
        let mut breaker = ProbeBreaker::new(policy, Instant::START);
        let evaluate = |&healthy: &bool| {
            let before = breaker.state();
            let now = breaker.next_evaluation();
            let changed = breaker.evaluated(now, healthy);
            assert_eq!(changed, (breaker.state() != before).then(|| breaker.state()));
            breaker.state()
        };
        evaluations.iter().map(evaluate).collect()
    }

    #[test]
    fn trips_at_once_and_recovers_after_enough_healthy_evaluations() {
        assert_eq!(
            states(2, &[true, false, true, true, true]),
            [Nominal, Tripped, Stabilizing, Nominal, Nominal]
        );
        assert_eq!(states(3, &[false, true, true, true]), [Tripped, Stabilizing, Stabilizing, Nominal]);
    }

    #[test]
    fn one_unhealthy_evaluation_while_stabilizing_starts_over() {
        assert_eq!(
            states(2, &[false, true, false, true, true]),
            [Tripped, Stabilizing, Tripped, Stabilizing, Nominal]
        );
    }

    #[test]
    fn recovery_always_passes_through_stabilizing() {
        assert_eq!(states(1, &[false, true, true]), [Tripped, Stabilizing, Nominal]);
    }

    #[test]
    fn each_state_has_its_interval_and_its_gauge() {
        let policy = ProbeBreakerPolicy {
            nominal_interval: Span::from_secs(1),
            stabilizing_interval: Span::from_secs(2),
            tripped_interval: Span::from_secs(3),
            stabilize_after_successes: 2,
        };
        let mut breaker = ProbeBreaker::new(policy, Instant::START);
        let mut seen = vec![(breaker.state().gauge(), breaker.next_evaluation().since(Instant::START))];
        for healthy in [false, true, true] {
            breaker.evaluated(Instant::START, healthy);
            seen.push((breaker.state().gauge(), breaker.next_evaluation().since(Instant::START)));
        }
        let seconds = [(0, 1), (2, 3), (1, 2), (0, 1)].map(|(gauge, secs)| (gauge, Span::from_secs(secs)));
        assert_eq!(seen, seconds);
    }

    proptest! {
        /// The state is a function of how long the last run of healthy evaluations is and whether any was unhealthy.
        #[test]
        fn agrees_with_the_history(successes in 1u32..5, history in prop::collection::vec(any::<bool>(), 1..40)) {
            let run = history.iter().rev().take_while(|&&healthy| healthy).count();
            let expected = match run {
                _ if run == history.len() => Nominal,
                0 => Tripped,
                _ if run >= (successes as usize).max(2) => Nominal,
                _ => Stabilizing,
            };
            prop_assert_eq!(states(successes, &history).pop(), Some(expected));
        }
    }
}
