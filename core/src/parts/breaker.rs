//! A breaker for one target: it stops asking a target that does not answer, and asks once in a while whether it is
//! back.
//!
//! Only unavailability counts as a failure. A refusal that is about the request (not found, denied, conflict) proves
//! that the target is there, and counts as a success.

use crate::time::{Instant, Span};

/// When a breaker opens, how long it stays open, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// This many failures in a row open it.
    pub failures_to_open: u32,
    /// This many probes in a row that succeed close it.
    pub successes_to_close: u32,
    /// How long it stays open the first time. Doubles every time a probe fails.
    pub reopen_delay_min: Span,
    /// How long it stays open at most.
    pub reopen_delay_max: Span,
    /// A probe of which nothing was heard for this long has failed.
    pub probe_timeout: Span,
}

impl Default for BreakerPolicy {
    /// Opens after 10 failures, for 1 second up to 1 minute, closes after 2 successes; probes have 30 seconds.
    fn default() -> Self {
        Self {
            failures_to_open: 10,
            successes_to_close: 2,
            reopen_delay_min: Span::from_secs(1),
            reopen_delay_max: Span::from_secs(60),
            probe_timeout: Span::from_secs(30),
        }
    }
}

/// Names one probe, once: the late answer to a probe that was given up says nothing about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeId(u64);

/// Whether the target may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Go,
    /// Yes, and the answer decides. Nobody else gets a permit until this one is reported back.
    Probe(ProbeId),
    /// No. Ask for a permit again at this time.
    Wait(Instant),
}

/// What the breaker thinks of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// The target is asked.
    Closed {
        /// Failures in a row so far.
        failures: u32,
    },
    /// The target is left alone.
    Open {
        /// Until when.
        until: Instant,
        /// How many times in a row it opened.
        openings: u32,
    },
    /// The target is asked one question at a time.
    HalfOpen {
        /// Probes in a row that succeeded.
        successes: u32,
        /// How many times in a row it opened before.
        openings: u32,
        /// The probe that is out, if one is, and when it counts as failed.
        probe: Option<(ProbeId, Instant)>,
    },
}

/// What a person decided about a target, whatever the breaker thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Leave the target alone.
    Open,
    /// Ask the target.
    Closed,
}

/// A breaker for one target.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: BreakerState,
    forced: Option<Forced>,
    probes: u64,
}

impl Breaker {
    /// A closed breaker. Counts of 0 in the policy mean 1.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: BreakerState::Closed { failures: 0 }, forced: None, probes: 0 }
    }

    /// Whether the target may be asked now. Every [`Permit::Go`] and [`Permit::Probe`] is reported back by
    /// [`succeeded`](Self::succeeded), [`failed`](Self::failed) or [`withdrawn`](Self::withdrawn).
    pub fn allow(&mut self, now: Instant) -> Permit {
        match self.forced {
            Some(Forced::Closed) => return Permit::Go,
            // Nobody knows when it is lifted: look again now and then.
            Some(Forced::Open) => return Permit::Wait(now + self.policy.reopen_delay_max),
            None => {}
        }
        self.advance(now);
        match self.state {
            BreakerState::Closed { .. } => Permit::Go,
            BreakerState::Open { until, .. } => Permit::Wait(until),
            BreakerState::HalfOpen { probe: Some((_, deadline)), .. } => Permit::Wait(deadline),
            BreakerState::HalfOpen { successes, openings, probe: None } => {
                self.probes += 1;
                let id = ProbeId(self.probes);
                let probe = Some((id, now + self.policy.probe_timeout));
                self.state = BreakerState::HalfOpen { successes, openings, probe };
                Permit::Probe(id)
            }
        }
    }

    /// The target answered a request that `permit` allowed.
    pub fn succeeded(&mut self, permit: Permit, now: Instant) {
        self.advance(now);
        match (self.state, permit) {
            (BreakerState::Closed { .. }, _) => self.state = BreakerState::Closed { failures: 0 },
            (BreakerState::HalfOpen { successes, openings, probe: Some((out, _)) }, Permit::Probe(id))
                if id == out =>
            {
                let successes = successes + 1;
                self.state = if successes >= self.policy.successes_to_close {
                    BreakerState::Closed { failures: 0 }
                } else {
                    BreakerState::HalfOpen { successes, openings, probe: None }
                };
            }
            // A straggler from before it opened, or a probe given up: the next probe decides.
            (BreakerState::Open { .. } | BreakerState::HalfOpen { .. }, _) => {}
        }
    }

    /// The target did not answer, or said that it is unavailable, to a request that `permit` allowed.
    pub fn failed(&mut self, permit: Permit, now: Instant) {
        self.advance(now);
        match (self.state, permit) {
            // Whoever forced it closed wants it asked, and does not want it open at once when the force is lifted.
            (BreakerState::Closed { .. }, _) if self.forced == Some(Forced::Closed) => {}
            (BreakerState::Closed { failures }, _) => {
                let failures = failures + 1;
                if failures >= self.policy.failures_to_open {
                    self.open(now, 1);
                } else {
                    self.state = BreakerState::Closed { failures };
                }
            }
            (BreakerState::HalfOpen { openings, probe: Some((out, _)), .. }, Permit::Probe(id))
                if id == out =>
            {
                self.open(now, openings.saturating_add(1));
            }
            (BreakerState::Open { .. } | BreakerState::HalfOpen { .. }, _) => {}
        }
    }

    /// A request that `permit` allowed was never made, or ended in a way that says nothing about the target.
    pub fn withdrawn(&mut self, permit: Permit) {
        if let BreakerState::HalfOpen { successes, openings, probe: Some((out, _)) } = self.state
            && permit == Permit::Probe(out)
        {
            self.state = BreakerState::HalfOpen { successes, openings, probe: None };
        }
    }

    /// Overrules the breaker, or leaves it to itself again. Forcing it closed also forgets what it thought.
    pub fn force(&mut self, forced: Option<Forced>) {
        self.forced = forced;
        if forced == Some(Forced::Closed) {
            self.state = BreakerState::Closed { failures: 0 };
        }
    }

    /// What a person decided, if anything.
    pub const fn forced(&self) -> Option<Forced> {
        self.forced
    }

    /// What the breaker thinks of its target, as of the last call that was told the time.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// Whether the target is asked freely.
    pub const fn is_closed(&self) -> bool {
        match self.forced {
            Some(Forced::Closed) => true,
            Some(Forced::Open) => false,
            None => matches!(self.state, BreakerState::Closed { .. }),
        }
    }

    fn advance(&mut self, now: Instant) {
        match self.state {
            BreakerState::Open { until, openings } if now >= until => {
                self.state = BreakerState::HalfOpen { successes: 0, openings, probe: None };
            }
            BreakerState::HalfOpen { openings, probe: Some((_, deadline)), .. } if now >= deadline => {
                self.open(now, openings.saturating_add(1));
            }
            BreakerState::Closed { .. } | BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => {}
        }
    }

    fn open(&mut self, now: Instant, openings: u32) {
        let doublings = openings.saturating_sub(1).min(63);
        let delay = self.policy.reopen_delay_min.saturating_mul(1 << doublings);
        let until = now + delay.min(self.policy.reopen_delay_max);
        self.state = BreakerState::Open { until, openings };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: BreakerPolicy = BreakerPolicy {
        failures_to_open: 3,
        successes_to_close: 2,
        reopen_delay_min: Span::from_secs(1),
        reopen_delay_max: Span::from_secs(5),
        probe_timeout: Span::from_secs(10),
    };

    fn secs(secs: u64) -> Instant {
        Instant::START + Span::from_secs(secs)
    }

    fn probe(breaker: &mut Breaker, now: Instant) -> Permit {
        let permit = breaker.allow(now);
        assert!(matches!(permit, Permit::Probe(_)), "{permit:?}");
        permit
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..3 {
            let permit = breaker.allow(secs(0));
            assert_eq!(permit, Permit::Go);
            breaker.failed(permit, secs(0));
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::new(POLICY);
        for _ in 0..2 {
            breaker.failed(Permit::Go, secs(0));
            breaker.failed(Permit::Go, secs(0));
            breaker.succeeded(Permit::Go, secs(0));
        }
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 0 });
        assert_eq!(opened().allow(secs(0)), Permit::Wait(secs(1)));
    }

    #[test]
    fn probes_one_at_a_time_and_closes_after_enough_of_them() {
        let mut breaker = opened();
        let first = probe(&mut breaker, secs(1));
        assert_eq!(breaker.allow(secs(1)), Permit::Wait(secs(11)));
        breaker.succeeded(first, secs(2));
        assert!(!breaker.is_closed());
        let second = probe(&mut breaker, secs(2));
        breaker.succeeded(second, secs(2));
        assert!(breaker.is_closed());
        assert_eq!(breaker.allow(secs(2)), Permit::Go);
    }

    #[test]
    fn a_failed_probe_opens_for_twice_as_long_up_to_the_limit() {
        let mut breaker = opened();
        let mut now = secs(1);
        let mut delays = Vec::new();
        for _ in 0..4 {
            let permit = probe(&mut breaker, now);
            breaker.failed(permit, now);
            let Permit::Wait(until) = breaker.allow(now) else { panic!("it is open") };
            delays.push(until.since(now));
            now = until;
        }
        assert_eq!(delays, [2, 4, 5, 5].map(Span::from_secs));
    }

    #[test]
    fn a_probe_that_is_never_heard_of_has_failed() {
        let mut breaker = opened();
        let lost = probe(&mut breaker, secs(1));
        assert_eq!(breaker.allow(secs(11)), Permit::Wait(secs(13)));
        breaker.succeeded(lost, secs(12));
        assert_eq!(breaker.state(), BreakerState::Open { until: secs(13), openings: 2 });
    }

    #[test]
    fn the_late_end_of_a_lost_probe_says_nothing_about_the_next_one() {
        let mut breaker = opened();
        let lost = probe(&mut breaker, secs(1));
        breaker.allow(secs(11));
        probe(&mut breaker, secs(13));
        let probing = breaker.state();
        breaker.withdrawn(lost);
        breaker.failed(lost, secs(14));
        breaker.succeeded(lost, secs(14));
        assert_eq!(breaker.state(), probing);
    }

    #[test]
    fn stragglers_from_before_it_opened_decide_nothing() {
        let mut breaker = opened();
        breaker.succeeded(Permit::Go, secs(0));
        assert_eq!(breaker.allow(secs(0)), Permit::Wait(secs(1)));
        probe(&mut breaker, secs(1));
        let probing = breaker.state();
        breaker.failed(Permit::Go, secs(1));
        breaker.succeeded(Permit::Go, secs(1));
        assert_eq!(breaker.state(), probing);
    }

    #[test]
    fn a_withdrawn_probe_makes_room_for_another() {
        let mut breaker = opened();
        let permit = probe(&mut breaker, secs(1));
        breaker.withdrawn(permit);
        probe(&mut breaker, secs(1));
    }

    #[test]
    fn a_person_overrules_it_both_ways() {
        let mut breaker = opened();
        breaker.force(Some(Forced::Closed));
        for _ in 0..10 {
            assert_eq!(breaker.allow(secs(0)), Permit::Go);
            breaker.failed(Permit::Go, secs(0));
        }
        breaker.force(None);
        assert_eq!(breaker.allow(secs(0)), Permit::Go);
        breaker.force(Some(Forced::Open));
        assert_eq!(breaker.allow(secs(0)), Permit::Wait(secs(5)));
        assert!(!breaker.is_closed());
        breaker.force(None);
        assert_eq!(breaker.allow(secs(0)), Permit::Go);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Advance(u64),
        Allow,
        /// The request that is out at this index ends: well, badly, or not at all.
        End(usize, u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            2 => (0u64..4).prop_map(Op::Advance),
            3 => Just(Op::Allow),
            3 => (0usize..8, 0u8..6).prop_map(|(nth, how)| Op::End(nth, how)),
        ]
    }

    proptest! {
        #[test]
        fn never_floods_a_target_that_is_down_and_never_forgets_one(ops in prop::collection::vec(op(), 0..200)) {
            let mut breaker = Breaker::new(POLICY);
            let mut now = 0;
            let mut out: Vec<(Permit, u64)> = Vec::new();
            for op in ops {
                match op {
                    Op::Advance(by) => now += by,
                    Op::Allow => {
                        let closed = breaker.is_closed();
                        match breaker.allow(secs(now)) {
                            Permit::Go => {
                                prop_assert!(closed);
                                out.push((Permit::Go, now));
                            }
                            permit @ Permit::Probe(_) => {
                                prop_assert!(!closed);
                                // Every other probe that is out was given up by its deadline.
                                let others = out.iter().filter(|(permit, _)| matches!(permit, Permit::Probe(_)));
                                for (_, since) in others {
                                    prop_assert!(now >= since + 10);
                                }
                                out.push((permit, now));
                            }
                            Permit::Wait(until) => {
                                prop_assert!(!closed);
                                prop_assert!(until > secs(now), "waiting for the past");
                                prop_assert!(until <= secs(now + 10), "waiting for too long");
                            }
                        }
                    }
                    Op::End(nth, how) if !out.is_empty() => {
                        let (permit, _) = out.swap_remove(nth % out.len());
                        let before = breaker.clone();
                        match how {
                            0..=2 => breaker.failed(permit, secs(now)),
                            3 | 4 => breaker.succeeded(permit, secs(now)),
                            _ => breaker.withdrawn(permit),
                        }
                        if !before.is_closed() && breaker.is_closed() {
                            prop_assert!(matches!(permit, Permit::Probe(_)), "only a probe closes");
                        }
                    }
                    Op::End(..) => {}
                }
            }
            // A target that answers from now on is asked freely after a bounded time.
            for _ in 0..6 {
                match breaker.allow(secs(now)) {
                    Permit::Wait(until) => now = until.since(Instant::START).as_millis().div_ceil(1_000),
                    permit @ (Permit::Go | Permit::Probe(_)) => breaker.succeeded(permit, secs(now)),
                }
            }
            prop_assert_eq!(breaker.allow(secs(now)), Permit::Go);
        }
    }
}
