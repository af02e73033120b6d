//! What every queue machine has in common: owned partitions with their epochs, a ledger per topic partition, commits one
//! at a time, the way partitions are given back (decisions D5 and D7), and the words in which it talks to the queue.

use std::collections::BTreeMap;

use crate::call::{Ending, RefusalKind};
use crate::id::{EffectId, EffectIds, Epoch, Offset, Partition, TopicPartition};
use crate::model::Message;
use crate::parts::{InFlight, Ledger};
use crate::rules::Rules;
use crate::time::Instant;

/// What the queue tells a machine that consumes from it.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueEvent {
    /// Partitions were assigned: partition *p* of every topic, each with the offset to start from.
    Assigned {
        /// The assignment.
        epoch: Epoch,
        /// Partition and start offset per topic, in the order of the topic list.
        partitions: Vec<(Partition, Vec<Offset>)>,
    },
    /// Partitions are to be given back. The machine drains until `deadline`, then answers with [`QueueEffect::Release`].
    Revoked {
        /// The assignment that ends.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
        /// When they are taken away whatever is still running.
        deadline: Instant,
    },
    /// Partitions are gone already (session lost): nothing can be committed any more.
    Lost {
        /// The assignment that ended.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
    },
    /// A message was read.
    Message {
        /// The assignment under which it was read.
        epoch: Epoch,
        /// Where it was read.
        from: TopicPartition,
        /// Its offset.
        offset: Offset,
        /// The parsed message.
        message: Message,
    },
    /// To [`QueueEffect::Commit`].
    Committed {
        /// The effect this answers.
        id: EffectId,
        /// Refused with `Fenced` when the assignment is over.
        ending: Ending<()>,
    },
}

/// What a machine asks of the queue that it consumes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEffect {
    /// Commit: everything below `upto` is settled.
    Commit {
        /// Answer with this id.
        id: EffectId,
        /// The assignment this is done under.
        epoch: Epoch,
        /// Which partition of which topic.
        from: TopicPartition,
        /// First offset that is not settled.
        upto: Offset,
    },
    /// Open or close the flow of messages of a partition (all topics). Messages already under way may still arrive.
    Flow {
        /// The partition.
        partition: Partition,
        /// Whether messages may come.
        open: bool,
    },
    /// The partitions of an ending assignment are drained: they may be taken away.
    Release {
        /// The assignment.
        epoch: Epoch,
        /// The partitions.
        partitions: Vec<Partition>,
    },
}

#[derive(Debug)]
struct Source {
    ledger: Ledger<Offset>,
    committed: Offset,
    in_flight: Option<(EffectId, Offset)>,
}

#[derive(Debug)]
struct Owned {
    epoch: Epoch,
    sources: Vec<Source>,
    deadline: Option<Instant>,
}

/// The partitions that a machine owns right now.
#[derive(Debug, Default)]
pub(crate) struct Consumer {
    owned: BTreeMap<Partition, Owned>,
    /// Topic partitions whose commit point may have moved, in order: few at a time.
    dirty: Vec<TopicPartition>,
    commits: InFlight<TopicPartition>,
    /// How many partitions are on their way out.
    leaving: usize,
}

impl Consumer {
    /// Takes over `partition` from the offsets in `starts`, one per topic. What was known of it before is forgotten.
    pub(crate) fn assign(&mut self, epoch: Epoch, partition: Partition, starts: &[Offset]) {
        let source =
            |&start: &Offset| Source { ledger: Ledger::new(start), committed: start, in_flight: None };
        let sources = starts.iter().map(source).collect();
        let before = self.owned.insert(partition, Owned { epoch, sources, deadline: None });
        self.leaving -= usize::from(before.is_some_and(|owned| owned.deadline.is_some()));
    }

    /// The epoch under which `partition` is owned.
    #[inline]
    pub(crate) fn epoch(&self, partition: Partition) -> Option<Epoch> {
        self.owned.get(&partition).map(|owned| owned.epoch)
    }

    /// Whether `partition` is owned under `epoch`.
    #[inline]
    pub(crate) fn owns(&self, rules: &impl Rules, partition: Partition, epoch: Epoch) -> bool {
        self.epoch(partition).is_some_and(|owned| rules.is_current(owned, epoch))
    }

    /// Whether new work of `partition` may start: owned, and not on its way out.
    #[inline]
    pub(crate) fn may_start(&self, partition: Partition) -> bool {
        self.owned.get(&partition).is_some_and(|owned| owned.deadline.is_none())
    }

    /// Notes that the message at `offset` was read.
    pub(crate) fn consumed(&mut self, from: TopicPartition, offset: Offset) {
        if let Some(source) = self.source_mut(from) {
            source.ledger.consumed(offset);
        }
    }

    /// Notes that the message at `offset` is settled. Unknown offsets are ignored: they belong to another life.
    pub(crate) fn settle(&mut self, from: TopicPartition, offset: Offset) {
        if let Some(source) = self.source_mut(from)
            && source.ledger.settled(offset)
        {
            self.touch(from);
        }
    }

    fn touch(&mut self, from: TopicPartition) {
        if let Err(place) = self.dirty.binary_search(&from) {
            self.dirty.insert(place, from);
        }
    }

    /// The next commit to carry out, if any commit point moved that has no commit under way.
    #[inline]
    pub(crate) fn next_commit(&mut self, rules: &impl Rules, ids: &mut EffectIds) -> Option<QueueEffect> {
        if self.dirty.is_empty() { None } else { self.next_dirty(rules, ids) }
    }

    fn next_dirty(&mut self, rules: &impl Rules, ids: &mut EffectIds) -> Option<QueueEffect> {
        while !self.dirty.is_empty() {
            let from = self.dirty.remove(0);
            let Some(owned) = self.owned.get_mut(&from.partition) else { continue };
            let epoch = owned.epoch;
            let Some(source) = owned.sources.get_mut(usize::from(from.topic)) else { continue };
            if source.in_flight.is_some() {
                continue;
            }
            let upto = rules.commit_point(&source.ledger);
            if upto > source.committed {
                let id = ids.next();
                source.in_flight = Some((id, upto));
                self.commits.insert(id, from);
                return Some(QueueEffect::Commit { id, epoch, from, upto });
            }
        }
        None
    }

    /// Takes the answer to a commit.
    pub(crate) fn committed(&mut self, id: EffectId, ending: &Ending<()>) {
        let Some(from) = self.commits.remove(id) else { return };
        let Some(source) = self.source_mut(from) else { return };
        let Some((_, upto)) = source.in_flight.take_if(|(in_flight, _)| *in_flight == id) else { return };
        match ending {
            Ending::Applied(()) => {
                assert!(upto >= source.committed, "I1: commit of {from:?} went back to {upto:?}");
                source.committed = upto;
                self.touch(from);
            }
            // Somebody else owns the partition now; the news of it is on its way.
            Ending::Refused(refusal) if refusal.kind == RefusalKind::Fenced => {}
            // The same or a later point is committed again; offsets only grow, so repeating is harmless.
            Ending::Refused(_) | Ending::Unknown => {
                self.touch(from);
            }
        }
    }

    /// Starts giving `partition` back until `deadline`. Returns whether it was owned under `epoch`.
    pub(crate) fn revoke(&mut self, partition: Partition, epoch: Epoch, deadline: Instant) -> bool {
        match self.owned.get_mut(&partition) {
            Some(owned) if owned.epoch == epoch => {
                self.leaving += usize::from(owned.deadline.replace(deadline).is_none());
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether any partition is on its way out.
    #[inline]
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving > 0
    }

    /// The earliest deadline of a partition on its way out.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.owned.values().filter_map(|owned| owned.deadline).min()
    }

    /// The partitions that can be given back now, by assignment: drained, or past their deadline.
    pub(crate) fn releasable(
        &self,
        now: Instant,
        is_drained: impl Fn(Partition) -> bool,
    ) -> BTreeMap<Epoch, Vec<Partition>> {
        let mut releasable: BTreeMap<Epoch, Vec<Partition>> = BTreeMap::new();
        for (&partition, owned) in &self.owned {
            if owned.deadline.is_some_and(|deadline| now >= deadline || is_drained(partition)) {
                releasable.entry(owned.epoch).or_default().push(partition);
            }
        }
        releasable
    }

    /// Whether no commit of `partition` is under way or due.
    pub(crate) fn is_committed(&self, partition: Partition) -> bool {
        self.owned.get(&partition).is_none_or(|owned| {
            owned.sources.iter().all(|source| source.in_flight.is_none())
                && !self.dirty.iter().any(|from| from.partition == partition)
        })
    }

    /// Forgets `partition`: it belongs to somebody else.
    pub(crate) fn forget(&mut self, partition: Partition) {
        let before = self.owned.remove(&partition);
        self.leaving -= usize::from(before.is_some_and(|owned| owned.deadline.is_some()));
        self.dirty.retain(|from| from.partition != partition);
    }

    fn source_mut(&mut self, from: TopicPartition) -> Option<&mut Source> {
        self.owned.get_mut(&from.partition)?.sources.get_mut(usize::from(from.topic))
    }
}
