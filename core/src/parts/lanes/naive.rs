//! Lanes against a model in which every key has a lane always and everything is searched from end to end.

use proptest::prelude::*;

use super::Lanes;
use crate::time::{Instant, Span};

fn at(secs: u64) -> Instant {
    Instant::START + Span::from_secs(secs)
}

#[derive(Clone, Debug)]
enum Op {
    Push(u8),
    Start,
    Finish(u8),
    Release(u8, u64),
    Block(u8),
    Unblock(u8),
    Remove(u32),
    Advance(u64),
    WakeKey(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0u8..5;
    prop_oneof![
        6 => key().prop_map(Op::Push),
        5 => Just(Op::Start),
        3 => key().prop_map(Op::Finish),
        2 => (key(), 0u64..6).prop_map(|(key, delay)| Op::Release(key, delay)),
        1 => key().prop_map(Op::Block),
        1 => key().prop_map(Op::Unblock),
        1 => (1u32..6).prop_map(Op::Remove),
        2 => (0u64..4).prop_map(Op::Advance),
        1 => key().prop_map(Op::WakeKey),
    ]
}

#[derive(Clone, Debug, Default)]
struct NaiveLane {
    running: Option<u32>,
    waiting: Vec<u32>,
    blocks: u32,
    delay: Option<u64>,
}

/// Every key has a lane always, and the ready list is searched from end to end.
#[derive(Default)]
struct Naive {
    lanes: [NaiveLane; 5],
    ready: Vec<u8>,
}

impl Naive {
    fn lane(&mut self, key: u8) -> &mut NaiveLane {
        &mut self.lanes[usize::from(key)]
    }

    fn refresh(&mut self) {
        for (key, lane) in (0..).zip(&self.lanes) {
            let ready = lane.running.is_none()
                && !lane.waiting.is_empty()
                && lane.blocks == 0
                && lane.delay.is_none();
            if !ready {
                self.ready.retain(|&other| other != key);
            } else if !self.ready.contains(&key) {
                self.ready.push(key);
            }
        }
    }

    fn wake(&mut self, now: u64) {
        let mut due: Vec<(u64, u8)> =
            (0..).zip(&self.lanes).filter_map(|(key, lane)| Some((lane.delay?, key))).collect();
        due.sort_unstable();
        for (_, key) in due.into_iter().filter(|&(when, _)| when <= now) {
            self.lane(key).delay = None;
            self.refresh();
        }
    }

    fn remove(&mut self, every: u32) -> Vec<(u8, u32)> {
        let mut removed = Vec::new();
        for (key, lane) in (0..).zip(&mut self.lanes) {
            let head = lane.waiting.first().copied();
            removed.extend(lane.waiting.extract_if(.., |work| *work % every == 0).map(|work| (key, work)));
            if head.is_some_and(|work| work % every == 0) {
                lane.delay = None;
            }
        }
        removed
    }
}

proptest! {
    #[test]
    fn agrees_with_lanes_searched_from_end_to_end(ops in prop::collection::vec(op(), 0..200)) {
        let mut lanes: Lanes<u8, u32> = Lanes::new();
        let mut naive = Naive::default();
        let mut now = 0;
        let mut work = 0;
        let mut last_started = [0u32; 5];
        for op in ops {
            match op {
                Op::Push(key) => {
                    work += 1;
                    lanes.push(key, work);
                    naive.lane(key).waiting.push(work);
                }
                Op::Start => {
                    let expected = naive.ready.first().copied().map(|key| {
                        let lane = naive.lane(key);
                        let work = lane.waiting.remove(0);
                        lane.running = Some(work);
                        (key, work)
                    });
                    prop_assert_eq!(lanes.start_next(), expected);
                    if let Some((key, work)) = expected {
                        // First in, first out: work is numbered as pushed, and only a release repeats a number.
                        prop_assert!(work >= last_started[usize::from(key)]);
                        last_started[usize::from(key)] = work;
                    }
                }
                Op::Finish(key) => {
                    if let Some(work) = naive.lane(key).running.take() {
                        prop_assert_eq!(lanes.finish(&key), work);
                    }
                }
                Op::Release(key, delay) => {
                    if let Some(work) = naive.lane(key).running.take() {
                        naive.lane(key).waiting.insert(0, work);
                        naive.lane(key).delay = Some(now + delay);
                        lanes.release_to_front(&key, at(now + delay));
                    }
                }
                Op::Block(key) => {
                    lanes.block(key);
                    naive.lane(key).blocks += 1;
                }
                Op::Unblock(key) => {
                    if naive.lane(key).blocks > 0 {
                        lanes.unblock(&key);
                        naive.lane(key).blocks -= 1;
                    }
                }
                Op::Remove(every) => {
                    let removed = lanes.remove_waiting(|_, work| work % every == 0);
                    prop_assert_eq!(removed, naive.remove(every));
                }
                Op::Advance(by) => {
                    now += by;
                    lanes.wake(at(now));
                    naive.wake(now);
                }
                Op::WakeKey(key) => {
                    let delayed = naive.lane(key).delay.take().is_some();
                    prop_assert_eq!(lanes.wake_key(&key), delayed);
                }
            }
            naive.refresh();
            prop_assert_eq!(lanes.ready_len(), naive.ready.len());
            let ready = lanes.ready.iter().map(|&(_, place)| lanes.places[place].key());
            prop_assert!(ready.eq(&naive.ready));
            prop_assert!(lanes.keys().is_sorted());
            prop_assert_eq!(lanes.free.len() + lanes.by_key.len(), lanes.places.len());
            prop_assert_eq!(lanes.next_wake(), naive.lanes.iter().filter_map(|lane| lane.delay).min().map(at));
            prop_assert_eq!(lanes.waiting_len(), naive.lanes.iter().map(|lane| lane.waiting.len()).sum::<usize>());
            prop_assert_eq!(lanes.running_len(), naive.lanes.iter().filter(|lane| lane.running.is_some()).count());
            for (key, lane) in (0u8..).zip(&naive.lanes) {
                let len = lane.waiting.len() + usize::from(lane.running.is_some());
                prop_assert_eq!(lanes.len(&key), len);
                prop_assert_eq!(lanes.running(&key), lane.running.as_ref());
                prop_assert!(lanes.waiting(&key).eq(&lane.waiting));
                prop_assert_eq!(lanes.keys().any(|other| *other == key), len > 0 || lane.blocks > 0);
            }
        }
    }
}
