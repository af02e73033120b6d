//! When to try again, and when to stop trying (replication reference 5.5). Integers only: the same inputs give the same
//! delays on every machine.

use crate::time::{Instant, Span};

/// How often and how far apart something is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Give up after this many retries; `None` for no such limit.
    pub retries_max: Option<u32>,
    /// Give up once this much time went by since the first attempt, provided that there was at least one retry.
    /// [`RetryPolicy::NO_TIMEOUT`] for no such limit.
    pub timeout: Span,
    /// The delay before the first retry.
    pub delay_min: Span,
    /// No delay of ours is longer than this.
    pub delay_max: Span,
    /// Each delay is the one before it times this, in thousandths: 1500 is 1.5.
    pub factor_permille: u32,
    /// Each delay is randomised by up to this fraction up or down, in thousandths: 100 is a tenth.
    pub jitter_permille: u32,
}

impl RetryPolicy {
    /// A [`timeout`](Self::timeout) that never strikes.
    pub const NO_TIMEOUT: Span = Span::from_micros(u64::MAX);

    /// What upstream retries with where nothing is configured: 300 seconds, any number of times.
    pub const CLASS_DEFAULT: Self = Self {
        retries_max: None,
        timeout: Span::from_secs(300),
        delay_min: Span::from_millis(1_000),
        delay_max: Span::from_millis(300_000),
        factor_permille: 1_500,
        jitter_permille: 100,
    };

    /// The defaults of a configured retry block whose `backoff` is present: 5 retries within 300 seconds.
    pub const CONFIG_DEFAULT: Self = Self { retries_max: Some(5), ..Self::CLASS_DEFAULT };

    /// What upstream's sample configuration has for cloud targets: 5 retries within 900 seconds, a minute apart at
    /// least.
    pub const CLOUD_SAMPLE: Self = Self {
        retries_max: Some(5),
        timeout: Span::from_secs(900),
        delay_min: Span::from_millis(60_000),
        delay_max: Span::from_millis(900_000),
        factor_permille: 1_500,
        jitter_permille: 100,
    };

    /// The defaults of a configured retry block without `backoff`: upstream's library then applies its own delays.
    pub const CONFIG_WITHOUT_BACKOFF: Self = Self {
        delay_min: Span::from_millis(100),
        delay_max: Span::from_millis(10_000),
        factor_permille: 2_000,
        jitter_permille: 0,
        ..Self::CONFIG_DEFAULT
    };

    /// The delay before retry number `retry`, counted from 0, with the jitter that `seed` gives.
    pub fn delay(&self, retry: u32, seed: u64) -> Span {
        let base = u128::from(self.base(retry));
        let width = base * u128::from(self.jitter_permille.min(1_000)) / 1_000;
        // A point in 0..=2*width, taken from the top bits of a product: no modulo, no bias worth speaking of.
        let random = u128::from(mix(seed.wrapping_add(mix(u64::from(retry)))));
        let point = (random * (2 * width + 1)) >> 64;
        let delay = (base - width + point).min(u128::from(self.delay_max.as_micros()));
        Span::from_micros(u64::try_from(delay).expect("at most the longest delay"))
    }

    /// `delay_min * factor^retry` in microseconds, not capped at the longest delay before the jitter is applied to it
    /// but where it can no longer matter.
    fn base(&self, retry: u32) -> u64 {
        let enough = self.delay_max.as_micros().saturating_mul(1_000);
        let mut base = self.delay_min.as_micros();
        for _ in 0..retry {
            let grown = u128::from(base) * u128::from(self.factor_permille) / 1_000;
            let grown = u64::try_from(grown).unwrap_or(u64::MAX);
            if grown == base {
                break;
            }
            base = grown;
            if base >= enough {
                break;
            }
        }
        base
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again at this time.
    Retry {
        /// When to try again.
        at: Instant,
    },
    /// Do not try again.
    GiveUp,
}

/// The attempts at one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    first_attempt: Instant,
    retries: u32,
}

impl Retry {
    /// The first attempt starts now.
    pub const fn new(now: Instant) -> Self {
        Self { first_attempt: now, retries: 0 }
    }

    /// An attempt failed in a way that may be retried: what now? `seed` makes the jitter, and is to differ between
    /// things that fail together.
    pub fn next(&mut self, policy: &RetryPolicy, now: Instant, seed: u64) -> RetryDecision {
        self.next_after(policy, now, seed, None)
    }

    /// As [`next`](Self::next), when the other side said how long to wait: the longer of both delays is taken. The
    /// hint may exceed the longest delay of the policy; whoever read it has bounded it.
    pub fn next_after(
        &mut self,
        policy: &RetryPolicy,
        now: Instant,
        seed: u64,
        retry_after: Option<Span>,
    ) -> RetryDecision {
        let exhausted = policy.retries_max.is_some_and(|max| self.retries >= max);
        let late = self.retries > 0 && now.since(self.first_attempt) >= policy.timeout;
        if exhausted || late {
            return RetryDecision::GiveUp;
        }
        let delay = policy.delay(self.retries, seed).max(retry_after.unwrap_or(Span::ZERO));
        self.retries = self.retries.saturating_add(1);
        RetryDecision::Retry { at: now + delay }
    }

    /// How many attempts were granted, the first one included.
    pub const fn attempts(&self) -> u32 {
        self.retries.saturating_add(1)
    }

    /// How many retries were granted.
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// When the first attempt started.
    pub const fn first_attempt(&self) -> Instant {
        self.first_attempt
    }
}

/// One step of splitmix64: a well-mixed number for every input.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
