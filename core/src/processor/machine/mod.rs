//! The site processor: partitions, lanes, copies under way, and the durable order of steps.

mod copies;
mod endings;
mod exceptions;
mod questions;

pub use questions::{Doing, Explanation, Summary};

use std::collections::{BTreeMap, VecDeque};

use crate::consumer::{QueueEffect, QueueEvent};
use crate::exception::{ExceptionRecord, ExceptionState};
use crate::id::{Bucket, EffectId, EffectIds, Epoch, ObjectKey, Offset, Partition, TopicPartition};
use crate::intake::{Intake, IntakeLimits, LaneKey};
use crate::model::{Message, ObjectEntry, ObjectRef, VersionRef};
use crate::parts::{Breaker, BreakerPolicy, Budget, Forced, InFlight, Timers};
use crate::processor::copy::CopyConfig;
use crate::processor::facts::Facts;
use crate::processor::parked::Parked;
use crate::processor::work::{Recording, Step, Work};
use crate::processor::{Control, Effect, Event};
use crate::request::SiteRequest;
use crate::rules::Rules;
use crate::time::{Instant, Now, Span};

/// Bytes of one part that are in memory at once at most: what a move is charged against the byte budget.
const PART_WINDOW: u64 = 1 << 20;

/// How a site processor works.
#[derive(Clone, Debug)]
pub struct Config {
    /// How one version is copied.
    pub copy: CopyConfig,
    /// Copies under way at once (upstream's `queueProcessor.concurrency`).
    pub concurrency: usize,
    /// What is held in memory.
    pub intake: IntakeLimits,
    /// Parked entries of one partition that are tried again by themselves (decision D6); at the bound a lane waits.
    pub parked_max: usize,
    /// Bytes in memory for data on its way (decision D10).
    pub bytes_max: u64,
    /// How long a held entry waits before it is tried again.
    pub hold_delay: Span,
    /// How long facts about a bucket are believed.
    pub facts_ttl: Span,
    /// How often the exception records of owned partitions are read again.
    pub exceptions_refresh: Span,
    /// Replays that the configuration grants in total (replication reference 6.4); zero without replay topics.
    pub replays_max: u32,
    /// When the target is left alone.
    pub breaker: BreakerPolicy,
    /// The wait before a publish that failed is repeated.
    pub publish_delay: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A step of a recording is repeated.
    Record(u64),
    /// A parked entry is tried again.
    Parked(Partition, ObjectRef),
    /// The exception records of a partition are read (again).
    Load(Partition),
    /// Drained or not, partitions are released.
    Deadline,
    /// The breaker may grant a permit.
    Breaker,
}

#[derive(Debug)]
enum CallOwner {
    /// The copy that runs in this lane.
    Copy(LaneKey),
    /// Nobody any more: the request was sent by an earlier owner and keeps its lane closed until it ends.
    Ghost(LaneKey),
}

/// The site processor. One task owns it; see the module for its events and effects.
#[derive(Debug)]
pub struct SiteProcessor<R> {
    config: Config,
    rules: R,
    now: Now,
    ids: EffectIds,
    effects: VecDeque<Effect>,
    intake: Intake<Box<Work>>,
    parked: BTreeMap<Partition, Parked>,
    calls: InFlight<CallOwner>,
    recordings: BTreeMap<u64, Recording>,
    recordings_next: u64,
    publishes: InFlight<u64>,
    /// Notes of copies that are being written.
    notes: BTreeMap<EffectId, (LaneKey, Partition, Box<ExceptionRecord>)>,
    loads: BTreeMap<EffectId, (Partition, Epoch)>,
    budget: Budget<EffectId>,
    /// Moves that wait for bytes of the budget, and the bytes that each emitted move holds.
    moves_waiting: InFlight<Box<SiteRequest>>,
    moves_bytes: InFlight<u64>,
    facts: Facts,
    breaker: Breaker,
    timers: Timers<Timer>,
    paused: bool,
    leaked: u64,
    late_removed: u64,
}

impl<R: Rules> SiteProcessor<R> {
    /// A processor that owns nothing yet.
    pub fn new(config: Config, rules: R) -> Self {
        Self {
            rules,
            now: Now::default(),
            ids: EffectIds::default(),
            effects: VecDeque::new(),
            intake: Intake::new(config.intake),
            parked: BTreeMap::new(),
            calls: InFlight::new(),
            recordings: BTreeMap::new(),
            recordings_next: 0,
            publishes: InFlight::new(),
            notes: BTreeMap::new(),
            loads: BTreeMap::new(),
            budget: Budget::new(config.bytes_max),
            moves_waiting: InFlight::new(),
            moves_bytes: InFlight::new(),
            facts: Facts::default(),
            breaker: Breaker::new(config.breaker),
            timers: Timers::new(),
            paused: false,
            leaked: 0,
            late_removed: 0,
            config,
        }
    }

    /// Applies one event. Drain [`poll_effect`](Self::poll_effect) afterwards.
    pub fn handle(&mut self, now: Now, event: Event) {
        assert!(now.mono >= self.now.mono, "time moved backwards");
        self.now = now;
        match event {
            Event::Queue(event) => self.queue(event),
            Event::Replied { id, reply } => self.replied(id, reply),
            Event::Published { id, ending } => self.published(id, &ending),
            Event::ExceptionsLoaded { id, ending } => self.exceptions_loaded(id, ending),
            Event::Control(control) => self.control(control),
            Event::Timer => self.timer(),
        }
        self.start_work();
        self.commit();
        self.release_drained();
        self.regulate();
    }

    /// Returns the next effect to carry out. Drain it to `None` after every `handle`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when [`Event::Timer`] is next due, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earlier(self.timers.next_due(), self.intake.lanes.next_wake())
    }

    fn queue(&mut self, event: QueueEvent) {
        match event {
            QueueEvent::Assigned { epoch, partitions } => self.assigned(epoch, partitions),
            QueueEvent::Revoked { epoch, partitions, deadline } => self.revoked(epoch, &partitions, deadline),
            QueueEvent::Lost { epoch, partitions } => self.lost(epoch, &partitions),
            QueueEvent::Message { epoch, from, offset, message } => {
                self.message(epoch, from, offset, message);
            }
            QueueEvent::Committed { id, ending } => self.intake.consumer.committed(id, &ending),
        }
    }

    fn assigned(&mut self, epoch: Epoch, partitions: Vec<(Partition, Vec<Offset>)>) {
        for (partition, starts) in partitions {
            self.forget(partition);
            self.intake.assign(epoch, partition, &starts, false);
            self.parked.insert(partition, Parked::default());
            self.load_exceptions(partition);
        }
    }

    fn revoked(&mut self, epoch: Epoch, partitions: &[Partition], deadline: Instant) {
        for &partition in partitions {
            self.intake.revoke(partition, epoch, deadline);
        }
        self.timers.set(Timer::Deadline, self.intake.consumer.next_deadline().unwrap_or(deadline));
    }

    fn lost(&mut self, epoch: Epoch, partitions: &[Partition]) {
        for &partition in partitions {
            if self.intake.consumer.epoch(partition) == Some(epoch) {
                self.forget(partition);
            }
        }
    }

    /// Gives back what is drained, and what is not when its deadline has passed.
    fn release_drained(&mut self) {
        if !self.intake.consumer.is_leaving() {
            return;
        }
        let recording =
            |partition| self.recordings.values().any(|recording| recording.work.partition == partition);
        let is_drained = |partition| self.intake.is_drained(partition) && !recording(partition);
        let released = self.intake.consumer.releasable(self.now.mono, is_drained);
        for (epoch, partitions) in released {
            for &partition in &partitions {
                self.forget(partition);
            }
            self.effects.push_back(Effect::Queue(QueueEffect::Release { epoch, partitions }));
        }
    }

    /// Forgets everything of a partition. Requests already sent keep their lanes closed until they end.
    fn forget(&mut self, partition: Partition) {
        self.parked.remove(&partition);
        for (lane, work) in self.intake.forget(partition) {
            if let Some(permit) = work.permit {
                self.breaker.withdrawn(permit);
            }
            for id in work.job.iter().flat_map(|job| job.outstanding()) {
                if self.moves_waiting.remove(id).is_some() {
                    self.budget.cancel(&id);
                    self.moves_bytes.remove(id);
                    self.calls.remove(id);
                } else if let Some(owner) = self.calls.get_mut(id) {
                    *owner = CallOwner::Ghost(lane);
                    self.intake.lanes.block(lane);
                }
            }
        }
        let of_partition = |recording: &Recording| recording.work.partition == partition;
        let gone = self.recordings.extract_if(.., |_, recording| of_partition(recording));
        for (number, recording) in gone.collect::<Vec<_>>() {
            self.timers.cancel(&Timer::Record(number));
            if let Some(lane) = recording.closed_lane {
                self.intake.lanes.unblock(&lane);
            }
        }
        self.publishes.retain(|_, number| self.recordings.contains_key(number));
        self.grant_moves();
    }

    fn message(&mut self, epoch: Epoch, from: TopicPartition, offset: Offset, message: Message) {
        if !self.intake.accepts(&self.rules, from.partition, epoch) {
            return;
        }
        self.intake.consumer.consumed(from, offset);
        match message {
            Message::Object(entry) if self.concerns_us(&entry) => {
                self.intake.offer(&self.rules, Work::of_entry(from, epoch, offset, &entry));
            }
            Message::Invalid { reason } => self.park_unreadable(epoch, from, offset, &reason),
            // Entries for other sites, and what is no object entry: nothing to do (replication reference 5.2).
            Message::Object(_)
            | Message::Canary
            | Message::Bootstrap
            | Message::DeleteOp { .. }
            | Message::Bucket { .. }
            | Message::BucketMd { .. }
            | Message::Action(_) => self.intake.consumer.settle(from, offset),
        }
    }

    /// Whether an entry is for this site: the site is named in its storage class, and the message, if it names a site,
    /// names this one (replication reference 5.2).
    fn concerns_us(&self, entry: &ObjectEntry) -> bool {
        let site = &self.config.copy.site;
        entry.site.as_ref().is_none_or(|named| named == site) && entry.replication().names_site(site)
    }

    /// A message that cannot be read holds nothing up, and is not lost: its place is written down.
    fn park_unreadable(&mut self, epoch: Epoch, from: TopicPartition, offset: Offset, reason: &str) {
        let place = format!("topic-{}/partition-{}/offset-{}", from.topic, from.partition.0, offset.0);
        let object = ObjectRef {
            bucket: Bucket::from("?"),
            key: ObjectKey::from(place),
            version: VersionRef::Unversioned,
        };
        let record = ExceptionRecord {
            site: self.config.copy.site.clone(),
            object,
            state: ExceptionState::Held,
            reason: format!("Unreadable: {reason}"),
            attempts: 1,
            first: self.now.wall,
            last: self.now.wall,
            next: None,
            deposit: None,
        };
        let mut work = Work::of_record(from.partition, epoch, record.clone());
        work.offsets.push((from, offset));
        self.record(work, None, VecDeque::from([Step::Exception(Box::new(record))]));
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::ForceBreaker(forced) => {
                self.breaker.force(forced.map(|open| if open { Forced::Open } else { Forced::Closed }));
            }
        }
    }

    fn timer(&mut self) {
        while let Some(timer) = self.timers.pop_due(self.now.mono) {
            match timer {
                Timer::Record(number) => self.next_step(number),
                Timer::Parked(partition, object) => self.try_parked(partition, &object),
                Timer::Load(partition) => self.load_exceptions(partition),
                Timer::Deadline => {
                    let later =
                        self.intake.consumer.next_deadline().filter(|&deadline| deadline > self.now.mono);
                    if let Some(deadline) = later {
                        self.timers.set(Timer::Deadline, deadline);
                    }
                }
                Timer::Breaker => {}
            }
        }
    }

    fn commit(&mut self) {
        while let Some(commit) = self.intake.consumer.next_commit(&self.rules, &mut self.ids) {
            self.effects.push_back(Effect::Queue(commit));
        }
    }

    fn regulate(&mut self) {
        let effects = &mut self.effects;
        self.intake.regulate(&self.rules, self.paused, self.recordings.len(), |partition, open| {
            effects.push_back(Effect::Queue(QueueEffect::Flow { partition, open }));
        });
    }
}
