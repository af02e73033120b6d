//! A budget of bytes shared by everything that moves data, so that memory is bounded whatever is being copied
//! (decision D10). Waiting requests are served in the order in which they asked: a large one is not starved.

use std::collections::VecDeque;

/// The budget a process has unless configured otherwise: 48 MiB (decision D10).
pub const BYTES_DEFAULT: u64 = 48 << 20;

/// Bytes that may be held at once, and who waits for some. `I` names a waiting request.
///
/// A request larger than the whole budget is granted when nothing else is out, so that it is slow and not stuck.
#[derive(Clone, Debug)]
pub struct Budget<I> {
    total: u64,
    used: u64,
    waiting: VecDeque<(I, u64)>,
}

impl<I: PartialEq> Budget<I> {
    /// A budget of `total` bytes.
    pub const fn new(total: u64) -> Self {
        Self { total, used: 0, waiting: VecDeque::new() }
    }

    /// Takes `bytes` if they are free and nobody waits. Takes nothing otherwise.
    pub fn try_take(&mut self, bytes: u64) -> bool {
        if !self.waiting.is_empty() || !self.fits(bytes) {
            return false;
        }
        self.take(bytes);
        true
    }

    /// Gives back bytes that were taken or granted. Those waiting may be served now: ask [`granted`](Self::granted).
    pub fn give_back(&mut self, bytes: u64) {
        assert!(bytes <= self.used, "{bytes} bytes given back, {} were out", self.used);
        self.used -= bytes;
    }

    /// Queues a request for `bytes`. It is served by [`granted`](Self::granted), also when the bytes are free now.
    pub fn ask(&mut self, id: I, bytes: u64) {
        self.waiting.push_back((id, bytes));
    }

    /// The request at the head of the queue, if its bytes are free: they are taken for it. Call it until it returns
    /// nothing after every [`ask`](Self::ask), [`give_back`](Self::give_back) and [`cancel`](Self::cancel).
    pub fn granted(&mut self) -> Option<I> {
        let &(_, bytes) = self.waiting.front()?;
        if !self.fits(bytes) {
            return None;
        }
        let (id, bytes) = self.waiting.pop_front()?;
        self.take(bytes);
        Some(id)
    }

    /// Withdraws a waiting request. `false` if it does not wait: never asked, or granted already, in which case its
    /// bytes are to be given back.
    pub fn cancel(&mut self, id: &I) -> bool {
        let Some(index) = self.waiting.iter().position(|(other, _)| other == id) else { return false };
        self.waiting.remove(index).is_some()
    }

    /// The whole budget.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that can still be taken.
    pub const fn free(&self) -> u64 {
        self.total.saturating_sub(self.used)
    }

    /// Bytes that are out.
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// How many requests wait.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    const fn fits(&self, bytes: u64) -> bool {
        self.used == 0 || bytes <= self.free()
    }

    fn take(&mut self, bytes: u64) {
        assert!(self.fits(bytes), "more bytes are taken than the budget has");
        self.used += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_larger_than_the_budget_is_granted_alone() {
        let mut budget: Budget<u8> = Budget::new(100);
        assert!(budget.try_take(1));
        assert!(!budget.try_take(500));
        budget.give_back(1);
        assert!(budget.try_take(500));
        assert_eq!((budget.used(), budget.free()), (500, 0));
        assert!(!budget.try_take(1));
        assert!(budget.try_take(0), "nothing always fits");
        budget.give_back(500);
        assert_eq!(budget.free(), 100);
    }

    #[test]
    fn a_large_request_is_not_overtaken_by_small_ones() {
        let mut budget = Budget::new(100);
        assert!(budget.try_take(60));
        budget.ask("large", 90);
        budget.ask("small", 10);
        assert_eq!(budget.granted(), None);
        assert!(!budget.try_take(10));
        budget.give_back(60);
        assert_eq!(budget.granted(), Some("large"));
        assert_eq!(budget.granted(), Some("small"));
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn cancelling_the_head_lets_the_next_one_through() {
        let mut budget = Budget::new(100);
        assert!(budget.try_take(60));
        budget.ask("large", 90);
        budget.ask("small", 10);
        assert!(budget.cancel(&"large"));
        assert!(!budget.cancel(&"large"));
        assert_eq!(budget.granted(), Some("small"));
        assert!(!budget.cancel(&"small"));
    }

    #[test]
    #[should_panic(expected = "given back")]
    fn giving_back_what_was_not_taken_is_a_broken_invariant() {
        let mut budget: Budget<u8> = Budget::new(100);
        assert!(budget.try_take(5));
        budget.give_back(6);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Take(u64),
        Ask(u64),
        Grant,
        GiveBack(usize),
        Cancel(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u64..150).prop_map(Op::Take),
            (0u64..150).prop_map(Op::Ask),
            Just(Op::Grant),
            (0usize..9).prop_map(Op::GiveBack),
            (0usize..9).prop_map(Op::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn never_exceeds_the_budget_and_serves_in_order(ops in prop::collection::vec(op(), 0..150)) {
            let mut budget = Budget::new(100);
            let mut out: Vec<u64> = Vec::new();
            let mut queue: Vec<(u32, u64)> = Vec::new();
            let mut ids = 0u32;
            for op in ops {
                let used: u64 = out.iter().sum();
                let fits = |bytes: u64| used == 0 || bytes == 0 || used + bytes <= 100;
                match op {
                    Op::Take(bytes) => {
                        let expected = queue.is_empty() && fits(bytes);
                        prop_assert_eq!(budget.try_take(bytes), expected);
                        if expected {
                            out.push(bytes);
                        }
                    }
                    Op::Ask(bytes) => {
                        ids += 1;
                        budget.ask(ids, bytes);
                        queue.push((ids, bytes));
                    }
                    Op::Grant => {
                        let head = queue.first().copied().filter(|&(_, bytes)| fits(bytes));
                        prop_assert_eq!(budget.granted(), head.map(|(id, _)| id));
                        if let Some((_, bytes)) = head {
                            queue.remove(0);
                            out.push(bytes);
                        }
                    }
                    Op::GiveBack(nth) if !out.is_empty() => budget.give_back(out.swap_remove(nth % out.len())),
                    Op::Cancel(nth) if !queue.is_empty() => {
                        let (id, _) = queue.remove(nth % queue.len());
                        prop_assert!(budget.cancel(&id));
                    }
                    Op::GiveBack(_) | Op::Cancel(_) => prop_assert!(!budget.cancel(&0)),
                }
                let used: u64 = out.iter().sum();
                prop_assert_eq!(budget.used(), used);
                prop_assert_eq!(budget.free(), 100u64.saturating_sub(used));
                prop_assert_eq!(budget.waiting_len(), queue.len());
                prop_assert!(used <= 100 || out.iter().filter(|&&bytes| bytes > 0).count() == 1);
            }
            // Once everything is given back, everything that waits is served: nobody is stuck.
            for bytes in out.drain(..) {
                budget.give_back(bytes);
            }
            while !queue.is_empty() {
                let (id, bytes) = queue.remove(0);
                prop_assert_eq!(budget.granted(), Some(id));
                budget.give_back(bytes);
            }
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
