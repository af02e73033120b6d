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
