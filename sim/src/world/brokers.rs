//! What the broker does for producers and consumers: appends, commits, fetches, exception records.

use backbeat_core::QueueEvent;
use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::{EffectId, Epoch, Offset, Partition, Seq, TopicPartition};
use backbeat_core::model::{
    Message, ObjectEntry, OverallStatus, PopulatorEntry, Publish, SiteStatus, parse_message,
};
use backbeat_core::parts::InFlight;
use backbeat_core::processor;
use backbeat_core::rules::Rules;
use backbeat_core::status::Outgoing;

use super::group::CommitAnswer;
use super::ids::{GroupId, ProcId, SiteId, Topic};
use super::process::{Ev, Role};
use super::queue::Record;
use super::source::{known_version_of, version_of};
use super::{Append, AppendBody, Item, World, topic_of};
use crate::checkers::{FactKind, Facts, Seen, object_entry};
use crate::faults::Fault;
use crate::marks::Mark;
use crate::scenario::SECOND;

/// How long a producer waits for an acknowledgement.
const PRODUCE_TIMEOUT: u64 = 5 * SECOND;
/// How long a consumer waits for the answer to a commit.
const COMMIT_TIMEOUT: u64 = 3 * SECOND;

fn unavailable(code: &str) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, code)
}

impl<R: Rules> World<R> {
    /// The partition of an entry's object.
    pub(super) fn partition_of_entry(&self, entry: &ObjectEntry) -> usize {
        let version = version_of(&entry.object_ref());
        self.partition_of[self.source.versions[version.index()].key.index()]
    }

    /// A populator publishes work.
    pub(super) fn publish_work(
        &mut self,
        from: ProcId,
        id: EffectId,
        producer: u64,
        seq: Seq,
        what: &Publish,
        entry: &PopulatorEntry,
    ) {
        let process = self.process(from);
        if process.producer != producer {
            if process.producer != 0 {
                self.marks.hit(Mark::PopulatorRewound);
            }
            let process = self.process(from);
            process.producer = producer;
            process.publishes = InFlight::new();
        }
        let Some(record) = self.source.at(seq) else {
            panic!("POP-2: {from:?} publishes record {seq:?}, which is not in the journal")
        };
        let version = record.version;
        let key = self.source.versions[version.index()].key;
        assert_eq!(what.key, self.keys_encoded[key.index()], "POP-2: the queue key is the object's");
        let message = match (&record.md, self.shape.wire) {
            (Some(md), false) => {
                let object = &self.source.versions[version.index()].object;
                Message::Object(Box::new(ObjectEntry::of(object.bucket.clone(), &object.key, md.clone())))
            }
            (_, _) => parse_message(entry.message().as_bytes()),
        };
        let partition = self.partition_of[key.index()];
        self.publish(
            from,
            id,
            AppendBody::Message { topic: Topic::Replication, partition, message },
            Some(seq),
        );
    }

    /// A status processor publishes something.
    pub(super) fn publish_outgoing(&mut self, from: ProcId, id: EffectId, outgoing: Outgoing) {
        let body = match outgoing {
            Outgoing::Replay { topic, entry } => {
                let index = self.configs.replay_topics.iter().position(|known| *known == topic);
                let index = index.expect("only configured replay topics are used");
                let topic = Topic::Replay(u8::try_from(index).expect("few replay topics"));
                let partition = self.partition_of_entry(&entry);
                AppendBody::Message { topic, partition, message: Message::Object(entry) }
            }
            Outgoing::Requeue { entry } => {
                self.marks.hit(Mark::Requeued);
                let partition = self.partition_of_entry(&entry);
                AppendBody::Message { topic: Topic::Replication, partition, message: Message::Object(entry) }
            }
            Outgoing::Failed { record } => AppendBody::Other { topic: Topic::Failed, text: record.member },
            Outgoing::Gc { .. } => AppendBody::Other { topic: Topic::Gc, text: String::new() },
        };
        self.publish(from, id, body, None);
    }

    /// A machine writes an exception record.
    pub(super) fn put_exception(&mut self, from: ProcId, id: EffectId, record: Box<ExceptionRecord>) {
        // Records of unreadable messages name a place instead of a version.
        let partition = known_version_of(&record.object)
            .map_or(0, |version| self.partition_of[self.source.versions[version.index()].key.index()]);
        self.publish(from, id, AppendBody::Exception { partition, record }, None);
    }

    /// Sends a message to the queue.
    pub(super) fn publish(&mut self, from: ProcId, id: EffectId, body: AppendBody, origin: Option<Seq>) {
        let now = self.now();
        let process = self.process(from);
        if origin.is_some() {
            process.publishes.insert(id, ());
        } else {
            process.in_flight += 1;
        }
        let (life, producer) = (process.life, process.producer);
        if origin.is_some() && self.broken_pipes.contains(&(from, life, producer)) {
            let ev = self.published(from, id, Ending::Unknown);
            return self.answer(from, life, ev);
        }
        let refusal = if self.strikes(Fault::ProducerQueueFull) {
            Some("QueueFull")
        } else if self.strikes(Fault::ProduceRefused) {
            Some("NotEnoughReplicas")
        } else {
            None
        };
        if let Some(code) = refusal {
            self.break_pipe(from, life, producer, origin);
            let ev = self.published(from, id, Ending::Refused(unavailable(code)));
            return self.answer(from, life, ev);
        }
        let departure = self.departure(from);
        let lost = departure.is_none() || self.strikes(Fault::ProduceLost);
        if lost {
            self.break_pipe(from, life, producer, origin);
            let ev = self.published(from, id, Ending::Unknown);
            self.schedule.push(now + PRODUCE_TIMEOUT, Item::Deliver { to: from, life, ev });
            return;
        }
        let slot = self.pipe_slot(&body);
        let last = &mut self.processes[from.index()].last_append[slot];
        let at = departure.unwrap_or(now).max(*last);
        *last = at;
        let reply_lost = self.strikes(Fault::ProduceReplyLost);
        self.schedule.push(
            at,
            Item::Append(Box::new(Append { from, life, id: Some(id), body, origin, reply_lost, producer })),
        );
    }

    fn pipe_slot(&self, body: &AppendBody) -> usize {
        let partitions = self.queue.partitions();
        let (topic, partition) = match body {
            AppendBody::Message { topic, partition, .. } => match topic {
                Topic::Replication => (0, *partition),
                Topic::Replay(index) => (3 + usize::from(*index), *partition),
                Topic::Status => (1, *partition),
                Topic::Failed | Topic::Gc | Topic::Exceptions => (2, *partition),
            },
            AppendBody::Exception { partition, .. } => (2, *partition),
            AppendBody::Other { .. } => (6, 0),
        };
        topic * partitions + partition
    }

    /// A populator's producer that failed once delivers nothing more.
    fn break_pipe(&mut self, from: ProcId, life: u32, producer: u64, origin: Option<Seq>) {
        if origin.is_some() {
            self.broken_pipes.insert((from, life, producer));
        }
    }

    /// A message arrives at the queue.
    pub(super) fn append(&mut self, append: Append) {
        let now = self.now();
        let Append { from, life, id, body, origin, reply_lost, producer } = append;
        let down = match &body {
            AppendBody::Message { topic, partition, .. } => {
                self.queue.log(*topic, *partition).down_until > now
            }
            AppendBody::Exception { .. } | AppendBody::Other { .. } => false,
        };
        let broken = origin.is_some() && self.broken_pipes.contains(&(from, life, producer));
        if down || broken {
            self.break_pipe(from, life, producer, origin);
            let refusal = unavailable("LeaderNotAvailable");
            let ending = if broken { Ending::Unknown } else { Ending::Refused(refusal) };
            if let Some(id) = id {
                let ev = self.published(from, id, ending);
                self.answer(from, life, ev);
            }
            return;
        }
        match body {
            AppendBody::Message { topic, partition, message } => {
                let message = if self.shape.wire { round_trip(message) } else { message };
                if self.strikes(Fault::ProduceDoubled) {
                    self.append_message(topic, partition, message.clone(), origin);
                }
                self.append_message(topic, partition, message, origin);
            }
            AppendBody::Exception { partition, record } => self.append_exception(partition, &record),
            AppendBody::Other { topic, text } => {
                if topic == Topic::Failed {
                    self.see(&Seen::FailureListed { message: &text });
                }
            }
        }
        let Some(id) = id else { return };
        if reply_lost || self.is_unheard(from) {
            self.break_pipe(from, life, producer, origin);
            let ev = self.published(from, id, Ending::Unknown);
            self.schedule.push(now + PRODUCE_TIMEOUT, Item::Deliver { to: from, life, ev });
        } else {
            let ev = self.published(from, id, Ending::Applied(()));
            self.answer(from, life, ev);
        }
    }

    /// Appends a message and wakes its consumers.
    pub(super) fn append_message(
        &mut self,
        topic: Topic,
        partition: usize,
        message: Message,
        origin: Option<Seq>,
    ) {
        let facts = self.checkers.facts_of(topic, &message);
        let replica = object_entry(&message)
            .is_some_and(|entry| *entry.md().replication().status() == OverallStatus::Replica);
        self.mark_append(&facts);
        if let FactKind::Work { version, .. } = &facts.kind
            && self.source.md(*version).is_some_and(|md| *md.replication().status() == OverallStatus::Replica)
        {
            self.marks.hit(Mark::ReplicaQueuedByMistake);
        }
        let origin = origin.and_then(|seq| self.source.index_of(seq));
        self.see(&Seen::Queued { topic, partition, facts: &facts, origin, replica });
        self.queue.append(topic, partition, Record { message, facts });
        match topic {
            Topic::Status => self.wake(GroupId::Status, 0, partition),
            Topic::Replication | Topic::Replay(_) => {
                let index = if let Topic::Replay(index) = topic { index + 1 } else { 0 };
                for site in 0..self.targets.len() {
                    let site = SiteId(u8::try_from(site).expect("few sites"));
                    self.wake(GroupId::Site(site), index, partition);
                }
            }
            Topic::Failed | Topic::Gc | Topic::Exceptions => {}
        }
    }

    fn mark_append(&mut self, facts: &Facts) {
        if let FactKind::Outcome { version, status: SiteStatus::Completed, revision, .. } = &facts.kind
            && self.source.md(*version).is_some()
            && !self.checkers.is_revision(*version, *revision)
        {
            self.marks.hit(Mark::StatusForOlder);
        }
    }

    fn append_exception(&mut self, partition: usize, record: &ExceptionRecord) {
        let mark = match record.state {
            ExceptionState::Deferred => Mark::ExceptionDeferred,
            ExceptionState::Held => Mark::ExceptionHeld,
            ExceptionState::Failed => Mark::ExceptionWritten,
            ExceptionState::Copying => Mark::CopyNoted,
            ExceptionState::Resolved => Mark::ExceptionResolved,
        };
        self.marks.hit(mark);
        let site = self
            .shape
            .sites
            .iter()
            .position(|site| *site == record.site)
            .expect("records name configured sites");
        let site = SiteId(u8::try_from(site).expect("few sites"));
        if record.reason == "NewerVersionAtTarget" {
            self.marks.hit(Mark::OlderRefused);
        }
        if record.reason == "RevisionUnstable" {
            self.marks.hit(Mark::StatusRequeueHeld);
        }
        if let Some(version) = known_version_of(&record.object) {
            self.see(&Seen::ExceptionPut { version, site, record });
        }
        self.queue.put_exception(partition, record);
    }

    /// A machine reads exception records.
    pub(super) fn load_exceptions(&mut self, from: ProcId, id: EffectId, partition: Partition) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        match self.departure(from) {
            Some(at) => self.schedule.push(at, Item::LoadExceptions { from, life, id, partition }),
            None => {
                let ev = Ev::Processor(processor::Event::ExceptionsLoaded { id, ending: Ending::Unknown });
                self.after(PRODUCE_TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    pub(super) fn exceptions_read(&mut self, from: ProcId, life: u32, id: EffectId, partition: Partition) {
        let Role::Processor(site) = self.processes[from.index()].role else { return };
        let name = &self.shape.sites[site.index()];
        let live = &self.queue.exceptions[partition.0 as usize];
        let records: Vec<ExceptionRecord> =
            live.values().filter(|record| record.site == *name).cloned().collect();
        if records.iter().any(|record| record.state != ExceptionState::Failed) {
            self.marks.hit(Mark::ExceptionsAtTakeover);
        }
        let ending = if self.is_unheard(from) { Ending::Unknown } else { Ending::Applied(records) };
        self.answer(from, life, Ev::Processor(processor::Event::ExceptionsLoaded { id, ending }));
    }

    /// A machine commits.
    pub(super) fn send_commit(
        &mut self,
        from: ProcId,
        id: EffectId,
        epoch: Epoch,
        tp: TopicPartition,
        upto: Offset,
    ) {
        let process = self.process(from);
        process.in_flight += 1;
        let life = process.life;
        let generation = u32::try_from(epoch.0).expect("epochs are generations here");
        let refused = self.strikes(Fault::CommitRefused);
        if refused {
            let ev = self.committed(from, id, Ending::Refused(unavailable("RebalanceInProgress")));
            return self.answer(from, life, ev);
        }
        let reply_lost = self.strikes(Fault::CommitReplyLost);
        match self.departure(from) {
            Some(at) => {
                self.schedule.push(at, Item::Commit { from, life, id, generation, tp, upto, reply_lost });
            }
            None => {
                let ev = self.committed(from, id, Ending::Unknown);
                self.after(COMMIT_TIMEOUT, Item::Deliver { to: from, life, ev });
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a commit is these values")]
    pub(super) fn commit_arrives(
        &mut self,
        from: ProcId,
        life: u32,
        id: EffectId,
        generation: u32,
        tp: TopicPartition,
        upto: Offset,
        reply_lost: bool,
    ) {
        let now = self.now();
        let Some(group_id) = self.processes[from.index()].role.group() else { return };
        let topic = topic_of(group_id, tp.topic);
        let group = &mut self.groups[group_id];
        if group.down_until > now {
            let ev = self.committed(from, id, Ending::Refused(unavailable("CoordinatorNotAvailable")));
            return self.answer(from, life, ev);
        }
        let before = group.committed[usize::from(tp.topic)][tp.partition.0 as usize];
        let ending = match group.commit(from, life, generation, tp, upto) {
            CommitAnswer::Recorded => {
                if before == upto {
                    self.marks.hit(Mark::CommitRepeated);
                }
                self.see(&Seen::Committed {
                    group: group_id,
                    topic,
                    partition: tp.partition,
                    upto,
                    generation,
                });
                self.mark_poison(topic, tp.partition.0 as usize, before, upto);
                Ending::Applied(())
            }
            CommitAnswer::Fenced => {
                self.marks.hit(Mark::ZombieCommitFenced);
                Ending::Refused(Refusal::new(RefusalKind::Fenced, "IllegalGeneration"))
            }
        };
        if reply_lost || self.is_unheard(from) {
            let ev = self.committed(from, id, Ending::Unknown);
            self.after(COMMIT_TIMEOUT, Item::Deliver { to: from, life, ev });
        } else {
            let ev = self.committed(from, id, ending);
            self.answer(from, life, ev);
        }
    }

    fn mark_poison(&mut self, topic: Topic, partition: usize, from: Offset, upto: Offset) {
        let records = &self.queue.log(topic, partition).records;
        let range = usize::try_from(from.0).expect("an index")..usize::try_from(upto.0).expect("an index");
        if records
            .get(range)
            .is_some_and(|passed| passed.iter().any(|record| record.facts.kind == FactKind::Foreign))
        {
            self.marks.hit(Mark::PoisonPassed);
        }
    }

    fn committed(&self, to: ProcId, id: EffectId, ending: Ending<()>) -> Ev {
        Ev::queue(self.processes[to.index()].role, QueueEvent::Committed { id, ending })
    }

    /// A message is there: its consumer fetches.
    fn wake(&mut self, group: GroupId, topic: u8, partition: usize) {
        let Some((owner, life)) = self.groups[group].owners[partition] else {
            return;
        };
        let process = &self.processes[owner.index()];
        if !process.up || process.life != life {
            return;
        }
        let partition = Partition(u32::try_from(partition).expect("few partitions"));
        self.fetch_later(owner, TopicPartition { topic, partition });
    }

    /// Schedules a fetch, unless one is scheduled or nothing may flow.
    pub(super) fn fetch_later(&mut self, to: ProcId, tp: TopicPartition) {
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
    pub(super) fn fetch(&mut self, to: ProcId, life: u32, generation: u32, tp: TopicPartition) {
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
        if self.strikes(Fault::FetchLate) {
            let delay = self.struck.below(12 * SECOND);
            self.hand_over_late(to, life, generation, index, tp, delay);
            return;
        }
        let burst = self.dice.between(1, 8);
        for _ in 0..burst {
            if !self.hand_over(to, life, generation, index, tp) {
                return;
            }
        }
        let more = self.peek(to, generation, index, tp, topic);
        if more {
            self.fetch_later(to, tp);
        }
    }

    fn peek(&self, to: ProcId, generation: u32, index: usize, tp: TopicPartition, topic: Topic) -> bool {
        let process = &self.processes[to.index()];
        let Some(assignment) = process.assignment.as_ref().filter(|owned| owned.generation == generation)
        else {
            return false;
        };
        let next = assignment.fetches[index][usize::from(tp.topic)].next;
        assignment.open[index] && next.0 < self.queue.log(topic, tp.partition.0 as usize).records.len() as u64
    }

    /// Hands one message over. Returns whether another one may follow.
    fn hand_over(
        &mut self,
        to: ProcId,
        life: u32,
        generation: u32,
        index: usize,
        tp: TopicPartition,
    ) -> bool {
        let Some(ev) = self.take_message(to, life, generation, index, tp) else { return false };
        self.step(to, ev);
        true
    }

    /// Hands one message over after `delay`, even if the assignment it was read under is over by then.
    fn hand_over_late(
        &mut self,
        to: ProcId,
        life: u32,
        generation: u32,
        index: usize,
        tp: TopicPartition,
        delay: u64,
    ) {
        let at = self.now() + delay;
        let Some(ev) = self.take_message(to, life, generation, index, tp) else { return };
        self.schedule.push(at, Item::Deliver { to, life, ev });
        if let Some(assignment) = &mut self.process(to).assignment {
            assignment.fetches[index][usize::from(tp.topic)].scheduled = true;
        }
        self.schedule.push(at + 1, Item::Fetch { to, life, generation, tp });
    }

    /// The next message of a partition for its consumer.
    fn take_message(
        &mut self,
        to: ProcId,
        life: u32,
        generation: u32,
        index: usize,
        tp: TopicPartition,
    ) -> Option<Ev> {
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
    pub(super) fn flow(&mut self, id: ProcId, partition: Partition, open: bool) {
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

/// Sends a message through its wire form and back.
fn round_trip(message: Message) -> Message {
    match message {
        Message::Object(entry) => {
            let (_, text) = entry.to_kafka(entry.site.as_ref());
            let parsed = parse_message(text.as_bytes());
            let again = object_entry(&parsed).expect("an entry's own message is an entry");
            assert_eq!(again.to_kafka(again.site.as_ref()).1, text, "a message survives its wire form");
            parsed
        }
        other @ (Message::Canary
        | Message::Bootstrap
        | Message::DeleteOp { .. }
        | Message::Bucket { .. }
        | Message::BucketMd { .. }
        | Message::Action(_)
        | Message::Invalid { .. }) => other,
    }
}
