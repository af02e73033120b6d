//! Who owns which partition: the membership of one consumer group inside one process.
//!
//! Plain state without I/O or waiting. It follows Kafka's eager protocol: every change of membership revokes every
//! assignment, waits until the owners have released theirs or the drain limit has passed, then hands out a new
//! generation. The generation is the epoch of the assignment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use backbeat_core::id::{Epoch, Partition, Topic};
use tokio::time::Instant;

use super::Slot;

/// A member of a group, in the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId(pub(crate) u64);

/// What a member has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Assigned { epoch: Epoch, slots: Vec<Slot> },
    Revoked { epoch: Epoch, slots: Vec<Slot> },
    Lost { epoch: Epoch, slots: Vec<Slot> },
}

#[derive(Debug)]
struct Holding {
    epoch: Epoch,
    slots: Vec<Slot>,
    /// The owner took the `Assigned` notice, so it may be working.
    seen: bool,
    draining: bool,
}

#[derive(Debug)]
struct Member {
    topics: Vec<(Topic, u32)>,
    holding: Option<Holding>,
    notices: VecDeque<Notice>,
    /// Thrown out for draining too long; joins again when it learns of it.
    out: bool,
}

/// The state of one group.
#[derive(Debug)]
pub(crate) struct GroupState {
    members: BTreeMap<MemberId, Member>,
    epoch: Epoch,
    drain_limit: Duration,
    /// While a rebalance waits for owners: when it stops waiting.
    deadline: Option<Instant>,
}

impl GroupState {
    pub(crate) fn new(drain_limit: Duration) -> Self {
        Self { members: BTreeMap::new(), epoch: Epoch(0), drain_limit, deadline: None }
    }

    /// When [`GroupState::expire`] has something to do, if ever.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn join(&mut self, member: MemberId, topics: Vec<(Topic, u32)>, now: Instant) {
        let previous = self
            .members
            .insert(member, Member { topics, holding: None, notices: VecDeque::new(), out: false });
        assert!(previous.is_none(), "a member joins once");
        self.rebalance(now);
    }

    /// Removes a member with whatever it holds. False if it had left before.
    pub(crate) fn leave(&mut self, member: MemberId, now: Instant) -> bool {
        if self.members.remove(&member).is_none() {
            return false;
        }
        self.rebalance(now);
        true
    }

    /// Ends the drain of `epoch` by `member`; anything else is ignored.
    pub(crate) fn release(&mut self, member: MemberId, epoch: Epoch) {
        let Some(state) = self.members.get_mut(&member) else { return };
        if state.holding.as_ref().is_some_and(|holding| holding.draining && holding.epoch == epoch) {
            state.holding = None;
            self.complete_if_drained();
        }
    }

    /// Throws out the members that did not release in time. True if that changed anything.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return false;
        }
        for state in self.members.values_mut() {
            if let Some(Holding { epoch, slots, .. }) = state.holding.take_if(|holding| holding.draining) {
                state.out = true;
                state.notices.clear();
                state.notices.push_back(Notice::Lost { epoch, slots });
            }
        }
        self.complete_if_drained();
        true
    }

    /// The next thing to tell `member`. Learning of a loss makes it join again.
    pub(crate) fn take_notice(&mut self, member: MemberId, now: Instant) -> Option<Notice> {
        let state = self.members.get_mut(&member)?;
        let notice = state.notices.pop_front()?;
        match &notice {
            Notice::Assigned { epoch, .. } => {
                if let Some(holding) = state.holding.as_mut().filter(|holding| holding.epoch == *epoch) {
                    holding.seen = true;
                }
            }
            Notice::Lost { .. } => {
                state.out = false;
                self.rebalance(now);
            }
            Notice::Revoked { .. } => {}
        }
        Some(notice)
    }

    /// Whether `member` belongs to the group.
    pub(crate) fn has(&self, member: MemberId) -> bool {
        self.members.contains_key(&member)
    }

    /// The assignment of which `member` may receive messages.
    pub(crate) fn delivering(&self, member: MemberId) -> Option<Epoch> {
        let holding = self.members.get(&member)?.holding.as_ref()?;
        (!holding.draining && holding.seen).then_some(holding.epoch)
    }

    /// Whether `member` may commit to `slot` in the name of `epoch`.
    pub(crate) fn may_commit(&self, member: MemberId, epoch: Epoch, slot: &Slot) -> bool {
        self.members
            .get(&member)
            .and_then(|state| state.holding.as_ref())
            .is_some_and(|holding| holding.epoch == epoch && holding.slots.contains(slot))
    }

    fn rebalance(&mut self, now: Instant) {
        for state in self.members.values_mut() {
            match &mut state.holding {
                // It never heard of this assignment: there is nothing to drain.
                Some(holding) if !holding.seen => {
                    state.holding = None;
                    state.notices.retain(|notice| !matches!(notice, Notice::Assigned { .. }));
                }
                Some(holding) if !holding.draining => {
                    holding.draining = true;
                    let (epoch, slots) = (holding.epoch, holding.slots.clone());
                    state.notices.push_back(Notice::Revoked { epoch, slots });
                }
                Some(_) | None => {}
            }
        }
        if self.deadline.is_none() {
            self.deadline = Some(now + self.drain_limit);
        }
        self.complete_if_drained();
    }

    fn complete_if_drained(&mut self) {
        if self.deadline.is_none() || self.members.values().any(|state| state.holding.is_some()) {
            return;
        }
        self.deadline = None;
        self.epoch = Epoch(self.epoch.0 + 1);
        let present = self.members.iter().filter(|(_, state)| !state.out);
        let mut shares = range_assignment(present.map(|(member, state)| (*member, state.topics.as_slice())));
        for (member, state) in self.members.iter_mut().filter(|(_, state)| !state.out) {
            let slots = shares.remove(member).unwrap_or_default();
            state.notices.push_back(Notice::Assigned { epoch: self.epoch, slots: slots.clone() });
            state.holding = Some(Holding { epoch: self.epoch, slots, seen: false, draining: false });
        }
    }
}

/// Kafka's range assignor: each topic's partitions are cut into contiguous ranges, one a subscribed member in member
/// order, the first ones longer by one if it does not come out even. Members that subscribe to the same topics of equal
/// partition counts therefore get the same partition numbers of each.
fn range_assignment<'a>(
    members: impl Iterator<Item = (MemberId, &'a [(Topic, u32)])>,
) -> BTreeMap<MemberId, Vec<Slot>> {
    let mut subscribers: BTreeMap<&Topic, (u32, Vec<MemberId>)> = BTreeMap::new();
    for (member, topics) in members {
        for (topic, partitions) in topics {
            subscribers.entry(topic).or_insert((*partitions, Vec::new())).1.push(member);
        }
    }
    let mut shares: BTreeMap<MemberId, Vec<Slot>> = BTreeMap::new();
    for (topic, (partitions, members)) in subscribers {
        let count = u32::try_from(members.len()).expect("fewer members than u32::MAX");
        let (each, longer) = (partitions / count, partitions % count);
        let mut partition = 0;
        for (index, member) in (0_u32..).zip(members) {
            let end = partition + each + u32::from(index < longer);
            shares
                .entry(member)
                .or_default()
                .extend((partition..end).map(|partition| Slot::new(topic, Partition(partition))));
            partition = end;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> Vec<(Topic, u32)> {
        names.iter().map(|name| (Topic::from(*name), 4)).collect()
    }

    fn assigned(group: &mut GroupState, member: u64, now: Instant) -> (Epoch, Vec<Slot>) {
        match group.take_notice(MemberId(member), now) {
            Some(Notice::Assigned { epoch, slots }) => (epoch, slots),
            other => panic!("expected an assignment, got {other:?}"),
        }
    }

    #[test]
    fn the_same_partition_of_every_topic_goes_to_the_same_member() {
        let subscribed = topics(&["main", "replay-0"]);
        let shares = range_assignment((1..=3).map(|member| (MemberId(member), subscribed.as_slice())));
        let mut seen = 0;
        for slots in shares.values() {
            let of = |name: &str| {
                slots.iter().filter(|s| s.topic.as_str() == name).map(|s| s.partition).collect::<Vec<_>>()
            };
            assert_eq!(of("main"), of("replay-0"));
            seen += slots.len();
        }
        assert_eq!(seen, 8);
        assert_eq!(shares[&MemberId(1)].len(), 4);
    }

    #[test]
    fn a_late_drainer_is_thrown_out_and_joins_again() {
        let now = Instant::now();
        let mut group = GroupState::new(Duration::from_secs(5));
        group.join(MemberId(1), topics(&["main"]), now);
        let (first, slots) = assigned(&mut group, 1, now);
        assert_eq!(slots.len(), 4);
        group.join(MemberId(2), topics(&["main"]), now);
        assert!(
            matches!(group.take_notice(MemberId(1), now), Some(Notice::Revoked { epoch, .. }) if epoch == first)
        );
        assert!(group.may_commit(MemberId(1), first, &slots[0]), "draining may still commit");
        assert!(group.take_notice(MemberId(2), now).is_none(), "nothing is assigned before the drain ends");

        let late = now + Duration::from_secs(5);
        assert!(group.expire(late));
        assert!(!group.may_commit(MemberId(1), first, &slots[0]));
        let (second, all) = assigned(&mut group, 2, late);
        assert!(second > first);
        assert_eq!(all.len(), 4);

        assert!(
            matches!(group.take_notice(MemberId(1), late), Some(Notice::Lost { epoch, .. }) if epoch == first)
        );
        assert!(matches!(group.take_notice(MemberId(2), late), Some(Notice::Revoked { .. })));
        group.release(MemberId(2), second);
        assert_eq!(assigned(&mut group, 1, late).1.len(), 2);
        assert_eq!(assigned(&mut group, 2, late).1.len(), 2);
    }

    #[test]
    fn an_assignment_that_was_never_seen_needs_no_drain() {
        let now = Instant::now();
        let mut group = GroupState::new(Duration::from_secs(5));
        group.join(MemberId(1), topics(&["main"]), now);
        group.join(MemberId(2), topics(&["main"]), now);
        let (epoch, slots) = assigned(&mut group, 1, now);
        assert_eq!((epoch, slots.len()), (Epoch(2), 2));
        assert!(group.deadline().is_none());
    }

    #[test]
    fn a_release_of_another_epoch_is_ignored() {
        let now = Instant::now();
        let mut group = GroupState::new(Duration::from_secs(5));
        group.join(MemberId(1), topics(&["main"]), now);
        let (epoch, slots) = assigned(&mut group, 1, now);
        group.release(MemberId(1), epoch);
        assert!(
            group.may_commit(MemberId(1), epoch, &slots[0]),
            "a release without revocation changes nothing"
        );
    }
}
