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
        let mut base = self.delay_min.as_micros().min(BASE_MAX);
        for _ in 0..retry {
            let grown = u128::from(base) * u128::from(self.factor_permille) / 1_000;
            let grown = u64::try_from(grown).unwrap_or(u64::MAX).min(BASE_MAX);
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

/// Delays beyond this many microseconds are all the same: it is 146,000 years, and leaves room for arithmetic.
const BASE_MAX: u64 = 1 << 62;

/// One step of splitmix64: a well-mixed number for every input.
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(retries_max: Option<u32>, timeout: Span) -> RetryPolicy {
        RetryPolicy { retries_max, timeout, jitter_permille: 0, ..RetryPolicy::CLASS_DEFAULT }
    }

    fn granted(policy: &RetryPolicy, attempt_takes: Span) -> Vec<Span> {
        let mut retry = Retry::new(Instant::START);
        let mut now = Instant::START;
        let mut delays = Vec::new();
        while delays.len() < 100 {
            now += attempt_takes;
            let RetryDecision::Retry { at } = retry.next(policy, now, 7) else { break };
            delays.push(at.since(now));
            now = at;
        }
        delays
    }

    #[test]
    fn delays_grow_by_the_factor_from_the_shortest_to_the_longest() {
        let policy = RetryPolicy { retries_max: Some(16), ..plain(None, RetryPolicy::NO_TIMEOUT) };
        let delays = granted(&policy, Span::ZERO);
        assert_eq!(delays.len(), 16);
        assert_eq!(
            delays[..4],
            [1_000_000, 1_500_000, 2_250_000, 3_375_000].map(Span::from_micros),
            "the first retry waits for the shortest delay"
        );
        assert_eq!(delays[15], Span::from_secs(300));
    }

    #[test]
    fn gives_up_after_the_retries_granted() {
        assert_eq!(granted(&plain(Some(3), RetryPolicy::NO_TIMEOUT), Span::from_secs(1)).len(), 3);
        assert_eq!(granted(&plain(Some(0), RetryPolicy::NO_TIMEOUT), Span::from_secs(1)).len(), 0);
    }

    #[test]
    fn the_timeout_strikes_only_after_one_retry() {
        let slow = granted(&plain(Some(5), Span::from_secs(300)), Span::from_secs(1_000));
        assert_eq!(slow.len(), 1);
        let quick = granted(&plain(None, Span::from_secs(300)), Span::ZERO);
        let waited: u64 = quick.iter().map(|delay| delay.as_micros()).sum();
        assert!(waited >= 300_000_000, "it goes on until the time is over: {waited}");
        let last = quick.last().expect("there were retries").as_micros();
        assert!(waited - last < 300_000_000, "and not longer: {waited}");
    }

    #[test]
    fn the_timeout_strikes_to_the_microsecond() {
        let policy = plain(None, Span::from_secs(300));
        let mut retry = Retry::new(Instant::START);
        assert_ne!(retry.next(&policy, Instant::START, 0), RetryDecision::GiveUp);
        assert_ne!(retry.next(&policy, Instant::from_micros(299_999_999), 0), RetryDecision::GiveUp);
        assert_eq!(retry.next(&policy, Instant::from_micros(300_000_000), 0), RetryDecision::GiveUp);
    }

    #[test]
    fn the_longer_of_our_delay_and_the_hint_is_taken() {
        let policy = plain(None, RetryPolicy::NO_TIMEOUT);
        let mut retry = Retry::new(Instant::START);
        let mut after = |secs| match retry.next_after(&policy, Instant::START, 0, Some(Span::from_secs(secs)))
        {
            RetryDecision::Retry { at } => at.since(Instant::START),
            RetryDecision::GiveUp => panic!("there is no limit"),
        };
        assert_eq!(after(0), Span::from_secs(1));
        assert_eq!(after(20), Span::from_secs(20));
        assert_eq!(after(1_000), Span::from_secs(1_000), "also beyond our longest delay");
    }

    #[test]
    fn upstream_defaults_are_what_the_reference_says() {
        let micros = |policy: RetryPolicy| {
            let RetryPolicy { retries_max, timeout, delay_min, delay_max, factor_permille, jitter_permille } =
                policy;
            let millis = [timeout, delay_min, delay_max].map(Span::as_millis);
            (retries_max, millis, factor_permille, jitter_permille)
        };
        assert_eq!(micros(RetryPolicy::CLASS_DEFAULT), (None, [300_000, 1_000, 300_000], 1_500, 100));
        assert_eq!(micros(RetryPolicy::CONFIG_DEFAULT), (Some(5), [300_000, 1_000, 300_000], 1_500, 100));
        assert_eq!(micros(RetryPolicy::CONFIG_WITHOUT_BACKOFF), (Some(5), [300_000, 100, 10_000], 2_000, 0));
        assert_eq!(micros(RetryPolicy::CLOUD_SAMPLE), (Some(5), [900_000, 60_000, 900_000], 1_500, 100));
    }

    #[test]
    fn seeds_spread_the_delays_over_the_whole_range() {
        let policy = RetryPolicy { jitter_permille: 100, ..RetryPolicy::CLASS_DEFAULT };
        let delays: Vec<u64> = (0..1_000).map(|seed| policy.delay(0, seed).as_micros()).collect();
        let (min, max) = (delays.iter().min().copied(), delays.iter().max().copied());
        assert!(min.is_some_and(|min| (900_000..905_000).contains(&min)), "{min:?}");
        assert!(max.is_some_and(|max| (1_095_000..=1_100_000).contains(&max)), "{max:?}");
        let mean = delays.iter().sum::<u64>() / 1_000;
        assert!((990_000..1_010_000).contains(&mean), "{mean}");
    }

    #[test]
    fn no_policy_overflows() {
        let most = Span::from_micros(u64::MAX);
        for factor_permille in [0, 1, 999, 1_000, 1_001, u32::MAX] {
            let policy = RetryPolicy {
                retries_max: None,
                timeout: most,
                delay_min: most,
                delay_max: most,
                factor_permille,
                jitter_permille: u32::MAX,
            };
            for retry in [0, 1, 2, 70, u32::MAX] {
                assert!(policy.delay(retry, u64::MAX) <= most);
            }
        }
    }

    proptest! {
        /// Exact powers in wide integers, and the range that the jitter may reach.
        #[test]
        fn delays_are_within_the_jitter_of_the_exact_power(
            min in 1_000u64..100_000_000,
            max in 1_000u64..1_000_000_000,
            factor in 1_000u32..4_000,
            jitter in 0u32..=1_000,
            retry in 0u32..8,
            seed in any::<u64>(),
        ) {
            let policy = RetryPolicy {
                retries_max: None,
                timeout: RetryPolicy::NO_TIMEOUT,
                delay_min: Span::from_micros(min),
                delay_max: Span::from_micros(max),
                factor_permille: factor,
                jitter_permille: jitter,
            };
            let exact = u128::from(min) * u128::from(factor).pow(retry) / 1_000u128.pow(retry);
            let max = u128::from(max);
            let low = (exact * u128::from(1_000 - jitter) / 1_000).min(max);
            let high = (exact * u128::from(1_000 + jitter) / 1_000).min(max);
            let delay = u128::from(policy.delay(retry, seed).as_micros());
            // Rounding down at each step loses at most one microsecond, and each loss grows with the factor.
            let lost = (0..retry).map(|steps| u128::from(factor).pow(steps) / 1_000u128.pow(steps) + 1).sum::<u128>() + 2;
            prop_assert!(delay + lost >= low, "{delay} is below {low}");
            prop_assert!(delay <= high, "{delay} is above {high}");
            prop_assert_eq!(policy.delay(retry, seed), policy.delay(retry, seed));
        }

        #[test]
        fn gives_up_exactly_when_the_reference_says(
            retries_max in prop::option::of(0u32..6),
            timeout in 0u64..200,
            steps in prop::collection::vec((0u64..50, any::<u64>()), 1..20),
        ) {
            let policy = RetryPolicy { retries_max, timeout: Span::from_secs(timeout), ..RetryPolicy::CLASS_DEFAULT };
            let start = Instant::from_micros(5);
            let mut retry = Retry::new(start);
            let mut now = start;
            for (nth, (took, seed)) in (0u32..).zip(steps) {
                now += Span::from_secs(took);
                let stop = retries_max == Some(nth) || (nth > 0 && now.since(start) >= Span::from_secs(timeout));
                match retry.next(&policy, now, seed) {
                    RetryDecision::GiveUp => {
                        prop_assert!(stop);
                        break;
                    }
                    RetryDecision::Retry { at } => {
                        prop_assert!(!stop);
                        prop_assert!(at > now);
                        prop_assert_eq!(retry.attempts(), nth + 2);
                        now = at;
                    }
                }
            }
        }
    }
}
