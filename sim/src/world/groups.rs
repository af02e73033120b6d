//! How processes join groups, get partitions, are told to give them back, and lose them.

use backbeat_core::QueueEvent;
use backbeat_core::id::{Epoch, Partition};
use backbeat_core::rules::Rules;
use backbeat_core::time::Span;

use super::group::GroupPhase;
use super::process::{Assignment, Ev, Fetch};
use super::{Item, World};
use crate::faults::Fault;
use crate::ids::{GroupId, ProcId};
use crate::marks::Mark;
use crate::scenario::SECOND;

/// A member that is not heard of for so long is no member any more.
pub(super) const SESSION_TIMEOUT: u64 = 8 * SECOND;
/// A rebalance waits so long for members.
const REBALANCE_TIMEOUT: u64 = 6 * SECOND;
/// A member drains so long before it gives its partitions back.
const DRAIN: u64 = 3 * SECOND;
/// How much longer than its own deadline a machine may take to release.
const RELEASE_GRACE: u64 = SECOND;

impl<R: Rules> World<R> {
    /// A process died, stands still or is cut off: after the session time-out it has lost what it owned.
    pub(super) fn gone(&mut self, id: ProcId, life: u32) {
        match self.processes[id.index()].role.group() {
            Some(group) => self.after(SESSION_TIMEOUT, Item::SessionOver { group, member: id, life }),
            None => self.after(SESSION_TIMEOUT, Item::OwnerOver { owner: id, life }),
        }
    }

    /// A process asks to join its group.
    pub(super) fn join_arrives(&mut self, from: ProcId, life: u32) {
        let now = self.now();
        let process = &self.processes[from.index()];
        let Some(group_id) = process.role.group() else { return };
        if !process.up || process.life != life {
            return;
        }
        let down_until = self.groups[group_id].down_until;
        let blocked = process.paused_until.max(process.isolated_until).max(down_until);
        if blocked > now {
            self.schedule.push(blocked + SECOND / 10, Item::Join { from, life });
            return;
        }
        let group = &self.groups[group_id];
        if group.phase == GroupPhase::Stable && group.has(from, life) {
            return;
        }
        self.begin_rebalance(group_id);
        let group = &mut self.groups[group_id];
        group.join(from, life);
        if group.is_complete() {
            self.finish_rebalance(group_id);
        }
    }

    /// Starts a rebalance, unless one is under way.
    pub(super) fn begin_rebalance(&mut self, group_id: GroupId) {
        let deadline = self.now() + REBALANCE_TIMEOUT;
        let group = &mut self.groups[group_id];
        if !group.prepare(deadline) {
            return;
        }
        let generation = group.generation;
        let members: Vec<(ProcId, u32)> =
            group.members.iter().map(|(id, member)| (*id, member.life)).collect();
        self.schedule.push(deadline, Item::RebalanceDue { group: group_id, generation });
        for (to, life) in members {
            let mut delay = self.latency();
            if self.processes[to.index()].calls_in_flight > 0 {
                self.marks.hit(Mark::RebalanceInFlight);
            }
            if self.strikes(Fault::NoticeLate) {
                delay += REBALANCE_TIMEOUT + self.struck.below(4 * SECOND);
            }
            self.after(delay, Item::Notice { to, life, generation });
        }
    }

    /// The rebalance ends whoever is missing.
    pub(super) fn rebalance_due(&mut self, group_id: GroupId, generation: u32) {
        let group = &self.groups[group_id];
        if group.generation == generation && group.phase != GroupPhase::Stable {
            self.finish_rebalance(group_id);
        }
    }

    fn finish_rebalance(&mut self, group_id: GroupId) {
        let group = &mut self.groups[group_id];
        let old = group.generation;
        let late = group.finish();
        let generation = group.generation;
        let members: Vec<(ProcId, u32)> =
            group.members.iter().map(|(id, member)| (*id, member.life)).collect();
        for (to, life) in late {
            let delay = self.latency();
            self.after(delay, Item::LostNews { to, life, generation: old });
        }
        for (to, life) in members {
            let delay = self.latency();
            self.after(delay, Item::AssignNews { to, life, generation });
        }
    }

    /// The notice of a revocation reaches a member.
    pub(super) fn notice(&mut self, to: ProcId, life: u32, generation: u32) {
        let now = self.now();
        let process = self.process(to);
        if !process.up || process.life != life {
            return;
        }
        let blocked = process.paused_until.max(process.isolated_until);
        if blocked > now {
            let at = blocked + SECOND / 20;
            self.schedule.push(at, Item::Notice { to, life, generation });
            return;
        }
        let owned = process.assignment.as_mut().filter(|owned| owned.generation == generation && !owned.over);
        let Some(owned) = owned.filter(|owned| !owned.partitions.is_empty()) else {
            // Nothing to give back.
            self.after(0, Item::Join { from: to, life });
            return;
        };
        if owned.revoked {
            return;
        }
        owned.revoked = true;
        let partitions = owned.partitions.clone();
        if self.strikes(Fault::DrainInterrupted) {
            self.crash(to, "while it gives partitions back");
            return;
        }
        let deadline = self.processes[to.index()].clock.show(now).mono + Span::from_micros(DRAIN);
        let epoch = Epoch(u64::from(generation));
        let role = self.processes[to.index()].role;
        let ev = Ev::queue(role, QueueEvent::Revoked { epoch, partitions, deadline });
        self.after(DRAIN + RELEASE_GRACE, Item::ReleaseDue { to, life, generation });
        self.step(to, ev);
    }

    /// The driver's patience is over: every machine must have released by now.
    pub(super) fn release_due(&mut self, to: ProcId, life: u32, generation: u32) {
        let now = self.now();
        let process = &self.processes[to.index()];
        let same = process.up && process.life == life;
        let Some(owned) = process.assignment.as_ref().filter(|owned| same && owned.generation == generation)
        else {
            return;
        };
        if owned.over {
            return;
        }
        if process.paused_until > now || process.timer_at.is_some_and(|at| at <= now + 2 * SECOND) {
            // It stood still or its timer is late: it releases as soon as it can.
            self.after(SECOND, Item::ReleaseDue { to, life, generation });
            return;
        }
        let name = process.name.clone();
        self.checkers.report("BOUND-1", format!("{name} did not give its partitions back in time"));
    }

    /// A machine gives partitions back.
    pub(super) fn release(&mut self, id: ProcId, epoch: Epoch, partitions: &[Partition]) {
        let process = self.process(id);
        let life = process.life;
        let Some(owned) = process.assignment.as_mut().filter(|owned| u64::from(owned.generation) == epoch.0)
        else {
            return;
        };
        if owned.over {
            return;
        }
        for partition in partitions {
            if let Some(index) = owned.partitions.iter().position(|mine| mine == partition) {
                owned.open[index] = false;
                owned.released[index] = true;
            }
        }
        if !owned.released.iter().all(|released| *released) {
            return;
        }
        owned.over = true;
        let in_time = process.calls_in_flight == 0;
        self.marks.hit(if in_time { Mark::DrainInTime } else { Mark::DrainTooLate });
        let delay = self.latency();
        self.after(delay, Item::Join { from: id, life });
    }

    /// A member learns that it is none any more.
    pub(super) fn lost_news(&mut self, to: ProcId, life: u32, generation: u32) {
        let now = self.now();
        let process = self.process(to);
        if !process.up || process.life != life {
            return;
        }
        let blocked = process.paused_until.max(process.isolated_until);
        if blocked > now {
            let at = blocked + SECOND / 20;
            self.schedule.push(at, Item::LostNews { to, life, generation });
            return;
        }
        let busy = process.calls_in_flight > 0;
        let owned = process.assignment.as_mut().filter(|owned| owned.generation == generation && !owned.over);
        if let Some(owned) = owned {
            owned.over = true;
            let partitions = owned.partitions.clone();
            if busy {
                self.marks.hit(Mark::RevokedCallLate);
            }
            let epoch = Epoch(u64::from(generation));
            let role = self.processes[to.index()].role;
            self.step(to, Ev::queue(role, QueueEvent::Lost { epoch, partitions }));
        }
        let delay = self.latency();
        self.after(delay, Item::Join { from: to, life });
    }

    /// A new assignment reaches a member.
    pub(super) fn assign_news(&mut self, to: ProcId, life: u32, generation: u32) {
        let now = self.now();
        let process = &self.processes[to.index()];
        if !process.up || process.life != life {
            return;
        }
        let Some(group_id) = process.role.group() else { return };
        let blocked = process.paused_until.max(process.isolated_until);
        if blocked > now {
            let at = blocked + SECOND / 20;
            self.schedule.push(at, Item::AssignNews { to, life, generation });
            return;
        }
        let group = &self.groups[group_id];
        let rejoined =
            group.phase != GroupPhase::Stable && group.members.get(&to).is_some_and(|member| member.joined);
        if group.generation != generation || !group.has(to, life) || rejoined {
            return;
        }
        let partitions = group.partitions_of(to, life);
        let starts: Vec<_> = partitions.iter().map(|partition| group.starts(*partition)).collect();
        self.mark_two_owners(group_id, to, &partitions);
        let fetches = starts
            .iter()
            .map(|starts| starts.iter().map(|next| Fetch { next: *next, scheduled: false }).collect())
            .collect();
        let count = partitions.len();
        self.process(to).assignment = Some(Assignment {
            generation,
            partitions: partitions.clone(),
            fetches,
            open: vec![true; count],
            released: vec![false; count],
            revoked: false,
            over: false,
        });
        if partitions.is_empty() {
            return;
        }
        let epoch = Epoch(u64::from(generation));
        let topics = starts.first().map_or(0, Vec::len);
        let assigned = partitions.iter().copied().zip(starts).collect();
        let role = self.processes[to.index()].role;
        self.step(to, Ev::queue(role, QueueEvent::Assigned { epoch, partitions: assigned }));
        for partition in partitions {
            for topic in 0..topics {
                let topic = u8::try_from(topic).expect("few topics");
                self.fetch_later(to, backbeat_core::id::TopicPartition { topic, partition });
            }
        }
    }

    fn mark_two_owners(&mut self, group: GroupId, to: ProcId, partitions: &[Partition]) {
        let also = self.processes.iter().any(|other| {
            other.id != to
                && other.up
                && other.role.group() == Some(group)
                && other.assignment.as_ref().is_some_and(|owned| {
                    !owned.over && owned.partitions.iter().any(|partition| partitions.contains(partition))
                })
        });
        if also {
            self.marks.hit(Mark::TwoOwners);
        }
    }

    /// The broker has not heard from a member for the session time-out.
    pub(super) fn session_over(&mut self, group_id: GroupId, member: ProcId, life: u32) {
        let now = self.now();
        let process = &self.processes[member.index()];
        let silent =
            !process.up || process.life != life || process.paused_until > now || process.isolated_until > now;
        if silent {
            self.expel(group_id, member, life);
        }
    }

    /// Takes a member out of its group, without notice.
    pub(super) fn expel(&mut self, group_id: GroupId, member: ProcId, life: u32) {
        let group = &mut self.groups[group_id];
        if !group.has(member, life) {
            return;
        }
        group.members.remove(&member);
        let generation = group.generation;
        if self.processes[member.index()].paused_until > self.now() {
            self.marks.hit(Mark::PausedZombie);
        }
        let delay = self.latency();
        self.after(delay, Item::LostNews { to: member, life, generation });
        self.begin_rebalance(group_id);
        let group = &self.groups[group_id];
        if !group.members.is_empty() && group.is_complete() {
            self.finish_rebalance(group_id);
        }
    }
}
