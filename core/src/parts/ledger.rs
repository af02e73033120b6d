//! The ledger: positions are consumed in order, settled in any order, and committed as a contiguous prefix.
//!
//! It answers one question, "up to where may be committed?", and never answers with a position behind which something
//! is still open (replication reference 10.1; decision D8 uses it for the journal as well).

use std::collections::VecDeque;
use std::fmt::Debug;

use crate::id::{Offset, Seq};

/// A position in an ordered log: a queue offset or a journal sequence.
pub trait Position: Copy + Ord + Debug {
    /// The position as a number.
    fn number(self) -> u64;

    /// The position directly after this one.
    fn next(self) -> Self;
}

impl Position for Offset {
    fn number(self) -> u64 {
        self.0
    }

    fn next(self) -> Self {
        Self::next(self)
    }
}

impl Position for Seq {
    fn number(self) -> u64 {
        self.0
    }

    fn next(self) -> Self {
        Self::next(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot<P> {
    position: P,
    open: bool,
}

/// What was consumed and not yet committable, of one partition or one journal.
///
/// Memory is proportional to [`uncommitted`](Self::uncommitted), whatever the gaps between positions are; the caller
/// bounds it by not consuming more. Every operation is O(1) amortised on a log without gaps, O(log n) with gaps.
#[derive(Clone, Debug)]
pub struct Ledger<P = Offset> {
    start: P,
    latest: Option<P>,
    /// Strictly ascending. The front, if there is one, is open.
    slots: VecDeque<Slot<P>>,
    open: usize,
}

impl<P: Position> Ledger<P> {
    /// A ledger of which nothing is consumed yet; `start` is committable until something is.
    pub const fn new(start: P) -> Self {
        Self { start, latest: None, slots: VecDeque::new(), open: 0 }
    }

    /// Notes that `position` was read and is now open.
    ///
    /// A position after the latest one, adjacent or not, is appended: logs have gaps where records were compacted or
    /// are invisible. A position at or before the latest one is a rewind: everything at or after it is forgotten, to
    /// be consumed again, and the position is appended.
    pub fn consumed(&mut self, position: P) {
        if self.latest.is_some_and(|latest| position <= latest) {
            while let Some(slot) = self.slots.pop_back_if(|slot| slot.position >= position) {
                self.open -= usize::from(slot.open);
            }
        }
        self.slots.push_back(Slot { position, open: true });
        self.open += 1;
        self.latest = Some(position);
        self.check();
    }

    /// Notes that the work of `position` is over. `false` if the position is not open: late and duplicate completions
    /// are normal and change nothing.
    pub fn settled(&mut self, position: P) -> bool {
        let Some(index) = self.index(position) else { return false };
        let slot = &mut self.slots[index];
        if !slot.open {
            return false;
        }
        slot.open = false;
        self.open -= 1;
        let before = self.commit_point();
        while self.slots.pop_front_if(|slot| !slot.open).is_some() {}
        assert!(self.commit_point() >= before, "settling moved the commit point back");
        self.check();
        true
    }

    /// The position that may be committed: everything before it is settled. It is the first open position, else the
    /// one after the latest consumed, else the start.
    pub fn commit_point(&self) -> P {
        self.oldest_open().or_else(|| self.latest.map(P::next)).unwrap_or(self.start)
    }

    /// How many positions are open.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// How many consumed positions are not committable yet: the open ones and those settled behind an open one.
    pub fn uncommitted(&self) -> usize {
        self.slots.len()
    }

    /// Whether `position` is open.
    pub fn is_open(&self, position: P) -> bool {
        self.index(position).is_some_and(|index| self.slots[index].open)
    }

    /// The first open position: the one that holds the commit point back.
    pub fn oldest_open(&self) -> Option<P> {
        self.slots.front().map(|slot| slot.position)
    }

    /// The position consumed last.
    pub const fn highest_consumed(&self) -> Option<P> {
        self.latest
    }

    /// The open positions in ascending order.
    pub fn iter_open(&self) -> impl Iterator<Item = P> + '_ {
        self.slots.iter().filter(|slot| slot.open).map(|slot| slot.position)
    }

    /// Where `position` is kept. Positions ascend strictly, so it is at most as many slots behind the front as the
    /// numbers differ, and exactly there when the log has no gap.
    fn index(&self, position: P) -> Option<usize> {
        let front = self.slots.front()?.position;
        let distance = position.number().checked_sub(front.number())?;
        let limit = usize::try_from(distance).unwrap_or(usize::MAX);
        if self.slots.get(limit).is_some_and(|slot| slot.position == position) {
            return Some(limit);
        }
        self.slots.binary_search_by(|slot| slot.position.cmp(&position)).ok()
    }

    fn check(&self) {
        assert!(self.open <= self.slots.len(), "more open positions than positions kept");
        assert!(
            self.slots.front().is_none_or(|slot| slot.open),
            "the commit point is held back by a settled position"
        );
        assert!(
            self.slots.back().is_none_or(|slot| Some(slot.position) <= self.latest),
            "a position is kept that is later than the latest consumed"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn consume_all(range: std::ops::RangeInclusive<u64>) -> Ledger {
        let mut ledger = Ledger::new(Offset(42));
        for offset in range {
            ledger.consumed(Offset(offset));
        }
        ledger
    }

    #[test]
    fn commits_the_contiguous_prefix_when_work_ends_out_of_order() {
        let mut ledger = consume_all(42..=51);
        let mut points = Vec::new();
        for offset in [46, 49, 50, 42, 51, 44, 48, 47, 43, 45] {
            assert!(ledger.settled(Offset(offset)));
            points.push(ledger.commit_point().0);
        }
        assert_eq!(points, [42, 42, 42, 43, 43, 43, 43, 43, 45, 52]);
        assert_eq!((ledger.open(), ledger.uncommitted()), (0, 0));
    }

    #[test]
    fn opens_again_what_is_consumed_again_after_a_rewind() {
        let mut ledger = consume_all(42..=51);
        let mut points = Vec::new();
        for offset in [46, 44, 50, 42, 51] {
            ledger.settled(Offset(offset));
            points.push(ledger.commit_point().0);
        }
        assert_eq!(points, [42, 42, 42, 43, 43]);
        points.clear();
        for (consumed, settled) in [(47, 49), (48, 43), (49, 45), (50, 47), (51, 48)] {
            ledger.consumed(Offset(consumed));
            ledger.settled(Offset(settled));
            points.push(ledger.commit_point().0);
        }
        assert_eq!(points, [43, 45, 47, 48, 49]);
    }

    #[test]
    fn the_start_is_committable_until_something_is_consumed() {
        let mut ledger = Ledger::new(Offset(7));
        assert_eq!(ledger.commit_point(), Offset(7));
        assert_eq!((ledger.oldest_open(), ledger.highest_consumed()), (None, None));
        assert!(!ledger.settled(Offset(7)));
        ledger.consumed(Offset(9));
        assert_eq!(ledger.commit_point(), Offset(9));
        assert!(ledger.settled(Offset(9)));
        assert!(!ledger.settled(Offset(9)));
        assert_eq!(ledger.commit_point(), Offset(10));
    }

    #[test]
    fn a_gap_costs_no_memory() {
        let mut ledger = Ledger::new(Seq(0));
        ledger.consumed(Seq(1));
        ledger.consumed(Seq(u64::MAX - 1));
        assert_eq!(ledger.uncommitted(), 2);
        assert!(!ledger.settled(Seq(1 << 40)));
        assert!(ledger.settled(Seq(1)));
        assert_eq!(ledger.commit_point(), Seq(u64::MAX - 1));
        assert!(ledger.settled(Seq(u64::MAX - 1)));
        assert_eq!(ledger.commit_point(), Seq(u64::MAX));
    }

    #[test]
    fn a_rewind_before_the_start_moves_the_commit_point_back() {
        let mut ledger = consume_all(42..=44);
        for offset in 42..=44 {
            ledger.settled(Offset(offset));
        }
        assert_eq!(ledger.commit_point(), Offset(45));
        ledger.consumed(Offset(40));
        assert_eq!(ledger.commit_point(), Offset(40));
        assert_eq!(ledger.highest_consumed(), Some(Offset(40)));
    }

    #[test]
    fn steady_state_does_not_allocate() {
        let mut ledger = Ledger::new(Offset(0));
        for offset in 0..64 {
            ledger.consumed(Offset(offset));
        }
        let capacity = ledger.slots.capacity();
        for offset in 64..10_000 {
            assert!(ledger.settled(Offset(offset - 64)));
            ledger.consumed(Offset(offset));
        }
        assert_eq!(ledger.slots.capacity(), capacity);
    }

    /// The reference's own words: a list of offsets being processed, and the latest.
    #[derive(Default)]
    struct Naive {
        processing: Vec<u64>,
        latest: Option<u64>,
    }

    impl Naive {
        fn consumed(&mut self, offset: u64) {
            if self.latest.is_some_and(|latest| offset != latest + 1) {
                self.processing.retain(|&other| other < offset);
            }
            self.processing.push(offset);
            self.latest = Some(offset);
        }

        fn settled(&mut self, offset: u64) -> bool {
            let before = self.processing.len();
            self.processing.retain(|&other| other != offset);
            before != self.processing.len()
        }

        fn commit_point(&self, start: u64) -> u64 {
            self.processing.first().copied().unwrap_or_else(|| self.latest.map_or(start, |latest| latest + 1))
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        /// Consume this far after the latest (1: the next one).
        Ahead(u64),
        /// Consume this far before the latest (0: the latest again).
        Rewind(u64),
        /// Settle this far after the start.
        Settle(u64),
        /// Settle an open one.
        SettleOpen(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => Just(Op::Ahead(1)),
            2 => (2u64..9).prop_map(Op::Ahead),
            1 => (0u64..12).prop_map(Op::Rewind),
            3 => (0u64..80).prop_map(Op::Settle),
            6 => (0usize..40).prop_map(Op::SettleOpen),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_the_list_of_the_reference(ops in prop::collection::vec(op(), 0..200)) {
            let start = 100;
            let mut ledger = Ledger::new(Offset(start));
            let mut naive = Naive::default();
            for op in ops {
                let latest = naive.latest.unwrap_or(start);
                match op {
                    Op::Ahead(by) => {
                        ledger.consumed(Offset(latest + by));
                        naive.consumed(latest + by);
                    }
                    Op::Rewind(by) => {
                        let offset = latest.saturating_sub(by);
                        ledger.consumed(Offset(offset));
                        naive.consumed(offset);
                    }
                    Op::Settle(by) => {
                        let offset = start + by;
                        prop_assert_eq!(ledger.settled(Offset(offset)), naive.settled(offset));
                    }
                    Op::SettleOpen(nth) => {
                        if !naive.processing.is_empty() {
                            let offset = naive.processing[nth % naive.processing.len()];
                            prop_assert!(ledger.is_open(Offset(offset)));
                            prop_assert!(ledger.settled(Offset(offset)));
                            prop_assert!(naive.settled(offset));
                        }
                    }
                }
                prop_assert_eq!(ledger.commit_point().0, naive.commit_point(start));
                prop_assert_eq!(ledger.open(), naive.processing.len());
                prop_assert_eq!(ledger.oldest_open().map(|o| o.0), naive.processing.first().copied());
                prop_assert_eq!(ledger.highest_consumed().map(|o| o.0), naive.latest);
                prop_assert!(ledger.iter_open().map(|o| o.0).eq(naive.processing.iter().copied()));
                prop_assert!(ledger.uncommitted() >= ledger.open());
                if ledger.open() == 0 {
                    prop_assert_eq!(ledger.uncommitted(), 0);
                }
            }
        }
    }
}
