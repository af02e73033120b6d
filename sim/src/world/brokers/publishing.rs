//! What producers send, and what arrives at the queue.

use backbeat_core::call::Ending;
use backbeat_core::id::{EffectId, Partition, Seq, TopicPartition};
use backbeat_core::model::{
    Message, ObjectEntry, OverallStatus, PopulatorEntry, Publish, SiteStatus, parse_message,
};
use backbeat_core::parts::InFlight;
use backbeat_core::rules::Rules;
use backbeat_core::status::Outgoing;

use super::{PRODUCE_TIMEOUT, unavailable};
use crate::checkers::{FactKind, Facts, Seen, object_entry};
use crate::faults::Fault;
use crate::ids::{GroupId, ProcId, SiteId, Topic};
use crate::marks::Mark;
use crate::names::version_of_entry;
use crate::world::queue::Record;
use crate::world::{Append, AppendBody, Item, World};

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

impl<R: Rules> World<R> {
    /// A populator publishes work.
    pub(in crate::world) fn publish_work(
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
    pub(in crate::world) fn publish_outgoing(&mut self, from: ProcId, id: EffectId, outgoing: Outgoing) {
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

    /// The partition of an entry's object.
    pub(in crate::world) fn partition_of_entry(&self, entry: &ObjectEntry) -> usize {
        let version = version_of_entry(entry);
        self.partition_of[self.source.versions[version.index()].key.index()]
    }

    /// Sends a message to the queue.
    pub(in crate::world) fn publish(
        &mut self,
        from: ProcId,
        id: EffectId,
        body: AppendBody,
        origin: Option<Seq>,
    ) {
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
    pub(in crate::world) fn append(&mut self, append: Append) {
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
    pub(in crate::world) fn append_message(
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
}
