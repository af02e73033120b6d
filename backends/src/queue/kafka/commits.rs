//! Commits of one member: at most one request under way, everything asked for meanwhile goes with the next.
//!
//! With one request at a time two commits of one partition never overtake each other, and many commits cost one round
//! trip.

use std::collections::BTreeMap;

use backbeat_core::call::Ending;
use backbeat_core::id::Offset;
use tokio::sync::oneshot;

use crate::queue::Slot;

type Waiters = Vec<oneshot::Sender<Ending<()>>>;

/// The commits of one member.
#[derive(Default)]
pub(super) struct Commits {
    waiting: BTreeMap<Slot, (Offset, Waiters)>,
    under_way: Option<BTreeMap<Slot, Waiters>>,
}

impl Commits {
    /// Whether nothing is asked for and nothing under way.
    pub(super) fn are_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Whether a request could be made.
    pub(super) fn are_waiting(&self) -> bool {
        self.under_way.is_none() && !self.waiting.is_empty()
    }

    /// Asks for a commit. Of several for one partition the last counts.
    pub(super) fn ask(&mut self, slot: Slot, upto: Offset, waiter: oneshot::Sender<Ending<()>>) {
        let (offset, waiters) = self.waiting.entry(slot).or_insert_with(|| (upto, Vec::new()));
        *offset = upto;
        waiters.push(waiter);
    }

    /// What the next request has to say, if one may be made now. It is under way from here on.
    pub(super) fn request(&mut self) -> Option<Vec<(Slot, Offset)>> {
        if !self.are_waiting() {
            return None;
        }
        let mut request = Vec::with_capacity(self.waiting.len());
        let mut under_way = BTreeMap::new();
        for (slot, (offset, waiters)) in std::mem::take(&mut self.waiting) {
            request.push((slot.clone(), offset));
            under_way.insert(slot, waiters);
        }
        self.under_way = Some(under_way);
        Some(request)
    }

    /// The request under way has ended; `ending` says how, for each partition.
    pub(super) fn ended(&mut self, ending: impl Fn(&Slot) -> Ending<()>) {
        for (slot, waiters) in self.under_way.take().into_iter().flatten() {
            answer(waiters, &ending(&slot));
        }
    }

    /// Nothing of what was asked for will be heard of again.
    pub(super) fn give_up(&mut self, ending: &Ending<()>) {
        self.ended(|_| Ending::Unknown);
        for (_, (_, waiters)) in std::mem::take(&mut self.waiting) {
            answer(waiters, ending);
        }
    }
}

fn answer(waiters: Waiters, ending: &Ending<()>) {
    for waiter in waiters {
        // Whoever asked may have gone.
        drop(waiter.send(ending.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_core::id::{Partition, Topic};

    fn slot(partition: u32) -> Slot {
        Slot::new(&Topic::from("topic"), Partition(partition))
    }

    #[test]
    fn what_is_asked_for_during_a_request_goes_with_the_next() {
        let mut commits = Commits::default();
        let (first, mut first_heard) = oneshot::channel();
        let (second, mut second_heard) = oneshot::channel();
        let (third, mut third_heard) = oneshot::channel();
        commits.ask(slot(0), Offset(1), first);
        assert_eq!(commits.request(), Some(vec![(slot(0), Offset(1))]));
        commits.ask(slot(0), Offset(5), second);
        commits.ask(slot(0), Offset(3), third);
        assert_eq!(commits.request(), None);
        commits.ended(|_| Ending::Applied(()));
        assert_eq!(first_heard.try_recv(), Ok(Ending::Applied(())));
        assert!(second_heard.try_recv().is_err());
        assert_eq!(commits.request(), Some(vec![(slot(0), Offset(3))]), "the last counts, even if lower");
        commits.ended(|_| Ending::Unknown);
        assert_eq!(second_heard.try_recv(), Ok(Ending::Unknown));
        assert_eq!(third_heard.try_recv(), Ok(Ending::Unknown));
        assert!(commits.are_done());
    }

    #[test]
    fn who_waits_is_told_when_nothing_will_be_heard() {
        let mut commits = Commits::default();
        let (first, mut first_heard) = oneshot::channel();
        let (second, mut second_heard) = oneshot::channel();
        commits.ask(slot(0), Offset(1), first);
        commits.request();
        commits.ask(slot(1), Offset(1), second);
        commits.give_up(&Ending::Unknown);
        assert_eq!(first_heard.try_recv(), Ok(Ending::Unknown));
        assert_eq!(second_heard.try_recv(), Ok(Ending::Unknown));
        assert!(commits.are_done());
    }
}
