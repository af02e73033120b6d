//! What consumers read: fetches, messages that come late, and the flow that a machine closes.

use backbeat_core::QueueEvent;
use backbeat_core::id::{Epoch, Partition, TopicPartition};
use backbeat_core::rules::Rules;

use crate::faults::Fault;
use crate::ids::{ProcId, Topic};
use crate::marks::Mark;
use crate::scenario::SECOND;
use crate::world::process::Ev;
use crate::world::{Item, World, topic_of};

/// Who reads a partition: a process in one of its lives, under one assignment, which has the partition at `index`.
#[derive(Clone, Copy)]
struct Reader {
    to: ProcId,
    life: u32,
    generation: u32,
    index: usize,
    tp: TopicPartition,
}

impl<R: Rules> World<R> {
    /// Schedules a fetch, unless one is scheduled or nothing may flow.
    pub(in crate::world) fn fetch_later(&mut self, to: ProcId, tp: TopicPartition) {
        let delay = self.latency();
        let at = self.now() + delay;
        let process = self.process(to);
        let life = process.life;
        let Some(assignment) = &mut process.assignment else { return };
        if assignment.over || assignment.revoked {
            return;
        }
        let Some(index) = assignment.partitions.iter().position(|owned| *owned == tp.partition) else {
            return;
        };
        let generation = assignment.generation;
        let fetch = &mut assignment.fetches[index][usize::from(tp.topic)];
        if !fetch.scheduled && assignment.open[index] {
            fetch.scheduled = true;
            self.schedule.push(at, Item::Fetch { to, life, generation, tp });
        }
    }

    /// A consumer fetches: what is there is handed over, in order.
    pub(in crate::world) fn fetch(&mut self, to: ProcId, life: u32, generation: u32, tp: TopicPartition) {
        let now = self.now();
        let Some(group) = self.processes[to.index()].role.group() else { return };
        let topic = topic_of(group, tp.topic);
        let partition = tp.partition.0 as usize;
        let log = self.queue.log(topic, partition);
        let blocked = log.down_until.max(log.stalled_until);
        let stalls = self.plan.strength(Fault::FetchStall) > 0 && self.strikes(Fault::FetchStall);
        let process = self.process(to);
        let blocked =
            blocked.max(process.paused_until).max(process.isolated_until).max(process.clogged_until);
        if !process.up || process.life != life {
            return;
        }
        let Some(assignment) = process.assignment.as_mut().filter(|owned| owned.generation == generation)
        else {
            return;
        };
        if assignment.over || assignment.revoked {
            return;
        }
        let Some(index) = assignment.partitions.iter().position(|owned| *owned == tp.partition) else {
            return;
        };
        if blocked > now || stalls {
            let at = if stalls { now + SECOND + self.struck.below(6 * SECOND) } else { blocked };
            self.schedule.push(at, Item::Fetch { to, life, generation, tp });
            return;
        }
        assignment.fetches[index][usize::from(tp.topic)].scheduled = false;
        let reader = Reader { to, life, generation, index, tp };
        if self.strikes(Fault::FetchLate) {
            let delay = self.struck.below(12 * SECOND);
            self.hand_over_late(reader, delay);
            return;
        }
        let burst = self.dice.between(1, 8);
        for _ in 0..burst {
            let Some(ev) = self.take_message(reader) else { return };
            self.step(to, ev);
        }
        let more = self.peek(reader, topic);
        if more {
            self.fetch_later(to, tp);
        }
    }

    fn peek(&self, reader: Reader, topic: Topic) -> bool {
        let Reader { to, generation, index, tp, .. } = reader;
        let process = &self.processes[to.index()];
        let Some(assignment) = process.assignment.as_ref().filter(|owned| owned.generation == generation)
        else {
            return false;
        };
        let next = assignment.fetches[index][usize::from(tp.topic)].next;
        assignment.open[index] && next.0 < self.queue.log(topic, tp.partition.0 as usize).records.len() as u64
    }

    /// Hands one message over after `delay`, even if the assignment it was read under is over by then.
    fn hand_over_late(&mut self, reader: Reader, delay: u64) {
        let at = self.now() + delay;
        let Some(ev) = self.take_message(reader) else { return };
        let Reader { to, life, generation, index, tp } = reader;
        self.schedule.push(at, Item::Deliver { to, life, ev });
        if let Some(assignment) = &mut self.process(to).assignment {
            assignment.fetches[index][usize::from(tp.topic)].scheduled = true;
        }
        self.schedule.push(at + 1, Item::Fetch { to, life, generation, tp });
    }

    /// The next message of a partition for its consumer.
    fn take_message(&mut self, reader: Reader) -> Option<Ev> {
        let Reader { to, life, generation, index, tp } = reader;
        let process = &mut self.processes[to.index()];
        if !process.up || process.life != life || process.machine.is_none() {
            return None;
        }
        let role = process.role;
        let assignment = process.assignment.as_mut().filter(|owned| owned.generation == generation)?;
        if assignment.over || assignment.revoked || !assignment.open[index] {
            return None;
        }
        let fetch = &mut assignment.fetches[index][usize::from(tp.topic)];
        let offset = fetch.next;
        let log = self.queue.log(topic_of(role.group()?, tp.topic), tp.partition.0 as usize);
        let record = log.records.get(usize::try_from(offset.0).expect("an index"))?;
        let message = record.message.clone();
        fetch.next = offset.next();
        let epoch = Epoch(u64::from(generation));
        Some(Ev::queue(role, QueueEvent::Message { epoch, from: tp, offset, message }))
    }

    /// A machine opens or closes the flow of a partition.
    pub(in crate::world) fn flow(&mut self, id: ProcId, partition: Partition, open: bool) {
        let process = self.process(id);
        let Some(assignment) = &mut process.assignment else { return };
        let Some(index) = assignment.partitions.iter().position(|owned| *owned == partition) else { return };
        assignment.open[index] = open;
        let topics = assignment.fetches[index].len();
        self.marks.hit(if open { Mark::FlowReopened } else { Mark::FlowClosed });
        if open {
            for topic in 0..topics {
                self.fetch_later(
                    id,
                    TopicPartition { topic: u8::try_from(topic).expect("few topics"), partition },
                );
            }
        }
    }
}
