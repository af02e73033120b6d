//! How messages become work: owned partitions, one lane per key, a stash for what finds its lane full, and the flow of
//! messages that closes before memory grows (invariants I2, I7 and I8, decision D9).

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Bound;

use xxhash_rust::xxh3::xxh3_64;

use crate::consumer::Consumer;
use crate::id::{Bucket, Epoch, ObjectKey, Offset, Partition, TopicPartition};
use crate::parts::Lanes;
use crate::rules::Rules;
use crate::time::Instant;

/// Names the lane of an object key. Two keys may share one, which delays the one for the other and does no harm; nothing is known
/// of an object by its lane alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey(u64);

impl LaneKey {
    pub(crate) fn new(bucket: &Bucket, key: &ObjectKey) -> Self {
        Self(xxh3_64(key.as_str().as_bytes()) ^ xxh3_64(bucket.as_str().as_bytes()).rotate_left(32))
    }
}

/// Work as the intake sees it.
pub(crate) trait Item: Sized {
    /// The partition it was read from.
    fn partition(&self) -> Partition;
    /// The assignment under which it was read.
    fn epoch(&self) -> Epoch;
    /// The messages that are settled with it.
    fn offsets(&self) -> &[(TopicPartition, Offset)];
    /// The object it concerns.
    fn object(&self) -> (&Bucket, &ObjectKey);
    /// Whether one look serves both (decision D1).
    fn is_same(&self, other: &Self) -> bool;
    /// Takes over what `other`, for which [`is_same`](Self::is_same) holds, waits for.
    fn absorb(&mut self, other: Self);
}

impl<T: Item> Item for Box<T> {
    fn partition(&self) -> Partition {
        T::partition(self)
    }

    fn epoch(&self) -> Epoch {
        T::epoch(self)
    }

    fn offsets(&self) -> &[(TopicPartition, Offset)] {
        T::offsets(self)
    }

    fn object(&self) -> (&Bucket, &ObjectKey) {
        T::object(self)
    }

    fn is_same(&self, other: &Self) -> bool {
        T::is_same(self, other)
    }

    fn absorb(&mut self, other: Self) {
        T::absorb(self, *other);
    }
}

/// The bounds of an intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeLimits {
    /// Entries read and not settled beyond which the flow of messages closes; it opens again at half.
    pub read_ahead_max: usize,
    /// Entries of one key that wait in its lane (decision D9, `lane.maxQueued`); more wait in front of it, and close the
    /// flow of their partition.
    pub lane_max: usize,
}

#[derive(Debug)]
struct Gate<W> {
    /// Whether messages may enter their lanes at all; before that they wait in the stash.
    open: bool,
    /// Messages that could not enter their lane, in order; everything of the partition queues behind them.
    stash: VecDeque<W>,
    flow_closed: bool,
}

/// The intake of a queue machine.
#[derive(Debug)]
pub(crate) struct Intake<W> {
    pub(crate) consumer: Consumer,
    pub(crate) lanes: Lanes<LaneKey, W>,
    gates: BTreeMap<Partition, Gate<W>>,
    limits: IntakeLimits,
    crowded: bool,
    /// Whether paused when last regulated.
    paused: bool,
    /// Entries in all stashes.
    stashed: usize,
    /// How often the lanes had been stirred when what is stashed was last tried.
    tried: u64,
    /// Whether a gate changed since the flow was last regulated.
    changed: bool,
    salts: u64,
}

impl<W: Item> Intake<W> {
    pub(crate) fn new(limits: IntakeLimits) -> Self {
        Self {
            consumer: Consumer::default(),
            lanes: Lanes::new(),
            gates: BTreeMap::new(),
            limits,
            crowded: false,
            paused: false,
            stashed: 0,
            tried: 0,
            changed: false,
            salts: 0,
        }
    }

    /// Takes over `partition`. With `open` false its messages wait until [`open`](Self::open).
    pub(crate) fn assign(&mut self, epoch: Epoch, partition: Partition, starts: &[Offset], open: bool) {
        self.consumer.assign(epoch, partition, starts);
        let gate = Gate { open, stash: VecDeque::new(), flow_closed: false };
        let before = self.gates.insert(partition, gate);
        self.stashed -= before.map_or(0, |gate| gate.stash.len());
        self.changed = true;
    }

    /// Lets the messages of `partition` enter their lanes.
    pub(crate) fn open(&mut self, rules: &impl Rules, partition: Partition) {
        if let Some(gate) = self.gates.get_mut(&partition) {
            gate.open = true;
            self.changed = true;
        }
        self.unstash(rules, partition);
    }

    /// Whether a message of an assignment still counts.
    pub(crate) fn accepts(&self, rules: &impl Rules, partition: Partition, epoch: Epoch) -> bool {
        self.consumer.owns(rules, partition, epoch) && self.consumer.may_start(partition)
    }

    /// Starts giving `partition` back: nothing of it starts any more, what waits is dropped.
    pub(crate) fn revoke(&mut self, partition: Partition, epoch: Epoch, deadline: Instant) {
        if self.consumer.revoke(partition, epoch, deadline) {
            self.lanes.remove_waiting(|_, work| work.partition() == partition);
            if let Some(gate) = self.gates.get_mut(&partition) {
                self.stashed -= gate.stash.len();
                gate.stash.clear();
            }
            self.changed = true;
        }
    }

    /// Forgets `partition` and returns the work of it that was running, whose lanes are free now.
    pub(crate) fn forget(&mut self, partition: Partition) -> Vec<(LaneKey, W)> {
        self.consumer.forget(partition);
        self.stashed -= self.gates.remove(&partition).map_or(0, |gate| gate.stash.len());
        self.lanes.remove_waiting(|_, work| work.partition() == partition);
        let running = self.lanes.iter_running().filter(|(_, work)| work.partition() == partition);
        let running: Vec<LaneKey> = running.map(|(&lane, _)| lane).collect();
        let finish = |lane: LaneKey| {
            let work = self.lanes.finish(&lane);
            (lane, work)
        };
        running.into_iter().map(finish).collect()
    }

    /// Whether nothing of `partition` runs and its commits are done.
    pub(crate) fn is_drained(&self, partition: Partition) -> bool {
        self.consumer.is_committed(partition)
            && !self.lanes.iter_running().any(|(_, work)| work.partition() == partition)
    }

    /// Takes in work: into its lane, or into the stash behind everything of its partition that waits there.
    pub(crate) fn offer(&mut self, rules: &impl Rules, work: W) {
        let partition = work.partition();
        let straight = self.gates.get(&partition).is_some_and(|gate| gate.open && gate.stash.is_empty());
        let refused = if straight { self.admit(rules, work) } else { Some(work) };
        if let Some(work) = refused
            && let Some(gate) = self.gates.get_mut(&partition)
        {
            gate.stash.push_back(work);
            self.stashed += 1;
            self.changed = true;
        }
    }

    /// Takes in work that no message waits for, unless its key is busy with the same version or full.
    pub(crate) fn offer_unless_busy(&mut self, rules: &impl Rules, work: W) {
        let lane = self.lane_of(rules, &work);
        let runs = self.lanes.running(&lane).is_some_and(|running| running.is_same(&work));
        let straight =
            self.gates.get(&work.partition()).is_some_and(|gate| gate.open && gate.stash.is_empty());
        if straight && !runs {
            self.admit(rules, work);
        }
    }

    fn lane_of(&mut self, rules: &impl Rules, work: &W) -> LaneKey {
        let (bucket, key) = work.object();
        if !rules.serialises_keys() {
            // A planted bug: a lane of its own for every entry.
            self.salts += 1;
            return LaneKey(self.salts);
        }
        LaneKey::new(bucket, key)
    }

    /// Puts work into its lane, or hands it back when the lane is full.
    fn admit(&mut self, rules: &impl Rules, work: W) -> Option<W> {
        let lane = self.lane_of(rules, &work);
        if let Some(waiting) = self.lanes.waiting_mut(&lane).find(|waiting| waiting.is_same(&work)) {
            waiting.absorb(work);
            return None;
        }
        let runs = self.lanes.running(&lane).is_some_and(|running| running.is_same(&work));
        if runs && !rules.keeps_entry_of_running_version() {
            self.settle(rules, &work);
            return None;
        }
        if self.lanes.len(&lane) > self.limits.lane_max {
            return Some(work);
        }
        self.lanes.push(lane, work);
        None
    }

    /// Lets stashed messages into their lanes, in order, as far as there is room.
    fn unstash(&mut self, rules: &impl Rules, partition: Partition) {
        while let Some(gate) = self.gates.get_mut(&partition)
            && gate.open
            && let Some(work) = gate.stash.pop_front()
        {
            if let Some(refused) = self.admit(rules, work) {
                if let Some(gate) = self.gates.get_mut(&partition) {
                    gate.stash.push_front(refused);
                }
                return;
            }
            self.stashed -= 1;
            self.changed = true;
        }
    }

    /// Every partition gets its chance: one that is stuck behind a hot key holds no other up.
    fn unstash_all(&mut self, rules: &impl Rules) {
        let mut after = Bound::Unbounded;
        while let Some((&partition, _)) =
            self.gates.range((after, Bound::Unbounded)).find(|(_, gate)| gate.open && !gate.stash.is_empty())
        {
            self.unstash(rules, partition);
            after = Bound::Excluded(partition);
        }
    }

    /// Settles the messages of `work`, if they are still ours to settle.
    pub(crate) fn settle(&mut self, rules: &impl Rules, work: &W) {
        if self.consumer.owns(rules, work.partition(), work.epoch()) {
            for &(from, offset) in work.offsets() {
                self.consumer.settle(from, offset);
            }
        }
    }

    /// Opens and closes the flow of messages so that what is held stays within its bounds. `elsewhere` counts entries held
    /// outside the lanes. Calls `change` for every partition whose flow opens or closes.
    pub(crate) fn regulate(
        &mut self,
        rules: &impl Rules,
        paused: bool,
        elsewhere: usize,
        mut change: impl FnMut(Partition, bool),
    ) {
        let held = self.lanes.waiting_len() + self.lanes.running_len() + elsewhere;
        let crowded = match held {
            _ if held >= self.limits.read_ahead_max => true,
            _ if held <= self.limits.read_ahead_max / 2 => false,
            _ => self.crowded,
        };
        self.changed |= crowded != self.crowded || paused != self.paused;
        (self.crowded, self.paused) = (crowded, paused);
        if !self.crowded && self.stashed > 0 && self.tried != self.lanes.stirred() {
            self.tried = self.lanes.stirred();
            self.unstash_all(rules);
        }
        if !mem::take(&mut self.changed) {
            return;
        }
        for (&partition, gate) in &mut self.gates {
            let leaving = !self.consumer.may_start(partition);
            let close = paused || self.crowded || leaving || !gate.open || !gate.stash.is_empty();
            if close != gate.flow_closed {
                gate.flow_closed = close;
                change(partition, !close);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Production;

    #[derive(Debug)]
    struct Entry {
        key: ObjectKey,
        bucket: Bucket,
        version: u32,
        message: (TopicPartition, Offset),
    }

    impl Item for Entry {
        fn partition(&self) -> Partition {
            self.message.0.partition
        }

        fn epoch(&self) -> Epoch {
            Epoch(1)
        }

        fn offsets(&self) -> &[(TopicPartition, Offset)] {
            std::slice::from_ref(&self.message)
        }

        fn object(&self) -> (&Bucket, &ObjectKey) {
            (&self.bucket, &self.key)
        }

        fn is_same(&self, other: &Self) -> bool {
            self.version == other.version
        }

        fn absorb(&mut self, _other: Self) {}
    }

    fn entry(partition: u32, key: &str, version: u32) -> Entry {
        let from = TopicPartition { topic: 0, partition: Partition(partition) };
        let message = (from, Offset(u64::from(version)));
        Entry { key: key.into(), bucket: "b".into(), version, message }
    }

    fn intake(lane_max: usize) -> Intake<Entry> {
        let mut intake = Intake::new(IntakeLimits { read_ahead_max: 100, lane_max });
        for partition in 0..2 {
            intake.assign(Epoch(1), Partition(partition), &[Offset(0)], true);
        }
        intake
    }

    fn started(intake: &mut Intake<Entry>) -> Vec<(String, u32)> {
        let mut started = Vec::new();
        while let Some(lane) = intake.lanes.start_next_key() {
            let entry = intake.lanes.finish(&lane);
            started.push((entry.key.to_string(), entry.version));
            intake.regulate(&Production, false, 0, |_, _| {});
        }
        started
    }

    #[test]
    fn a_partition_that_is_stuck_holds_no_other_up() {
        let mut intake = intake(1);
        intake.lanes.block(LaneKey::new(&"b".into(), &"stuck".into()));
        for version in 0..4 {
            intake.offer(&Production, entry(0, "stuck", version));
            intake.offer(&Production, entry(1, "hot", version));
        }
        let order = started(&mut intake);
        let expected: Vec<_> = (0..4).map(|version| ("hot".to_owned(), version)).collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn what_waits_in_front_of_a_full_lane_keeps_its_order() {
        let mut intake = intake(1);
        for version in 0..5 {
            intake.offer(&Production, entry(0, "hot", version));
        }
        intake.offer(&Production, entry(0, "other", 0));
        let order = started(&mut intake);
        let hot: Vec<u32> =
            order.iter().filter(|(key, _)| key == "hot").map(|(_, version)| *version).collect();
        assert_eq!(hot, [0, 1, 2, 3, 4]);
        assert!(order.contains(&("other".to_owned(), 0)));
    }

    #[test]
    fn the_flow_of_a_partition_closes_while_something_waits_in_front_of_a_lane() {
        let mut intake = intake(1);
        for version in 0..5 {
            intake.offer(&Production, entry(0, "hot", version));
        }
        let mut changes = Vec::new();
        intake.regulate(&Production, false, 0, |partition, open| changes.push((partition, open)));
        assert_eq!(changes, [(Partition(0), false)]);
        while let Some(lane) = intake.lanes.start_next_key() {
            intake.lanes.finish(&lane);
            intake.regulate(&Production, false, 0, |partition, open| changes.push((partition, open)));
        }
        assert_eq!(changes, [(Partition(0), false), (Partition(0), true)]);
    }
}
