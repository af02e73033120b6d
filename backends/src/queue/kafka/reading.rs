//! What a member has been given and its owner has not taken yet: events, and messages by partition.
//!
//! The thread of the member fills it, the owner empties it; neither waits for the other. Little waits here: of a partition
//! whose owner takes nothing the rest stays with the client, which reads ahead so much and no more.

use std::collections::VecDeque;

use backbeat_core::id::{Epoch, Offset};

use crate::queue::{ConsumerEvent, Message, QueueError, Slot};

/// Messages of one partition that wait for their owner, at most.
const LANE_MESSAGES_MAX: usize = 256;

/// Bytes of messages that wait for their owner, in all partitions together (and in each the one that passes its share).
const BYTES_MAX: usize = 8 << 20;

/// The least that a partition may keep waiting, bytes, however many partitions there are.
const LANE_BYTES_MIN: usize = 64 << 10;

/// One partition.
struct Lane {
    slot: Slot,
    /// Behind the last message that came.
    position: Offset,
    waiting: VecDeque<Message>,
    bytes: usize,
    is_paused: bool,
}

impl Lane {
    fn is_full(&self, bytes_max: usize) -> bool {
        self.waiting.len() >= LANE_MESSAGES_MAX || self.bytes >= bytes_max
    }

    /// Whether less than half of what may wait does: more is worth a look.
    fn is_low(&self, bytes_max: usize) -> bool {
        self.waiting.len() < LANE_MESSAGES_MAX / 2 && self.bytes < bytes_max / 2
    }
}

/// The partitions that the member owns.
struct Assignment {
    epoch: Epoch,
    lanes: Vec<Lane>,
    /// Bytes that wait in a lane, at most (and the message that passes that).
    lane_bytes_max: usize,
    is_revoked: bool,
}

/// What the owner takes.
pub(super) struct Taken {
    /// The event, or why there will be none.
    pub(super) event: Result<ConsumerEvent, QueueError>,
    /// Whether its partition has become low by that.
    pub(super) is_low: bool,
}

/// How an assignment that ends is ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Revocation {
    /// There is none, or its owner never heard of it: nothing to wait for.
    Unheard,
    /// Its owner is told, and releases it.
    Told,
}

/// See the module.
#[derive(Default)]
pub(super) struct Reading {
    events: VecDeque<ConsumerEvent>,
    assignment: Option<Assignment>,
    turn: usize,
    ended: Option<QueueError>,
}

impl Reading {
    /// A new assignment, and what of it was gone before it began.
    pub(super) fn assign(&mut self, epoch: Epoch, partitions: Vec<(Slot, Offset)>, gone: Vec<ConsumerEvent>) {
        let lane = |(slot, start): &(Slot, Offset)| Lane {
            slot: slot.clone(),
            position: *start,
            waiting: VecDeque::new(),
            bytes: 0,
            is_paused: false,
        };
        let lanes: Vec<Lane> = partitions.iter().map(lane).collect();
        let lane_bytes_max = (BYTES_MAX / lanes.len().max(1)).max(LANE_BYTES_MIN);
        self.assignment = Some(Assignment { epoch, lanes, lane_bytes_max, is_revoked: false });
        self.turn = 0;
        self.events.push_back(ConsumerEvent::Assigned { epoch, partitions });
        self.events.extend(gone);
    }

    /// The assignment is to end.
    pub(super) fn revoke(&mut self) -> Revocation {
        if !self.is_heard_of() {
            self.forget();
        }
        let Some(assignment) = &mut self.assignment else { return Revocation::Unheard };
        let epoch = assignment.epoch;
        assignment.is_revoked = true;
        for lane in &mut assignment.lanes {
            lane.waiting.clear();
            lane.bytes = 0;
        }
        let partitions = assignment.lanes.iter().map(|lane| lane.slot.clone()).collect();
        self.events.push_back(ConsumerEvent::Revoked { epoch, partitions });
        Revocation::Told
    }

    /// Whether the owner has been told of the assignment that there is.
    fn is_heard_of(&self) -> bool {
        !self.events.iter().any(|event| matches!(event, ConsumerEvent::Assigned { .. }))
    }

    /// The assignment has ended without consent. Says whether its owner is told.
    pub(super) fn lose(&mut self) -> bool {
        if !self.is_heard_of() {
            self.forget();
            return false;
        }
        let Some(Assignment { epoch, lanes, .. }) = self.assignment.take() else { return false };
        let partitions = lanes.into_iter().map(|lane| lane.slot).collect();
        self.events.push_back(ConsumerEvent::Lost { epoch, partitions });
        true
    }

    /// Its owner has given the revoked assignment `epoch` back. False if there is no such.
    pub(super) fn release(&mut self, epoch: Epoch) -> bool {
        let is_it = self.assignment.as_ref().is_some_and(|own| own.is_revoked && own.epoch == epoch);
        if is_it {
            self.assignment = None;
        }
        is_it
    }

    fn forget(&mut self) {
        self.assignment = None;
        self.events.retain(|event| match event {
            ConsumerEvent::Revoked { .. } | ConsumerEvent::Lost { .. } => true,
            ConsumerEvent::Assigned { .. } | ConsumerEvent::Gone { .. } | ConsumerEvent::Message(_) => false,
        });
    }

    /// There will be no more events, except those that are there, unless the owner itself wants none.
    pub(super) fn end(&mut self, why: QueueError) {
        if why == QueueError::Left {
            self.events.clear();
        }
        self.assignment = None;
        self.ended.get_or_insert(why);
    }

    /// Whether `slot` may be committed in the name of `epoch`.
    pub(super) fn may_commit(&self, epoch: Epoch, slot: &Slot) -> bool {
        self.assignment
            .as_ref()
            .is_some_and(|own| own.epoch == epoch && own.lanes.iter().any(|lane| lane.slot == *slot))
    }

    /// A message has come; says whether its partition takes another one.
    pub(super) fn arrive(&mut self, mut message: Message) -> bool {
        let Some(own) = self.assignment.as_mut().filter(|own| !own.is_revoked) else { return false };
        let bytes_max = own.lane_bytes_max;
        let Some(lane) = own.lanes.iter_mut().find(|lane| {
            lane.slot.partition == message.slot.partition && lane.slot.topic == message.slot.topic
        }) else {
            return false;
        };
        if message.offset >= lane.position {
            lane.position = message.offset.next();
            lane.bytes += size(&message);
            message.epoch = own.epoch;
            lane.waiting.push_back(message);
        }
        !lane.is_full(bytes_max)
    }

    /// Whether more of `slot` is wanted.
    pub(super) fn wants(&self, slot: &Slot) -> bool {
        self.assignment.as_ref().filter(|own| !own.is_revoked).is_some_and(|own| {
            own.lanes.iter().any(|lane| lane.slot == *slot && lane.is_low(own.lane_bytes_max))
        })
    }

    /// Where each partition would be read next.
    pub(super) fn positions(&self) -> Vec<(Slot, Offset)> {
        let own = self.assignment.iter().filter(|own| !own.is_revoked);
        own.flat_map(|own| &own.lanes).map(|lane| (lane.slot.clone(), lane.position)).collect()
    }

    /// Messages before `upto` are gone; reading goes on there.
    pub(super) fn jump(&mut self, slot: &Slot, upto: Offset) {
        let Some(own) = &mut self.assignment else { return };
        let epoch = own.epoch;
        for lane in own.lanes.iter_mut().filter(|lane| lane.slot == *slot) {
            let from = std::mem::replace(&mut lane.position, upto);
            self.events.push_back(ConsumerEvent::Gone { epoch, slot: slot.clone(), from, upto });
        }
    }

    /// Stops or continues the delivery of these partitions. An owner that has not heard of its assignment yet means an
    /// earlier one, which is over.
    pub(super) fn set_paused(&mut self, slots: &[Slot], is_paused: bool) {
        if !self.is_heard_of() {
            return;
        }
        for lane in self.assignment.iter_mut().flat_map(|own| &mut own.lanes) {
            if slots.contains(&lane.slot) {
                lane.is_paused = is_paused;
            }
        }
    }

    /// The next thing for the owner: what happens to it first, then messages, partition after partition.
    pub(super) fn take(&mut self) -> Option<Taken> {
        if let Some(event) = self.events.pop_front() {
            return Some(Taken { event: Ok(event), is_low: false });
        }
        if let Some(error) = &self.ended {
            return Some(Taken { event: Err(error.clone()), is_low: false });
        }
        let own = self.assignment.as_mut()?;
        let count = own.lanes.len();
        for index in (0..count).map(|step| (self.turn + step) % count) {
            let lane = &mut own.lanes[index];
            if lane.is_paused {
                continue;
            }
            let was_low = lane.is_low(own.lane_bytes_max);
            let Some(message) = lane.waiting.pop_front() else { continue };
            lane.bytes -= size(&message);
            let is_low = !was_low && lane.is_low(own.lane_bytes_max);
            self.turn = index + 1;
            return Some(Taken { event: Ok(ConsumerEvent::Message(message)), is_low });
        }
        None
    }
}

fn size(message: &Message) -> usize {
    let bytes = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    bytes(&message.key) + bytes(&message.payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_core::id::{Partition, Topic};
    use backbeat_core::time::WallTime;
    use bytes::Bytes;

    const EPOCH: Epoch = Epoch(7);

    fn slot(partition: u32) -> Slot {
        Slot::new(&Topic::from("topic"), Partition(partition))
    }

    fn message(partition: u32, offset: u64, bytes: usize) -> Message {
        Message {
            epoch: Epoch(0),
            slot: slot(partition),
            offset: Offset(offset),
            key: None,
            payload: Some(Bytes::from(vec![0; bytes])),
            timestamp: WallTime::default(),
        }
    }

    fn assigned(partitions: u32) -> Reading {
        let mut reading = Reading::default();
        reading.assign(EPOCH, (0..partitions).map(|number| (slot(number), Offset(0))).collect(), Vec::new());
        assert!(matches!(reading.take().map(|taken| taken.event), Some(Ok(ConsumerEvent::Assigned { .. }))));
        reading
    }

    fn offset(taken: Option<Taken>) -> Option<u64> {
        match taken?.event {
            Ok(ConsumerEvent::Message(message)) => Some(message.offset.0),
            other => panic!("not a message: {other:?}"),
        }
    }

    #[test]
    fn a_partition_that_nobody_empties_takes_no_more_until_half_of_it_is_taken() {
        let mut reading = assigned(1);
        let max = LANE_MESSAGES_MAX as u64;
        assert!(reading.wants(&slot(0)));
        let full: Vec<u64> = (0..max).filter(|&number| !reading.arrive(message(0, number, 10))).collect();
        assert_eq!(full, [max - 1]);
        assert!(!reading.wants(&slot(0)));
        let mut lows = Vec::new();
        for number in 0..max {
            let taken = reading.take().expect("all that came is there");
            if taken.is_low {
                lows.push(number);
            }
            assert_eq!(offset(Some(taken)), Some(number));
        }
        assert_eq!(lows, [max / 2], "said once");
        assert!(reading.wants(&slot(0)));
    }

    #[test]
    fn few_large_messages_fill_a_partition_as_well() {
        let mut reading = assigned(16);
        assert!(reading.arrive(message(3, 0, 300_000)));
        assert!(!reading.wants(&slot(3)));
        assert!(!reading.arrive(message(3, 1, 300_000)));
        assert!(reading.arrive(message(4, 0, 10)));
        assert!(reading.wants(&slot(4)));
    }

    #[test]
    fn nothing_is_wanted_of_what_is_not_owned_or_to_be_given_back() {
        let mut reading = assigned(1);
        assert!(!reading.wants(&slot(1)));
        assert!(!reading.arrive(message(1, 0, 1)));
        assert_eq!(reading.revoke(), Revocation::Told);
        assert!(!reading.wants(&slot(0)));
    }

    #[test]
    fn what_came_already_does_not_come_again() {
        let mut reading = assigned(1);
        reading.arrive(message(0, 5, 1));
        reading.arrive(message(0, 4, 1));
        reading.arrive(message(0, 5, 1));
        reading.arrive(message(0, 6, 1));
        assert_eq!(offset(reading.take()), Some(5));
        assert_eq!(offset(reading.take()), Some(6));
        assert!(reading.take().is_none());
    }

    #[test]
    fn an_assignment_that_nobody_heard_of_ends_in_silence() {
        let mut reading = Reading::default();
        reading.assign(EPOCH, vec![(slot(0), Offset(0))], Vec::new());
        assert_eq!(reading.revoke(), Revocation::Unheard);
        assert!(reading.take().is_none());
        assert!(!reading.may_commit(EPOCH, &slot(0)));
    }

    #[test]
    fn a_revoked_assignment_delivers_nothing_and_commits_until_it_is_released() {
        let mut reading = assigned(1);
        reading.arrive(message(0, 0, 1));
        assert_eq!(reading.revoke(), Revocation::Told);
        reading.arrive(message(0, 1, 1));
        assert!(matches!(reading.take().map(|taken| taken.event), Some(Ok(ConsumerEvent::Revoked { .. }))));
        assert!(reading.take().is_none());
        assert!(reading.may_commit(EPOCH, &slot(0)));
        assert!(!reading.may_commit(EPOCH, &slot(1)));
        assert!(reading.release(EPOCH));
        assert!(!reading.may_commit(EPOCH, &slot(0)));
    }

    #[test]
    fn a_pause_of_a_lost_assignment_does_not_stop_the_next_one() {
        let mut reading = assigned(1);
        assert!(reading.lose());
        reading.assign(Epoch(8), vec![(slot(0), Offset(0))], Vec::new());
        reading.set_paused(&[slot(0)], true);
        reading.arrive(message(0, 0, 1));
        assert!(matches!(reading.take().map(|taken| taken.event), Some(Ok(ConsumerEvent::Lost { .. }))));
        assert!(matches!(reading.take().map(|taken| taken.event), Some(Ok(ConsumerEvent::Assigned { .. }))));
        assert_eq!(offset(reading.take()), Some(0));
    }

    #[test]
    fn a_pause_stops_its_partition_only() {
        let mut reading = assigned(2);
        reading.arrive(message(0, 0, 1));
        reading.arrive(message(1, 8, 1));
        reading.set_paused(&[slot(0)], true);
        assert_eq!(offset(reading.take()), Some(8));
        assert!(reading.take().is_none());
        reading.set_paused(&[slot(0)], false);
        assert_eq!(offset(reading.take()), Some(0));
    }
}
