//! Timers as data: an ordered set of what is due when, one due time for each thing.

use std::collections::VecDeque;

use crate::time::Instant;

/// Things of type `T`, each due once. What is due at the same instant comes out in the order of `T`. There are never so many that
/// moving some of them about would cost more than a tree.
#[derive(Clone, Debug)]
pub struct Timers<T> {
    /// In the order in which they are due.
    due: VecDeque<(Instant, T)>,
    /// In the order of what is due.
    of: Vec<(T, Instant)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { due: VecDeque::new(), of: Vec::new() }
    }
}

impl<T: Ord + Clone> Timers<T> {
    /// No timers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `what` due at `at`, instead of when it was due before.
    pub fn set(&mut self, what: T, at: Instant) {
        match self.search(&what) {
            Ok(index) if self.of[index].1 == at => return,
            Ok(index) => {
                let before = std::mem::replace(&mut self.of[index].1, at);
                self.remove_due(before, &what);
            }
            Err(index) => self.of.insert(index, (what.clone(), at)),
        }
        let index = self.search_due(at, &what).expect_err("both sides hold the same timers");
        self.due.insert(index, (at, what));
        self.check();
    }

    /// Forgets `what`; returns when it was due.
    pub fn cancel(&mut self, what: &T) -> Option<Instant> {
        let (what, at) = self.of.remove(self.search(what).ok()?);
        self.remove_due(at, &what);
        self.check();
        Some(at)
    }

    /// When `what` is due.
    pub fn due(&self, what: &T) -> Option<Instant> {
        self.search(what).ok().map(|index| self.of[index].1)
    }

    /// When the first timer is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.front().map(|&(at, _)| at)
    }

    /// Takes out the first timer that is due at `now` or was due before. Call it until it returns nothing.
    pub fn pop_due(&mut self, now: Instant) -> Option<T> {
        let (at, what) = self.due.pop_front_if(|(at, _)| *at <= now)?;
        let index = self.search(&what).expect("a timer was due but not known");
        let (_, known) = self.of.remove(index);
        assert_eq!(known, at, "a timer was due when it was not known to be");
        self.check();
        Some(what)
    }

    fn search(&self, what: &T) -> Result<usize, usize> {
        self.of.binary_search_by(|(known, _)| known.cmp(what))
    }

    fn search_due(&self, at: Instant, what: &T) -> Result<usize, usize> {
        self.due.binary_search_by(|(due, known)| due.cmp(&at).then_with(|| known.cmp(what)))
    }

    fn remove_due(&mut self, at: Instant, what: &T) {
        let index = self.search_due(at, what).expect("a timer was known but not due");
        self.due.remove(index);
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// The timers in the order in which they are due.
    pub fn iter(&self) -> impl Iterator<Item = (Instant, &T)> {
        self.due.iter().map(|(at, what)| (*at, what))
    }

    fn check(&self) {
        assert_eq!(self.due.len(), self.of.len(), "the two sides hold different timers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn setting_again_replaces_and_cancelling_forgets() {
        let mut timers = Timers::new();
        timers.set("poll", at(10));
        timers.set("save", at(20));
        timers.set("poll", at(30));
        assert_eq!(timers.next_due(), Some(at(20)));
        assert_eq!(timers.pop_due(at(19)), None);
        assert_eq!(timers.pop_due(at(20)), Some("save"));
        assert_eq!(timers.cancel(&"poll"), Some(at(30)));
        assert_eq!(timers.cancel(&"poll"), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn equal_times_come_out_in_the_order_of_what_is_due() {
        let mut timers = Timers::new();
        for what in [3, 1, 2] {
            timers.set(what, at(5));
        }
        let order: Vec<_> = std::iter::from_fn(|| timers.pop_due(at(5))).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(u8, u64),
        Cancel(u8),
        Pop(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0u8..8, 0u64..40).prop_map(|(what, at)| Op::Set(what, at)),
            (0u8..8).prop_map(Op::Cancel),
            (0u64..40).prop_map(Op::Pop),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_searched_from_end_to_end(ops in prop::collection::vec(op(), 0..120)) {
            let mut timers = Timers::new();
            let mut naive: Vec<(u64, u8)> = Vec::new();
            for op in ops {
                match op {
                    Op::Set(what, when) => {
                        timers.set(what, at(when));
                        naive.retain(|&(_, other)| other != what);
                        naive.push((when, what));
                        naive.sort_unstable();
                    }
                    Op::Cancel(what) => {
                        let expected = naive.iter().position(|&(_, other)| other == what).map(|i| naive.remove(i));
                        prop_assert_eq!(timers.cancel(&what), expected.map(|(when, _)| at(when)));
                    }
                    Op::Pop(now) => {
                        let due = naive.first().is_some_and(|&(when, _)| when <= now);
                        let expected = due.then(|| naive.remove(0).1);
                        prop_assert_eq!(timers.pop_due(at(now)), expected);
                    }
                }
                prop_assert_eq!(timers.next_due(), naive.first().map(|&(when, _)| at(when)));
                prop_assert_eq!(timers.len(), naive.len());
                for what in 0..8 {
                    let expected = naive.iter().find(|&&(_, other)| other == what).map(|&(when, _)| at(when));
                    prop_assert_eq!(timers.due(&what), expected);
                }
            }
        }
    }
}
