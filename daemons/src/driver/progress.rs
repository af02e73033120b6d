//! How far a consumer is behind: what was read and is not committed, with the time at which it was published.

use std::collections::{BTreeMap, VecDeque};

use backbeat_core::id::{EffectId, Offset, Partition, TopicPartition};
use backbeat_core::time::WallTime;

/// The open messages of a consumer. Bounded by what its machine reads ahead.
#[derive(Debug, Default)]
pub struct Progress {
    open: BTreeMap<TopicPartition, VecDeque<(Offset, WallTime)>>,
    commits: BTreeMap<EffectId, (TopicPartition, Offset)>,
}

impl Progress {
    /// When the oldest message that is not committed was published.
    pub fn oldest_open(&self) -> Option<WallTime> {
        self.open.values().filter_map(VecDeque::front).map(|&(_, published)| published).min()
    }

    /// How many messages were read and are not committed.
    pub fn open_len(&self) -> usize {
        self.open.values().map(VecDeque::len).sum()
    }

    pub(super) fn assigned(&mut self, from: TopicPartition) {
        self.open.insert(from, VecDeque::new());
    }

    pub(super) fn read(&mut self, from: TopicPartition, offset: Offset, published: WallTime) {
        if let Some(open) = self.open.get_mut(&from) {
            open.push_back((offset, published));
        }
    }

    pub(super) fn committing(&mut self, id: EffectId, from: TopicPartition, upto: Offset) {
        self.commits.insert(id, (from, upto));
    }

    pub(super) fn committed(&mut self, id: EffectId, applied: bool) {
        if let Some((from, upto)) = self.commits.remove(&id).filter(|_| applied)
            && let Some(open) = self.open.get_mut(&from)
        {
            while open.front().is_some_and(|&(offset, _)| offset < upto) {
                open.pop_front();
            }
        }
    }

    pub(super) fn forget(&mut self, partition: Partition) {
        self.open.retain(|from, _| from.partition != partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_no_longer_open() {
        let from = TopicPartition { topic: 0, partition: Partition(2) };
        let mut progress = Progress::default();
        progress.assigned(from);
        for offset in 3..6 {
            progress.read(from, Offset(offset), WallTime::from_millis(i64::try_from(offset).expect("small")));
        }
        assert_eq!(progress.oldest_open(), Some(WallTime::from_millis(3)));
        progress.committing(EffectId(1), from, Offset(5));
        progress.committing(EffectId(2), from, Offset(6));
        progress.committed(EffectId(2), false);
        assert_eq!(progress.open_len(), 3);
        progress.committed(EffectId(1), true);
        assert_eq!((progress.open_len(), progress.oldest_open()), (1, Some(WallTime::from_millis(5))));
        progress.forget(Partition(2));
        assert_eq!(progress.oldest_open(), None);
    }
}
