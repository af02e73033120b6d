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

/// Whether the target may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Yes.
    Go,
    /// Yes, and the answer decides. Nobody else gets a permit until this one is reported back.
    Probe,
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
        /// When the probe that is out counts as failed, if one is out.
        probe_deadline: Option<Instant>,
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
}

impl Breaker {
    /// A closed breaker. Counts of 0 in the policy mean 1.
    pub const fn new(policy: BreakerPolicy) -> Self {
        Self { policy, state: BreakerState::Closed { failures: 0 }, forced: None }
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
            BreakerState::HalfOpen { probe_deadline: Some(deadline), .. } => Permit::Wait(deadline),
            BreakerState::HalfOpen { successes, openings, probe_deadline: None } => {
                let probe_deadline = Some(now + self.policy.probe_timeout);
                self.state = BreakerState::HalfOpen { successes, openings, probe_deadline };
                Permit::Probe
            }
        }
    }

    /// The target answered a request that `permit` allowed.
    pub fn succeeded(&mut self, permit: Permit, now: Instant) {
        self.advance(now);
        match (self.state, permit) {
            (BreakerState::Closed { .. }, _) => self.state = BreakerState::Closed { failures: 0 },
            (BreakerState::HalfOpen { successes, openings, probe_deadline: Some(_) }, Permit::Probe) => {
                let successes = successes + 1;
                self.state = if successes >= self.policy.successes_to_close {
                    BreakerState::Closed { failures: 0 }
                } else {
                    BreakerState::HalfOpen { successes, openings, probe_deadline: None }
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
            (BreakerState::HalfOpen { openings, probe_deadline: Some(_), .. }, Permit::Probe) => {
                self.open(now, openings.saturating_add(1));
            }
            (BreakerState::Open { .. } | BreakerState::HalfOpen { .. }, _) => {}
        }
    }

    /// A request that `permit` allowed was never made, or ended in a way that says nothing about the target.
    pub fn withdrawn(&mut self, permit: Permit) {
        if let (BreakerState::HalfOpen { successes, openings, .. }, Permit::Probe) = (self.state, permit) {
            self.state = BreakerState::HalfOpen { successes, openings, probe_deadline: None };
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
                self.state = BreakerState::HalfOpen { successes: 0, openings, probe_deadline: None };
            }
            BreakerState::HalfOpen { openings, probe_deadline: Some(deadline), .. } if now >= deadline => {
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
