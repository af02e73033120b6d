//! Consumer groups as the broker sees them.
//!
//! Contract relied on (stricter than Kafka where it says so):
//! - A rebalance begins when a member joins, leaves, loses its session or is asked to; it ends when every member that was
//!   told has joined again, or at its deadline. Members that did not join in time are no longer members.
//! - The generation grows with every rebalance. A commit names the generation it belongs to and is refused (`Fenced`) once
//!   another one began, or if its sender is no member. While a rebalance is being prepared the old generation may still
//!   commit.
//! - Partition *p* of every topic of the group goes to the same member; members get contiguous ranges.
//! - Start offsets are read when the rebalance ends, so they include every commit of the generation before.
//! - Stricter than Kafka: every rebalance takes all partitions away (eager), and a member always hears of the end of its
//!   ownership, if late.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use backbeat_core::id::{Offset, Partition, TopicPartition};

use crate::ids::{GroupId, ProcId};

/// One member.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The life of the process that joined.
    pub life: u32,
    /// Whether it joined the generation being prepared.
    pub joined: bool,
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupPhase {
    /// A generation is running.
    Stable,
    /// Waiting for members to join the next one until the deadline.
    Preparing {
        /// When the rebalance ends whoever is missing.
        deadline: u64,
    },
}

/// One consumer group.
#[derive(Debug)]
pub struct Group {
    /// Members by process.
    pub members: BTreeMap<ProcId, Member>,
    /// The running generation.
    pub generation: u32,
    /// What it is doing.
    pub phase: GroupPhase,
    /// Who owns what in the running generation.
    pub owners: Vec<Option<(ProcId, u32)>>,
    /// Committed offsets, by topic and partition.
    pub committed: Vec<Vec<Offset>>,
    /// Its coordinator answers nothing before this time.
    pub down_until: u64,
}

/// All groups: those of the sites, then that of the status processors.
#[derive(Debug)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// Groups for `sites` sites with `replays` replay topics each.
    pub fn new(sites: usize, replays: usize, partitions: u32) -> Self {
        let of_sites = (0..sites).map(|_| Group::new(1 + replays, partitions));
        Self(of_sites.chain([Group::new(1, partitions)]).collect())
    }

    /// Each of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.0.iter_mut()
    }

    fn place(&self, group: GroupId) -> usize {
        match group {
            GroupId::Site(site) => site.index(),
            GroupId::Status => self.0.len() - 1,
        }
    }
}

impl Index<GroupId> for Groups {
    type Output = Group;

    fn index(&self, group: GroupId) -> &Group {
        &self.0[self.place(group)]
    }
}

impl IndexMut<GroupId> for Groups {
    fn index_mut(&mut self, group: GroupId) -> &mut Group {
        let place = self.place(group);
        &mut self.0[place]
    }
}

/// How the broker answers a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitAnswer {
    /// Recorded.
    Recorded,
    /// Another generation, or no member.
    Fenced,
}

impl Group {
    /// A group without members over `topics` topics of `partitions` partitions.
    pub fn new(topics: usize, partitions: u32) -> Self {
        let count = partitions as usize;
        Self {
            members: BTreeMap::new(),
            generation: 0,
            phase: GroupPhase::Stable,
            owners: vec![None; count],
            committed: vec![vec![Offset(0); count]; topics],
            down_until: 0,
        }
    }

    /// Whether the process is a member in this life.
    pub fn has(&self, process: ProcId, life: u32) -> bool {
        self.members.get(&process).is_some_and(|member| member.life == life)
    }

    /// Starts preparing the next generation. Returns false if that is under way already.
    pub fn prepare(&mut self, deadline: u64) -> bool {
        if self.phase != GroupPhase::Stable {
            return false;
        }
        self.phase = GroupPhase::Preparing { deadline };
        for member in self.members.values_mut() {
            member.joined = false;
        }
        true
    }

    /// Notes that a member is ready for the next generation.
    pub fn join(&mut self, process: ProcId, life: u32) {
        self.members.insert(process, Member { life, joined: true });
    }

    /// Whether everybody joined.
    pub fn is_complete(&self) -> bool {
        self.members.values().all(|member| member.joined)
    }

    /// Ends the rebalance: drops those who did not join, deals the partitions out. Returns the members left out.
    pub fn finish(&mut self) -> Vec<(ProcId, u32)> {
        let late: Vec<(ProcId, u32)> = self
            .members
            .iter()
            .filter(|(_, member)| !member.joined)
            .map(|(id, member)| (*id, member.life))
            .collect();
        self.members.retain(|_, member| member.joined);
        self.generation += 1;
        self.phase = GroupPhase::Stable;
        let members: Vec<(ProcId, u32)> =
            self.members.iter().map(|(id, member)| (*id, member.life)).collect();
        let count = self.owners.len();
        let (share, extra) =
            if members.is_empty() { (0, 0) } else { (count / members.len(), count % members.len()) };
        self.owners.fill(None);
        let mut next = 0;
        for (index, member) in members.iter().enumerate() {
            let size = share + usize::from(index < extra);
            self.owners[next..next + size].fill(Some(*member));
            next += size;
        }
        late
    }

    /// The partitions of a member in the running generation.
    pub fn partitions_of(&self, process: ProcId, life: u32) -> Vec<Partition> {
        (0_u32..)
            .zip(&self.owners)
            .filter(|(_, owner)| **owner == Some((process, life)))
            .map(|(p, _)| Partition(p))
            .collect()
    }

    /// Start offsets of a partition, one per topic.
    pub fn starts(&self, partition: Partition) -> Vec<Offset> {
        self.committed.iter().map(|topic| topic[partition.0 as usize]).collect()
    }

    /// Takes a commit.
    pub fn commit(
        &mut self,
        process: ProcId,
        life: u32,
        generation: u32,
        from: TopicPartition,
        upto: Offset,
    ) -> CommitAnswer {
        if generation != self.generation
            || !self.has(process, life)
            || self.owners[from.partition.0 as usize] != Some((process, life))
        {
            return CommitAnswer::Fenced;
        }
        self.committed[usize::from(from.topic)][from.partition.0 as usize] = upto;
        CommitAnswer::Recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group_of(members: &[u8]) -> Group {
        let mut group = Group::new(2, 4);
        group.prepare(10);
        for id in members {
            group.join(ProcId(*id), 1);
        }
        group.finish();
        group
    }

    #[test]
    fn ranges_are_contiguous_and_cover_everything() {
        let group = group_of(&[0, 1, 2]);
        assert_eq!(group.partitions_of(ProcId(0), 1), [Partition(0), Partition(1)]);
        assert_eq!(group.partitions_of(ProcId(1), 1), [Partition(2)]);
        assert_eq!(group.partitions_of(ProcId(2), 1), [Partition(3)]);
    }

    #[test]
    fn an_old_generation_cannot_commit() {
        let mut group = group_of(&[0, 1]);
        let from = TopicPartition { topic: 0, partition: Partition(0) };
        assert_eq!(group.commit(ProcId(0), 1, 1, from, Offset(3)), CommitAnswer::Recorded);
        group.prepare(20);
        assert_eq!(group.commit(ProcId(0), 1, 1, from, Offset(4)), CommitAnswer::Recorded);
        group.join(ProcId(1), 1);
        assert!(!group.is_complete());
        assert_eq!(group.finish(), [(ProcId(0), 1)]);
        assert_eq!(group.commit(ProcId(0), 1, 1, from, Offset(5)), CommitAnswer::Fenced);
        assert_eq!(group.starts(Partition(0)), [Offset(4), Offset(0)]);
    }
}
