//! A count over the last while: events are counted in intervals of fixed length, and intervals expire.

use std::collections::VecDeque;

use crate::time::{Instant, Span};

/// How many events there were in the current interval and in the ones before it, up to a number of intervals.
///
/// The window moves in steps of one interval. Time that goes back counts as time that stands still.
#[derive(Clone, Debug)]
pub struct Window {
    interval: Span,
    intervals: usize,
    /// When counting started: rates are not diluted by time from before.
    started: Instant,
    /// The number, since the start of the clock, of the interval that is last in `counts`.
    current: u64,
    /// Counts of consecutive intervals, the current one last. Never empty, never more than `intervals`.
    counts: VecDeque<u64>,
}

impl Window {
    /// A window over `intervals` intervals of length `interval`, the current one included, starting now.
    ///
    /// Panics if either is zero.
    pub fn new(interval: Span, intervals: usize, now: Instant) -> Self {
        assert!(interval > Span::ZERO, "an interval has a length");
        assert!(intervals > 0, "a window has an interval");
        let mut counts = VecDeque::with_capacity(intervals);
        counts.push_back(0);
        Self { interval, intervals, started: now, current: now.as_micros() / interval.as_micros(), counts }
    }

    /// Counts `events` events at `now`.
    pub fn add(&mut self, now: Instant, events: u64) {
        let number = self.number(now);
        let behind = number - self.current;
        if behind >= self.intervals as u64 {
            self.counts.clear();
            self.counts.push_back(0);
        } else {
            for _ in 0..behind {
                if self.counts.len() == self.intervals {
                    self.counts.pop_front();
                }
                self.counts.push_back(0);
            }
        }
        self.current = number;
        let last = self.counts.back_mut().expect("never empty");
        *last = last.saturating_add(events);
    }

    /// How many events there were in the window that ends at `now`.
    pub fn total(&self, now: Instant) -> u64 {
        let behind = self.number(now) - self.current;
        let kept = (self.intervals as u64).saturating_sub(behind);
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        self.counts.iter().rev().take(kept).fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// How much time the window that ends at `now` covers: the whole intervals before the current one, and the part of
    /// the current one that went by; not more than went by since counting started.
    pub fn covered(&self, now: Instant) -> Span {
        let interval = self.interval.as_micros();
        let begin = self.number(now).saturating_sub(self.intervals as u64 - 1).saturating_mul(interval);
        let begin = Instant::from_micros(begin).max(self.started);
        let current_begin = Instant::from_micros(self.current.saturating_mul(interval));
        now.max(current_begin).since(begin)
    }

    /// Events per second over the window that ends at `now`, in thousandths, rounded down; 0 if it covers no time.
    pub fn rate_milli(&self, now: Instant) -> u64 {
        let covered = u128::from(self.covered(now).as_micros());
        let events = u128::from(self.total(now)) * 1_000_000_000;
        u64::try_from(events.checked_div(covered).unwrap_or(0)).unwrap_or(u64::MAX)
    }

    fn number(&self, now: Instant) -> u64 {
        (now.as_micros() / self.interval.as_micros()).max(self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(secs: u64) -> Instant {
        Instant::START + Span::from_secs(secs)
    }

    fn minute_of_tens() -> Window {
        Window::new(Span::from_secs(10), 6, Instant::START)
    }

    #[test]
    fn events_expire_by_whole_intervals() {
        let mut window = minute_of_tens();
        window.add(at(5), 3);
        window.add(at(15), 4);
        assert_eq!(window.total(at(59)), 7);
        assert_eq!(window.total(at(60)), 4);
        assert_eq!(window.total(at(69)), 4);
        assert_eq!(window.total(at(70)), 0);
        window.add(at(1_000), 1);
        assert_eq!(window.total(at(1_000)), 1);
    }

    #[test]
    fn the_rate_is_over_the_time_covered() {
        let mut window = minute_of_tens();
        assert_eq!(window.rate_milli(at(0)), 0);
        window.add(at(2), 10);
        assert_eq!(window.rate_milli(at(4)), 2_500, "10 events in the 4 seconds since the start");
        window.add(at(62), 10);
        assert_eq!(window.covered(at(65)), Span::from_secs(55));
        assert_eq!(window.rate_milli(at(65)), 10_000_000 / 55_000);
    }

    #[test]
    fn time_that_goes_back_counts_as_standing_still() {
        let mut window = minute_of_tens();
        window.add(at(100), 1);
        window.add(at(20), 1);
        assert_eq!(window.total(at(20)), 2);
        assert_eq!(window.total(at(100)), 2);
        assert!(window.covered(at(20)) <= Span::from_secs(60));
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_events(
            interval in 1u64..20,
            intervals in 1usize..8,
            start in 0u64..50,
            steps in prop::collection::vec((0u64..40, 0u64..5), 0..60),
        ) {
            let mut now = start;
            let mut window = Window::new(Span::from_secs(interval), intervals, at(now));
            let mut events: Vec<(u64, u64)> = Vec::new();
            for (by, count) in steps {
                now += by;
                if count > 0 {
                    window.add(at(now), count);
                    events.push((now, count));
                }
                for later in [now, now + interval, now + 3 * interval] {
                    let begin = (later / interval + 1).saturating_sub(intervals as u64) * interval;
                    let total: u64 = events.iter().filter(|(when, _)| *when >= begin).map(|(_, count)| count).sum();
                    prop_assert_eq!(window.total(at(later)), total);
                    let covered = later - begin.max(start);
                    prop_assert_eq!(window.covered(at(later)), Span::from_secs(covered));
                    let rate = (total * 1_000).checked_div(covered).unwrap_or(0);
                    prop_assert_eq!(window.rate_milli(at(later)), rate);
                }
                prop_assert!(window.counts.len() <= intervals);
            }
        }
    }
}
