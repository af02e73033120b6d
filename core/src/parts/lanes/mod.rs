//! Lanes: first in, first out for each key, parallel across keys.
//!
//! A key owns a queue and at most one running item. A key is ready when something waits, nothing runs, nobody blocks
//! it and its head is not delayed; ready keys are served in the order in which they became ready.
//!
//! Lanes keep their place in memory when they go, for lanes to come: once as much has been in them as ever will be, nothing is
//! allocated any more.

use std::collections::VecDeque;

use crate::parts::timers::Timers;
use crate::time::Instant;

/// The longest emptied queue that is kept for a lane to come.
const SPARE_MAX: usize = 64;

#[derive(Clone, Debug)]
struct Lane<K, W> {
    /// What it is the lane of; nothing while it waits to be used again.
    key: Option<K>,
    running: Option<W>,
    waiting: VecDeque<W>,
    /// How many reasons there are not to start anything.
    blocks: u32,
    /// Whether the head waits for its timer.
    delayed: bool,
    /// The place in the ready list, if the key is ready.
    ticket: Option<u64>,
}

impl<K, W> Lane<K, W> {
    const fn of(key: K) -> Self {
        Self {
            key: Some(key),
            running: None,
            waiting: VecDeque::new(),
            blocks: 0,
            delayed: false,
            ticket: None,
        }
    }

    fn key(&self) -> &K {
        self.key.as_ref().expect("a listed lane has a key")
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
    /// The lanes, in no order, and those that wait to be used again.
    places: Vec<Lane<K, W>>,
    /// Where the lanes are, in the order of their keys.
    by_key: Vec<usize>,
    /// Where lanes wait to be used again.
    free: Vec<usize>,
    /// Where the ready lanes are, by ticket: mostly the first one is taken.
    ready: VecDeque<(u64, usize)>,
    tickets: u64,
    delays: Timers<K>,
    waiting: usize,
    running: usize,
    stirred: u64,
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
            places: Vec::new(),
            by_key: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            tickets: 0,
            delays: Timers::new(),
            waiting: 0,
            running: 0,
            stirred: 0,
        }
    }

    /// Queues `work` behind everything else of `key`. The bound is the caller's: see [`len`](Self::len).
    pub fn push(&mut self, key: K, work: W) {
        let place = self.place(key);
        self.places[place].waiting.push_back(work);
        self.waiting += 1;
        self.refresh(place);
    }

    /// Starts the head of the key that has been ready the longest: it is running until [`finish`](Self::finish) or
    /// [`release_to_front`](Self::release_to_front).
    pub fn start_next(&mut self) -> Option<(K, W)>
    where
        W: Clone,
    {
        let place = self.start()?;
        let lane = &self.places[place];
        Some((lane.key().clone(), lane.running.clone().expect("it was just started")))
    }

    /// As [`start_next`](Self::start_next), without a copy of the work: see [`running`](Self::running).
    pub fn start_next_key(&mut self) -> Option<K> {
        let place = self.start()?;
        Some(self.places[place].key().clone())
    }

    fn start(&mut self) -> Option<usize> {
        let (_, place) = self.ready.pop_front()?;
        let lane = &mut self.places[place];
        lane.ticket = None;
        assert!(lane.is_ready(), "a key was listed as ready and is not");
        lane.running = lane.waiting.pop_front();
        self.waiting -= 1;
        self.running += 1;
        Some(place)
    }

    /// Ends what runs for `key` and returns it. The key becomes ready again if more waits.
    ///
    /// Panics if nothing runs: whoever reports an ending looks up first what it ends.
    pub fn finish(&mut self, key: &K) -> W {
        let place = self.find(key).expect("a finished key has a lane");
        let work = self.places[place].running.take().expect("a finished key was running");
        self.running -= 1;
        self.stirred += 1;
        self.refresh(place);
        work
    }

    /// Puts what runs for `key` back to the head of its queue. Nothing of the key starts before
    /// [`wake`](Self::wake) is told `not_before` or later.
    ///
    /// Panics if nothing runs.
    pub fn release_to_front(&mut self, key: &K, not_before: Instant) {
        let place = self.find(key).expect("a released key has a lane");
        let lane = &mut self.places[place];
        let work = lane.running.take().expect("a released key was running");
        lane.waiting.push_front(work);
        lane.delayed = true;
        self.running -= 1;
        self.stirred += 1;
        self.waiting += 1;
        self.delays.set(key.clone(), not_before);
        self.refresh(place);
    }

    /// Makes the keys ready whose delay is over.
    pub fn wake(&mut self, now: Instant) {
        while let Some(key) = self.delays.pop_due(now) {
            self.end_delay(&key);
        }
    }

    /// Ends the delay of `key` before its time. `false` if it has none.
    pub fn wake_key(&mut self, key: &K) -> bool {
        if self.delays.cancel(key).is_none() {
            return false;
        }
        self.end_delay(key);
        true
    }

    fn end_delay(&mut self, key: &K) {
        let place = self.find(key).expect("a delayed key has a lane");
        self.places[place].delayed = false;
        self.refresh(place);
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
    pub fn block(&mut self, key: K) {
        let place = self.place(key);
        self.places[place].blocks += 1;
        self.refresh(place);
    }

    /// Takes one reason away.
    ///
    /// Panics if there is none.
    pub fn unblock(&mut self, key: &K) {
        let place = self.find(key).expect("an unblocked key has a lane");
        let lane = &mut self.places[place];
        assert!(lane.blocks > 0, "a key was unblocked more often than blocked");
        lane.blocks -= 1;
        self.refresh(place);
    }

    /// How many reasons there are not to start anything of `key`.
    pub fn blocks(&self, key: &K) -> u32 {
        self.get(key).map_or(0, |lane| lane.blocks)
    }

    /// Takes out the waiting work for which `predicate` holds, in the order of keys and, within a key, of arrival.
    /// A delay goes with the head it was for.
    pub fn remove_waiting(&mut self, mut predicate: impl FnMut(&K, &W) -> bool) -> Vec<(K, W)> {
        let mut removed = Vec::new();
        let mut touched = Vec::new();
        for &place in &self.by_key {
            let Lane { key: Some(key), waiting, delayed, .. } = &mut self.places[place] else {
                panic!("a listed lane has no key");
            };
            let removed_before = removed.len();
            let mut is_head = true;
            let mut head_removed = false;
            for _ in 0..waiting.len() {
                let work = waiting.pop_front().expect("as many as counted");
                if predicate(key, &work) {
                    head_removed |= is_head;
                    removed.push((key.clone(), work));
                } else {
                    waiting.push_back(work);
                }
                is_head = false;
            }
            if removed.len() > removed_before {
                if head_removed && *delayed {
                    *delayed = false;
                    assert!(self.delays.cancel(key).is_some(), "a delayed key has no timer");
                }
                touched.push(place);
            }
        }
        self.waiting -= removed.len();
        self.stirred += removed.len() as u64;
        for place in touched {
            self.refresh(place);
        }
        removed
    }

    /// What runs for `key`.
    pub fn running(&self, key: &K) -> Option<&W> {
        self.get(key)?.running.as_ref()
    }

    /// What runs for `key`.
    pub fn running_mut(&mut self, key: &K) -> Option<&mut W> {
        let place = self.find(key)?;
        self.places[place].running.as_mut()
    }

    /// What waits for `key`, head first.
    pub fn waiting(&self, key: &K) -> impl Iterator<Item = &W> {
        self.get(key).into_iter().flat_map(|lane| &lane.waiting)
    }

    /// What waits for `key`, head first.
    pub fn waiting_mut(&mut self, key: &K) -> impl Iterator<Item = &mut W> {
        let place = self.find(key);
        place.map(|place| &mut self.places[place]).into_iter().flat_map(|lane| &mut lane.waiting)
    }

    /// How much is waiting and running for `key`.
    pub fn len(&self, key: &K) -> usize {
        self.get(key).map_or(0, Lane::len)
    }

    /// How much waits, of all keys.
    pub const fn waiting_len(&self) -> usize {
        self.waiting
    }

    /// How much runs, of all keys.
    pub const fn running_len(&self) -> usize {
        self.running
    }

    /// How often something stopped running or was taken out. While this stays the same, no lane that was full has room, and
    /// nothing new waits in it.
    pub const fn stirred(&self) -> u64 {
        self.stirred
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
        self.in_order().map(Lane::key)
    }

    /// Everything that runs, in the order of keys.
    pub fn iter_running(&self) -> impl Iterator<Item = (&K, &W)> {
        self.in_order().filter_map(|lane| Some((lane.key(), lane.running.as_ref()?)))
    }

    /// Everything that waits, in the order of keys and, within a key, of arrival.
    pub fn iter_waiting(&self) -> impl Iterator<Item = (&K, &W)> {
        self.in_order().flat_map(|lane| lane.waiting.iter().map(|work| (lane.key(), work)))
    }

    fn in_order(&self) -> impl Iterator<Item = &Lane<K, W>> {
        self.by_key.iter().map(|&place| &self.places[place])
    }

    /// Which of the listed lanes is that of `key`, or before which one it would be.
    fn search(&self, key: &K) -> Result<usize, usize> {
        self.by_key.binary_search_by(|&place| self.places[place].key().cmp(key))
    }

    /// Where the lane of `key` is.
    fn find(&self, key: &K) -> Option<usize> {
        self.search(key).ok().map(|index| self.by_key[index])
    }

    fn get(&self, key: &K) -> Option<&Lane<K, W>> {
        self.find(key).map(|place| &self.places[place])
    }

    /// Where the lane of `key` is, a new one if it has none.
    fn place(&mut self, key: K) -> usize {
        match self.search(&key) {
            Ok(index) => self.by_key[index],
            Err(index) => {
                let place = if let Some(place) = self.free.pop() {
                    self.places[place].key = Some(key);
                    place
                } else {
                    self.places.push(Lane::of(key));
                    self.places.len() - 1
                };
                self.by_key.insert(index, place);
                place
            }
        }
    }

    /// Brings the ready list and the existence of the lane at `place` in line with its state.
    fn refresh(&mut self, place: usize) {
        let lane = &mut self.places[place];
        match (lane.is_ready(), lane.ticket) {
            (true, None) => {
                self.tickets += 1;
                lane.ticket = Some(self.tickets);
                self.ready.push_back((self.tickets, place));
            }
            (false, Some(ticket)) => {
                lane.ticket = None;
                let index = self.ready.binary_search_by_key(&ticket, |&(listed, _)| listed);
                self.ready.remove(index.expect("a ticket is in the ready list"));
            }
            (true, Some(_)) | (false, None) => {}
        }
        assert!(!lane.delayed || !lane.waiting.is_empty(), "a delay without anything that waits for it");
        assert!(!lane.delayed || lane.running.is_none(), "something runs ahead of a delayed head");
        if lane.is_gone() {
            let index = self.search(self.places[place].key()).expect("a lane that goes was listed");
            self.by_key.remove(index);
            self.free.push(place);
            let lane = &mut self.places[place];
            lane.key = None;
            if lane.waiting.capacity() > SPARE_MAX {
                lane.waiting = VecDeque::new();
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
    fn what_ends_goes_back_or_is_taken_out_stirs_and_nothing_else() {
        let mut lanes = filled(&[('a', 1), ('a', 2)]);
        lanes.push('b', 3);
        lanes.block('b');
        lanes.unblock(&'b');
        lanes.start_next();
        assert_eq!(lanes.stirred(), 0);
        lanes.release_to_front(&'a', at(1));
        assert_eq!(lanes.stirred(), 1);
        lanes.wake(at(1));
        lanes.remove_waiting(|_, work| *work == 2);
        assert_eq!(lanes.stirred(), 2);
        let (key, _) = lanes.start_next().expect("two keys are ready");
        lanes.finish(&key);
        assert_eq!(lanes.stirred(), 3);
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
