//! What the log knows without looking into the store: topics, where partitions begin and end, what was committed; and
//! what a call changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use backbeat_core::id::{Offset, Topic};

use super::rows::{self, Change, Message};
use crate::embedded::{KeyRange, Read, StoreError};
use crate::queue::{Group, Retention, Slot, TopicSpec};

/// Messages that one call lets go at most; the next one goes on.
const PRUNED_AT_ONCE: u64 = 1_024;

/// The state of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    topics: BTreeMap<Topic, TopicState>,
    committed: BTreeMap<Slot, BTreeMap<Group, Offset>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct TopicState {
    spec: TopicSpec,
    groups: BTreeSet<Group>,
    /// First offset and the one after the last, of each partition.
    bounds: Vec<(Offset, Offset)>,
}

impl State {
    /// Reads the state from the tables of `file`.
    pub(super) fn load(txn: &impl Read, file: &Path) -> Result<Self, StoreError> {
        let damaged = |what: &str, key: &[u8]| StoreError::Damaged {
            file: file.into(),
            message: format!("{what} {} of the queue cannot be read", key.escape_ascii()),
        };
        let mut state = Self::default();
        for (key, row) in txn.range(rows::TOPICS, &KeyRange::all(), usize::MAX)? {
            let name = std::str::from_utf8(&key).map_err(|_| damaged("topic", &key))?;
            state.insert(rows::decode_spec(Topic::from(name), &row).ok_or_else(|| damaged("topic", &key))?);
        }
        for (key, _) in txn.range(rows::GROUPS, &KeyRange::all(), usize::MAX)? {
            let (topic, group) = rows::split_topic(&key).ok_or_else(|| damaged("group", &key))?;
            let group = std::str::from_utf8(group).map_err(|_| damaged("group", &key))?;
            let topic = state.topics.get_mut(&topic).ok_or_else(|| damaged("group", &key))?;
            topic.groups.insert(Group::from(group));
        }
        for (key, row) in txn.range(rows::BOUNDS, &KeyRange::all(), usize::MAX)? {
            let bad = || damaged("partition", &key);
            let (slot, _) = rows::decode_slot(&key).ok_or_else(bad)?;
            let bounds = state.bounds_mut(&slot).ok_or_else(bad)?;
            let (begin, end) = row.split_first_chunk().ok_or_else(bad)?;
            let end: [u8; 8] = end.try_into().map_err(|_| bad())?;
            *bounds = (Offset(u64::from_be_bytes(*begin)), Offset(u64::from_be_bytes(end)));
        }
        for (key, row) in txn.range(rows::COMMITS, &KeyRange::all(), usize::MAX)? {
            let bad = || damaged("commit", &key);
            let (slot, group) = rows::decode_slot(&key).ok_or_else(bad)?;
            let group = std::str::from_utf8(group).map_err(|_| bad())?;
            let upto: [u8; 8] = row.as_slice().try_into().map_err(|_| bad())?;
            state.set_committed(Group::from(group), slot, Offset(u64::from_be_bytes(upto)));
        }
        Ok(state)
    }

    pub(super) fn spec(&self, topic: &Topic) -> Option<&TopicSpec> {
        self.topics.get(topic).map(|topic| &topic.spec)
    }

    pub(super) fn bounds(&self, slot: &Slot) -> Option<(Offset, Offset)> {
        self.topics.get(&slot.topic)?.bounds.get(slot.partition.0 as usize).copied()
    }

    pub(super) fn committed(&self, group: &Group, slot: &Slot) -> Option<Offset> {
        self.committed.get(slot)?.get(group).copied()
    }

    /// Makes a topic, or changes how long it keeps messages.
    pub(super) fn create(&mut self, spec: TopicSpec, changes: &mut Vec<Change>) {
        changes.push(Change::put(rows::TOPICS, spec.topic.as_str().into(), rows::encode_spec(&spec)));
        self.insert(spec);
    }

    /// Remembers the readers of topics.
    pub(super) fn register(&mut self, group: &Group, topics: &[Topic], changes: &mut Vec<Change>) {
        for name in topics {
            if let Some(topic) = self.topics.get_mut(name)
                && topic.groups.insert(group.clone())
            {
                changes.push(Change::put(rows::GROUPS, rows::group_key(name, group), []));
            }
        }
    }

    /// Adds a message, and gives its offset.
    ///
    /// # Panics
    /// If there is no such partition: the queue checks before.
    pub(super) fn append(&mut self, slot: &Slot, message: &Message, changes: &mut Vec<Change>) -> Offset {
        let retention = self.spec(&slot.topic).expect("the topic exists").retention;
        let bounds = self.bounds_mut(slot).expect("the partition exists");
        let offset = bounds.1;
        bounds.1 = offset.next();
        if retention == Retention::LatestPerKey {
            bounds.0 = bounds.1;
            let key = message.key.as_ref().expect("messages of compacted topics have keys");
            let (key, payload) = (rows::latest_key(slot, key), message.payload.as_ref());
            changes.push(Change { table: rows::LATEST, key, value: payload.map(|payload| payload.to_vec()) });
        } else {
            changes.push(Change::put(rows::MESSAGES, rows::offset_key(slot, offset), message.encode()));
        }
        self.prune(slot, changes);
        self.write_bounds(slot, changes);
        offset
    }

    /// Records what a group has done, and lets go what nobody needs any more.
    pub(super) fn commit(&mut self, group: Group, slot: &Slot, upto: Offset, changes: &mut Vec<Change>) {
        changes.push(Change::put(rows::COMMITS, rows::commit_key(slot, &group), upto.0.to_be_bytes()));
        self.set_committed(group, slot.clone(), upto);
        if self.prune(slot, changes) {
            self.write_bounds(slot, changes);
        }
    }

    fn insert(&mut self, spec: TopicSpec) {
        let bounds = vec![(Offset(0), Offset(0)); spec.partitions as usize];
        let name = spec.topic.clone();
        let fresh = TopicState { spec: spec.clone(), groups: BTreeSet::new(), bounds };
        self.topics.entry(name).or_insert(fresh).spec = spec;
    }

    fn bounds_mut(&mut self, slot: &Slot) -> Option<&mut (Offset, Offset)> {
        self.topics.get_mut(&slot.topic)?.bounds.get_mut(slot.partition.0 as usize)
    }

    fn set_committed(&mut self, group: Group, slot: Slot, upto: Offset) {
        self.committed.entry(slot).or_default().insert(group, upto);
    }

    fn write_bounds(&self, slot: &Slot, changes: &mut Vec<Change>) {
        let (begin, end) = self.bounds(slot).expect("the partition exists");
        let row = [begin.0.to_be_bytes(), end.0.to_be_bytes()].concat();
        changes.push(Change::put(rows::BOUNDS, rows::slot_key(slot), row));
    }

    /// The first offset that has to stay.
    fn kept_from(&self, slot: &Slot) -> Offset {
        let Some(topic) = self.topics.get(&slot.topic) else { return Offset(0) };
        let (begin, end) = self.bounds(slot).unwrap_or_default();
        match topic.spec.retention {
            Retention::Newest(count) if topic.groups.is_empty() => Offset(end.0.saturating_sub(count)),
            Retention::Newest(_) | Retention::UntilConsumed => {
                let consumed = topic.groups.iter().map(|group| self.committed(group, slot)).min();
                consumed.flatten().unwrap_or(begin).min(end)
            }
            Retention::LatestPerKey => end,
        }
    }

    /// Lets go what nobody needs. True if there was any.
    fn prune(&mut self, slot: &Slot, changes: &mut Vec<Change>) -> bool {
        let kept_from = self.kept_from(slot);
        let Some(bounds) = self.bounds_mut(slot) else { return false };
        let begin = bounds.0;
        let until = kept_from.min(Offset(begin.0.saturating_add(PRUNED_AT_ONCE)));
        if until <= begin {
            return false;
        }
        bounds.0 = until;
        let gone = (begin.0..until.0).map(|offset| rows::offset_key(slot, Offset(offset)));
        changes.extend(gone.map(|key| Change::remove(rows::MESSAGES, key)));
        true
    }
}
