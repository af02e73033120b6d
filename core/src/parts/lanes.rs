//! Lanes: first in, first out for each key, parallel across keys.
//!
//! A key owns a queue and at most one running item. A key is ready when something waits, nothing runs, nobody blocks
//! it and its head is not delayed; ready keys are served in the order in which they became ready.

use std::collections::{BTreeMap, VecDeque};

use crate::parts::timers::Timers;
use crate::time::Instant;

/// How many emptied queues are kept for lanes to come, so that short-lived lanes do not allocate.
const SPARES_MAX: usize = 64;

#[derive(Clone, Debug)]
struct Lane<W> {
    running: Option<W>,
    waiting: VecDeque<W>,
    /// How many reasons there are not to start anything.
    blocks: u32,
    /// Whether the head waits for its timer.
    delayed: bool,
    /// The place in the ready list, if the key is ready.
    ticket: Option<u64>,
}

impl<W> Lane<W> {
    fn new(waiting: VecDeque<W>) -> Self {
        Self { running: None, waiting, blocks: 0, delayed: false, ticket: None }
    }

    fn is_ready(&self) -> bool {
        self.running.is_none() && !self.waiting.is_empty() && self.blocks == 0 && !self.delayed
    }

    fn is_gone(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty() && self.blocks == 0
    }

    fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some())
    }
}

/// Work of type `W` in lanes named by `K`. A lane exists while it holds work or is blocked.
#[derive(Clone, Debug)]
pub struct Lanes<K, W> {
    by_key: BTreeMap<K, Lane<W>>,
    /// The ready keys by ticket: an ordered list from which a key in the middle can be removed.
    ready: BTreeMap<u64, K>,
    tickets: u64,
    delays: Timers<K>,
    waiting: usize,
    running: usize,
    spares: Vec<VecDeque<W>>,
}

impl<K: Ord + Clone, W> Default for Lanes<K, W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord + Clone, W> Lanes<K, W> {
    /// No lanes.
    pub fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
            ready: BTreeMap::new(),
            tickets: 0,
            delays: Timers::new(),
            waiting: 0,
            running: 0,
            spares: Vec::new(),
        }
    }

    /// Queues `work` behind everything else of `key`. The bound is the caller's: see [`len`](Self::len).
    #[expect(clippy::needless_pass_by_value, reason = "a key that is pushed names a lane, as in a map")]
    pub fn push(&mut self, key: K, work: W) {
        self.lane(&key).waiting.push_back(work);
        self.waiting += 1;
        self.refresh(&key);
    }

    /// Starts the head of the key that has been ready the longest: it is running until [`finish`](Self::finish) or
    /// [`release_to_front`](Self::release_to_front).
    pub fn start_next(&mut self) -> Option<(K, W)>
    where
        W: Clone,
    {
        let key = self.start_next_key()?;
        let work = self.running(&key).cloned().expect("it was just started");
        Some((key, work))
    }

    /// As [`start_next`](Self::start_next), without a copy of the work: see [`running`](Self::running).
    pub fn start_next_key(&mut self) -> Option<K> {
        let (_, key) = self.ready.pop_first()?;
        let lane = self.by_key.get_mut(&key).expect("a ready key has a lane");
        lane.ticket = None;
        assert!(lane.is_ready(), "a key was listed as ready and is not");
        lane.running = lane.waiting.pop_front();
        self.waiting -= 1;
        self.running += 1;
        Some(key)
    }

    /// Ends what runs for `key` and returns it. The key becomes ready again if more waits.
    ///
    /// Panics if nothing runs: whoever reports an ending looks up first what it ends.
    pub fn finish(&mut self, key: &K) -> W {
        let lane = self.by_key.get_mut(key).expect("a finished key has a lane");
        let work = lane.running.take().expect("a finished key was running");
        self.running -= 1;
        self.refresh(key);
        work
    }

    /// Puts what runs for `key` back to the head of its queue. Nothing of the key starts before
    /// [`wake`](Self::wake) is told `not_before` or later.
    ///
    /// Panics if nothing runs.
    pub fn release_to_front(&mut self, key: &K, not_before: Instant) {
        let lane = self.by_key.get_mut(key).expect("a released key has a lane");
        let work = lane.running.take().expect("a released key was running");
        lane.waiting.push_front(work);
        lane.delayed = true;
        self.running -= 1;
        self.waiting += 1;
        self.delays.set(key.clone(), not_before);
        self.refresh(key);
    }

    /// Makes the keys ready whose delay is over.
    pub fn wake(&mut self, now: Instant) {
        while let Some(key) = self.delays.pop_due(now) {
            self.by_key.get_mut(&key).expect("a delayed key has a lane").delayed = false;
            self.refresh(&key);
        }
    }

    /// Ends the delay of `key` before its time. `false` if it has none.
    pub fn wake_key(&mut self, key: &K) -> bool {
        if self.delays.cancel(key).is_none() {
            return false;
        }
        self.by_key.get_mut(key).expect("a delayed key has a lane").delayed = false;
        self.refresh(key);
        true
    }

    /// When [`wake`](Self::wake) is next due.
    pub fn next_wake(&self) -> Option<Instant> {
        self.delays.next_due()
    }

    /// Until when the head of `key` is delayed, if it is.
    pub fn delayed_until(&self, key: &K) -> Option<Instant> {
        self.delays.due(key)
    }

    /// Adds a reason not to start anything of `key`, for example a request that an earlier owner still has in flight.
    /// What runs goes on. Every call is undone by one [`unblock`](Self::unblock).
    #[expect(clippy::needless_pass_by_value, reason = "a key that is blocked names a lane, as in a map")]
    pub fn block(&mut self, key: K) {
        self.lane(&key).blocks += 1;
        self.refresh(&key);
    }

    /// Takes one reason away.
    ///
    /// Panics if there is none.
    pub fn unblock(&mut self, key: &K) {
        let lane = self.by_key.get_mut(key).expect("an unblocked key has a lane");
        assert!(lane.blocks > 0, "a key was unblocked more often than blocked");
        lane.blocks -= 1;
        self.refresh(key);
    }

    /// How many reasons there are not to start anything of `key`.
    pub fn blocks(&self, key: &K) -> u32 {
        self.by_key.get(key).map_or(0, |lane| lane.blocks)
    }

    /// Takes out the waiting work for which `predicate` holds, in the order of keys and, within a key, of arrival.
    /// A delay goes with the head it was for.
    pub fn remove_waiting(&mut self, mut predicate: impl FnMut(&K, &W) -> bool) -> Vec<(K, W)> {
        let mut removed = Vec::new();
        let mut touched = Vec::new();
        for (key, lane) in &mut self.by_key {
            let removed_before = removed.len();
            let mut is_head = true;
            let mut head_removed = false;
            for _ in 0..lane.waiting.len() {
                let work = lane.waiting.pop_front().expect("as many as counted");
                if predicate(key, &work) {
                    head_removed |= is_head;
                    removed.push((key.clone(), work));
                } else {
                    lane.waiting.push_back(work);
                }
                is_head = false;
            }
            if removed.len() > removed_before {
                if head_removed && lane.delayed {
                    lane.delayed = false;
                    assert!(self.delays.cancel(key).is_some(), "a delayed key has no timer");
                }
                touched.push(key.clone());
            }
        }
        self.waiting -= removed.len();
        for key in touched {
            self.refresh(&key);
        }
        removed
    }

    /// What runs for `key`.
    pub fn running(&self, key: &K) -> Option<&W> {
        self.by_key.get(key)?.running.as_ref()
    }

    /// What runs for `key`.
    pub fn running_mut(&mut self, key: &K) -> Option<&mut W> {
        self.by_key.get_mut(key)?.running.as_mut()
    }

    /// What waits for `key`, head first.
    pub fn waiting(&self, key: &K) -> impl Iterator<Item = &W> {
        self.by_key.get(key).into_iter().flat_map(|lane| &lane.waiting)
    }

    /// What waits for `key`, head first.
    pub fn waiting_mut(&mut self, key: &K) -> impl Iterator<Item = &mut W> {
        self.by_key.get_mut(key).into_iter().flat_map(|lane| &mut lane.waiting)
    }

    /// How much is waiting and running for `key`.
    pub fn len(&self, key: &K) -> usize {
        self.by_key.get(key).map_or(0, Lane::len)
    }

    /// How much waits, of all keys.
    pub const fn waiting_len(&self) -> usize {
        self.waiting
    }

    /// How much runs, of all keys.
    pub const fn running_len(&self) -> usize {
        self.running
    }

    /// How many keys [`start_next`](Self::start_next) could start now.
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Whether nothing waits, runs or is blocked.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The keys that have a lane, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.by_key.keys()
    }

    /// Everything that runs, in the order of keys.
    pub fn iter_running(&self) -> impl Iterator<Item = (&K, &W)> {
        self.by_key.iter().filter_map(|(key, lane)| Some((key, lane.running.as_ref()?)))
    }

    /// Everything that waits, in the order of keys and, within a key, of arrival.
    pub fn iter_waiting(&self) -> impl Iterator<Item = (&K, &W)> {
        self.by_key.iter().flat_map(|(key, lane)| lane.waiting.iter().map(move |work| (key, work)))
    }

    /// The lane of `key`, a new one if it has none.
    fn lane(&mut self, key: &K) -> &mut Lane<W> {
        if !self.by_key.contains_key(key) {
            let waiting = self.spares.pop().unwrap_or_default();
            self.by_key.insert(key.clone(), Lane::new(waiting));
        }
        self.by_key.get_mut(key).expect("it is there or was just made")
    }

    /// Brings the ready list and the existence of the lane of `key` in line with its state.
    fn refresh(&mut self, key: &K) {
        let Some(lane) = self.by_key.get_mut(key) else { return };
        match (lane.is_ready(), lane.ticket) {
            (true, None) => {
                self.tickets += 1;
                lane.ticket = Some(self.tickets);
                self.ready.insert(self.tickets, key.clone());
            }
            (false, Some(ticket)) => {
                lane.ticket = None;
                assert!(self.ready.remove(&ticket).is_some(), "a ticket is not in the ready list");
            }
            (true, Some(_)) | (false, None) => {}
        }
        assert!(!lane.delayed || !lane.waiting.is_empty(), "a delay without anything that waits for it");
        assert!(!lane.delayed || lane.running.is_none(), "something runs ahead of a delayed head");
        if lane.is_gone() {
            let lane = self.by_key.remove(key).expect("it was just looked at");
            if self.spares.len() < SPARES_MAX && lane.waiting.capacity() > 0 {
                self.spares.push(lane.waiting);
            }
        }
    }
}

#[cfg(test)]
mod naive;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn at(secs: u64) -> Instant {
        Instant::START + Span::from_secs(secs)
    }

    fn filled(items: &[(char, u32)]) -> Lanes<char, u32> {
        let mut lanes = Lanes::new();
        for &(key, work) in items {
            lanes.push(key, work);
        }
        lanes
    }

    #[test]
    fn one_at_a_time_for_each_key_and_all_keys_at_once() {
        let mut lanes = filled(&[('a', 1), ('a', 2), ('b', 3)]);
        assert_eq!(lanes.start_next(), Some(('a', 1)));
        assert_eq!(lanes.start_next(), Some(('b', 3)));
        assert_eq!(lanes.start_next(), None);
        assert_eq!((lanes.waiting_len(), lanes.running_len(), lanes.len(&'a')), (1, 2, 2));
        assert_eq!(lanes.finish(&'a'), 1);
        assert_eq!(lanes.start_next(), Some(('a', 2)));
    }

    #[test]
    fn keys_take_turns_in_the_order_in_which_they_became_ready() {
        let mut lanes = filled(&[('c', 1), ('c', 2), ('a', 3), ('b', 4)]);
        assert_eq!(lanes.start_next(), Some(('c', 1)));
        lanes.finish(&'c');
        let order: Vec<_> = std::iter::from_fn(|| lanes.start_next()).collect();
        assert_eq!(order, [('a', 3), ('b', 4), ('c', 2)]);
    }

    #[test]
    fn a_lane_is_gone_when_it_is_empty() {
        let mut lanes = filled(&[('a', 1)]);
        lanes.start_next();
        assert!(!lanes.is_empty());
        lanes.finish(&'a');
        assert!(lanes.is_empty());
        assert_eq!(lanes.keys().count(), 0);
    }

    #[test]
    fn nothing_overtakes_what_waits_for_a_backoff() {
        let mut lanes = filled(&[('a', 1), ('a', 2)]);
        lanes.start_next();
        lanes.release_to_front(&'a', at(10));
        assert_eq!((lanes.next_wake(), lanes.delayed_until(&'a')), (Some(at(10)), Some(at(10))));
        assert_eq!(lanes.start_next(), None);
        lanes.push('a', 3);
        lanes.wake(at(9));
        assert_eq!(lanes.start_next(), None);
        lanes.wake(at(10));
        assert_eq!(lanes.next_wake(), None);
        assert_eq!(lanes.start_next(), Some(('a', 1)));
        assert_eq!(lanes.waiting(&'a').copied().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_delay_can_be_ended_before_its_time() {
        let mut lanes = filled(&[('a', 1)]);
        lanes.start_next();
        lanes.release_to_front(&'a', at(10));
        assert!(lanes.wake_key(&'a'));
        assert!(!lanes.wake_key(&'a'));
        assert_eq!(lanes.start_next(), Some(('a', 1)));
    }

    #[test]
    fn every_block_has_to_be_undone() {
        let mut lanes = filled(&[('a', 1)]);
        lanes.block('a');
        lanes.block('a');
        lanes.unblock(&'a');
        assert_eq!(lanes.start_next(), None);
        lanes.unblock(&'a');
        assert_eq!(lanes.start_next(), Some(('a', 1)));
    }

    #[test]
    fn a_block_outlives_the_work_and_holds_back_what_comes_later() {
        let mut lanes = filled(&[('a', 1)]);
        lanes.start_next();
        lanes.block('a');
        assert_eq!(lanes.finish(&'a'), 1);
        assert_eq!(lanes.blocks(&'a'), 1);
        lanes.push('a', 2);
        assert_eq!(lanes.start_next(), None);
        lanes.unblock(&'a');
        assert_eq!(lanes.start_next(), Some(('a', 2)));
        lanes.finish(&'a');
        lanes.block('b');
        lanes.unblock(&'b');
        assert!(lanes.is_empty());
    }

    #[test]
    #[should_panic(expected = "unblocked more often than blocked")]
    fn undoing_a_block_twice_is_a_broken_invariant() {
        filled(&[('a', 1)]).unblock(&'a');
    }

    #[test]
    fn a_delay_goes_with_the_head_it_was_for() {
        let mut lanes = filled(&[('a', 1), ('a', 2)]);
        lanes.start_next();
        lanes.release_to_front(&'a', at(10));
        assert_eq!(lanes.remove_waiting(|_, &work| work == 1), [('a', 1)]);
        assert_eq!(lanes.next_wake(), None);
        assert_eq!(lanes.start_next(), Some(('a', 2)));
    }

    #[test]
    fn waiting_and_running_work_can_be_changed_in_place() {
        let mut lanes = filled(&[('a', 1), ('a', 2), ('a', 3)]);
        lanes.start_next();
        lanes.waiting_mut(&'a').for_each(|work| *work *= 10);
        if let Some(work) = lanes.running_mut(&'a') {
            *work = 7;
        }
        assert_eq!(lanes.iter_running().collect::<Vec<_>>(), [(&'a', &7)]);
        assert_eq!(lanes.iter_waiting().collect::<Vec<_>>(), [(&'a', &20), (&'a', &30)]);
        assert_eq!(lanes.waiting_mut(&'b').count(), 0);
    }
}
