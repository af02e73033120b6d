//! The site processor: partitions, lanes, copies under way, and the durable order of steps.

use std::collections::{BTreeMap, VecDeque};

use crate::call::Ending;
use crate::exception::{ExceptionRecord, ExceptionState};
use crate::id::{Bucket, EffectId, EffectIds, Epoch, ObjectKey, Offset, Partition, TopicPartition};
use crate::intake::{Intake, IntakeLimits, LaneKey};
use crate::model::{Message, ObjectEntry, ObjectMd, ObjectRef, VersionRef};
use crate::parts::{Breaker, BreakerPolicy, Budget, Forced, Permit, Timers};
use crate::processor::copy::{Context, CopyConfig, CopyJob, Outcome, Settled, Stage};
use crate::processor::facts::Facts;
use crate::processor::parked::Parked;
use crate::processor::work::{Recording, Step, Work};
use crate::processor::{Control, Effect, Event};
use crate::request::{Side, SiteReply, SiteRequest};
use crate::rules::Rules;
use crate::time::{Instant, Now, Span, WallTime};

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
    /// Whether the target keeps version ids: only then may an older version be applied after a newer one (decision D5).
    pub keeps_version_ids: bool,
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
    Parked(Partition, String),
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
    calls: BTreeMap<EffectId, CallOwner>,
    recordings: BTreeMap<u64, Recording>,
    recordings_next: u64,
    publishes: BTreeMap<EffectId, u64>,
    loads: BTreeMap<EffectId, (Partition, Epoch)>,
    budget: Budget<EffectId>,
    /// Moves that wait for bytes of the budget, and the bytes that each emitted move holds.
    moves_waiting: BTreeMap<EffectId, SiteRequest>,
    moves_bytes: BTreeMap<EffectId, u64>,
    facts: Facts,
    breaker: Breaker,
    timers: Timers<Timer>,
    paused: bool,
    leaked: u64,
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
            calls: BTreeMap::new(),
            recordings: BTreeMap::new(),
            recordings_next: 0,
            publishes: BTreeMap::new(),
            loads: BTreeMap::new(),
            budget: Budget::new(config.bytes_max),
            moves_waiting: BTreeMap::new(),
            moves_bytes: BTreeMap::new(),
            facts: Facts::default(),
            breaker: Breaker::new(config.breaker),
            timers: Timers::new(),
            paused: false,
            leaked: 0,
            config,
        }
    }

    /// Applies one event. Drain [`poll_effect`](Self::poll_effect) afterwards.
    pub fn handle(&mut self, now: Now, event: Event) {
        assert!(now.mono >= self.now.mono, "time moved backwards");
        self.now = now;
        match event {
            Event::Assigned { epoch, partitions } => self.assigned(epoch, partitions),
            Event::Revoked { epoch, partitions, deadline } => self.revoked(epoch, &partitions, deadline),
            Event::Lost { epoch, partitions } => self.lost(epoch, &partitions),
            Event::Message { epoch, from, offset, message } => self.message(epoch, from, offset, message),
            Event::Replied { id, reply } => self.replied(id, reply),
            Event::Published { id, ending } => self.published(id, &ending),
            Event::ExceptionsLoaded { id, ending } => self.exceptions_loaded(id, ending),
            Event::Committed { id, ending } => self.intake.consumer.committed(id, &ending),
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
        [self.timers.next_due(), self.intake.lanes.next_wake()].into_iter().flatten().min()
    }

    // ---- assignments -------------------------------------------------------------------------------------------

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
            self.effects.push_back(Effect::Release { epoch, partitions });
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
                if self.moves_waiting.remove(&id).is_some() {
                    self.budget.cancel(&id);
                    self.moves_bytes.remove(&id);
                    self.calls.remove(&id);
                } else if let Some(owner) = self.calls.get_mut(&id) {
                    *owner = CallOwner::Ghost(lane.clone());
                    self.intake.lanes.block(lane.clone());
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

    // ---- messages ----------------------------------------------------------------------------------------------

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
        };
        let mut work = Work::of_record(from.partition, epoch, record.clone());
        work.offsets.push((from, offset));
        self.record(work, None, VecDeque::from([Step::Exception(Box::new(record))]));
    }

    // ---- copies ------------------------------------------------------------------------------------------------

    fn start_work(&mut self) {
        self.intake.lanes.wake(self.now.mono);
        while !self.paused
            && self.intake.lanes.ready_len() > 0
            && self.intake.lanes.running_len() < self.config.concurrency
        {
            let permit = match self.breaker.allow(self.now.mono) {
                Permit::Wait(until) => {
                    self.timers.set(Timer::Breaker, until);
                    return;
                }
                permit @ (Permit::Go | Permit::Probe(_)) => permit,
            };
            let Some(lane) = self.intake.lanes.start_next_key() else {
                self.breaker.withdrawn(permit);
                return;
            };
            let work = self.intake.lanes.running_mut(&lane).expect("it was just started");
            work.permit = Some(permit);
            work.job
                .get_or_insert_with(|| Box::new(CopyJob::new(work.object.clone(), work.destination.clone())));
            self.with_job(&lane, CopyJob::resume);
            self.advance(&lane);
        }
    }

    /// Runs `step` on the copy in `lane`, if one runs there.
    fn with_job(&mut self, lane: &LaneKey, step: impl FnOnce(&mut CopyJob, &mut Context<'_, R>)) {
        let Some(work) = self.intake.lanes.running_mut(lane) else { return };
        let Some(job) = work.job.as_deref_mut() else { return };
        let mut context = Context {
            now: self.now.mono,
            rules: &self.rules,
            ids: &mut self.ids,
            config: &self.config.copy,
            is_probe: matches!(work.permit, Some(Permit::Probe(_))),
        };
        step(job, &mut context);
    }

    /// Carries out what the copy in `lane` asks for, as far as that needs nobody else, and takes its ending.
    fn advance(&mut self, lane: &LaneKey) {
        while let Some((id, request)) =
            self.intake.lanes.running_mut(lane).and_then(|work| work.job.as_mut()?.poll_request())
        {
            if let Some(reply) = self.known(&request) {
                self.with_job(lane, |job, context| job.reply(id, reply, context));
                continue;
            }
            self.calls.insert(id, CallOwner::Copy(lane.clone()));
            if let SiteRequest::MovePart(part) = &request {
                let bytes = part.size.min(PART_WINDOW);
                self.budget.ask(id, bytes);
                self.moves_bytes.insert(id, bytes);
                self.moves_waiting.insert(id, request);
            } else {
                self.effects.push_back(Effect::Call { id, request });
            }
        }
        self.grant_moves();
        self.listen_to_target(lane);
        let Some(job) = self.intake.lanes.running(lane).and_then(|work| work.job.as_ref()) else { return };
        if job.outcome().is_some() {
            self.conclude(lane);
        } else if let Some(at) = job.wait_until() {
            if let Some(permit) = self.intake.lanes.running_mut(lane).and_then(|work| work.permit.take()) {
                self.breaker.withdrawn(permit);
            }
            self.intake.lanes.release_to_front(lane, at);
        }
    }

    fn grant_moves(&mut self) {
        while let Some(id) = self.budget.granted() {
            let request = self.moves_waiting.remove(&id).expect("what is granted was waiting");
            self.effects.push_back(Effect::Call { id, request });
        }
    }

    /// An answer from memory.
    fn known(&self, request: &SiteRequest) -> Option<SiteReply> {
        let (now, ttl) = (self.now.mono, self.config.facts_ttl);
        match request {
            SiteRequest::ReadRules { bucket } => {
                self.facts.rules(now, ttl, bucket).map(|rules| SiteReply::Rules(Ending::Applied(rules)))
            }
            SiteRequest::CheckBucket { bucket } => {
                self.facts.is_target_ready(now, ttl, bucket).then_some(SiteReply::Bucket(Ending::Applied(())))
            }
            SiteRequest::ReadMetadata { .. }
            | SiteRequest::WriteMetadata { .. }
            | SiteRequest::MovePart(_)
            | SiteRequest::DeleteData { .. } => None,
        }
    }

    fn replied(&mut self, id: EffectId, reply: SiteReply) {
        if let Some(bytes) = self.moves_bytes.remove(&id) {
            self.budget.give_back(bytes);
            self.grant_moves();
        }
        match self.calls.remove(&id) {
            None => {}
            Some(CallOwner::Ghost(lane)) => self.intake.lanes.unblock(&lane),
            Some(CallOwner::Copy(lane)) => {
                self.learn(&lane, &reply);
                self.with_job(&lane, |job, context| job.reply(id, reply, context));
                self.advance(&lane);
            }
        }
    }

    fn learn(&mut self, lane: &LaneKey, reply: &SiteReply) {
        match reply {
            SiteReply::Rules(Ending::Applied(rules)) => {
                self.facts.learn_rules(self.now.mono, lane.bucket.clone(), rules.clone());
            }
            SiteReply::Bucket(Ending::Applied(())) => {
                let target = self
                    .intake
                    .lanes
                    .running(lane)
                    .and_then(|work| work.job.as_ref()?.destination().cloned());
                if let Some(bucket) = target {
                    self.facts.learn_target(self.now.mono, bucket);
                }
            }
            SiteReply::Rules(_)
            | SiteReply::Bucket(_)
            | SiteReply::Metadata(_)
            | SiteReply::Written(_)
            | SiteReply::Moved { .. }
            | SiteReply::Deleted(_) => {}
        }
    }

    fn listen_to_target(&mut self, lane: &LaneKey) {
        let Some(work) = self.intake.lanes.running_mut(lane) else { return };
        let Some(heard) = work.job.as_mut().and_then(|job| job.take_heard_from_target()) else { return };
        let Some(permit) = work.permit else { return };
        if heard {
            self.breaker.succeeded(permit, self.now.mono);
        } else {
            self.breaker.failed(permit, self.now.mono);
        }
        // A probe is answered once; what the same copy hears next is ordinary news.
        if matches!(permit, Permit::Probe(_)) {
            work.permit = Some(Permit::Go);
        }
    }

    // ---- endings -----------------------------------------------------------------------------------------------

    /// Takes the ending of the copy in `lane` and decides what has to be durable before its messages are settled.
    fn conclude(&mut self, lane: &LaneKey) {
        if self.waits_in_place(lane) {
            return;
        }
        let mut work = self.intake.lanes.finish(lane);
        if let Some(permit) = work.permit.take() {
            self.breaker.withdrawn(permit);
        }
        let job = work.job.take().expect("what is concluded was a copy");
        self.leaked += u64::from(job.leaked());
        let attempts = job.attempts();
        let outcome = job.outcome().cloned().expect("what is concluded has an outcome");
        let steps = match outcome {
            Outcome::Copied { source, .. } => {
                let mut status = self.entry(&work, &source).to_completed(&self.config.copy.site);
                status.site = Some(self.config.copy.site.clone());
                let mut steps = VecDeque::from([Step::Status(Box::new(status))]);
                steps.extend(self.tombstone(&work));
                steps
            }
            Outcome::Settled(
                Settled::Gone | Settled::AlreadyCompleted | Settled::NotRequested | Settled::Archived,
            ) => self.tombstone(&work).into_iter().collect(),
            Outcome::Failed { reason, source } => {
                let mut status = self.entry(&work, &source).to_failed(&self.config.copy.site);
                status.site = Some(self.config.copy.site.clone());
                status.replay_count = if self.config.keeps_version_ids { work.replay_count } else { Some(0) };
                let replays_left =
                    status.replay_count.is_none_or(|count| count > 0) && self.config.replays_max > 0;
                let state = if replays_left { ExceptionState::Deferred } else { ExceptionState::Failed };
                let record = self.exception(&work, state, reason, attempts, None);
                let record = Step::Exception(Box::new(record));
                let status = Step::Status(Box::new(status));
                if work.offsets.is_empty() {
                    // No message stands behind this work, only the record it came from: that one is replaced last, so
                    // that a crash in between leaves something to try again.
                    VecDeque::from([status, record])
                } else {
                    VecDeque::from([record, status])
                }
            }
            Outcome::Held { .. } if !self.rules.parks_durably() => VecDeque::new(),
            Outcome::Held { reason } => {
                let next = self.now.wall_after(self.config.hold_delay);
                let record = self.exception(&work, ExceptionState::Held, reason, attempts, Some(next));
                VecDeque::from([Step::Exception(Box::new(record))])
            }
        };
        self.record(work, Some(lane.clone()), steps);
    }

    /// Holds a copy in its lane instead of parking it, where the target mints version ids or too much is parked already.
    fn waits_in_place(&mut self, lane: &LaneKey) -> bool {
        let Some(work) = self.intake.lanes.running_mut(lane) else { return true };
        let held = matches!(work.job.as_ref().and_then(|job| job.outcome()), Some(Outcome::Held { .. }));
        let being_parked = self.recordings.values().filter(|recording| {
            let first = recording.steps.front();
            recording.work.partition == work.partition
                && matches!(first, Some(Step::Exception(record)) if record.next.is_some())
        });
        let parked = self.parked.get(&work.partition).map_or(0, Parked::len) + being_parked.count();
        if !held || (self.config.keeps_version_ids && parked < self.config.parked_max) {
            return false;
        }
        work.job = None;
        if let Some(permit) = work.permit.take() {
            self.breaker.withdrawn(permit);
        }
        self.intake.lanes.release_to_front(lane, self.now.mono + self.config.hold_delay);
        true
    }

    fn entry(&self, work: &Work, source: &ObjectMd) -> ObjectEntry {
        let mut entry = ObjectEntry::of(work.object.bucket.clone(), &work.object.key, source.clone());
        entry.site = Some(self.config.copy.site.clone());
        entry.replay_count = work.replay_count;
        entry.account_id.clone_from(&work.account_id);
        entry
    }

    fn exception(
        &self,
        work: &Work,
        state: ExceptionState,
        reason: String,
        attempts: u32,
        next: Option<WallTime>,
    ) -> ExceptionRecord {
        let earlier = work.record.as_ref();
        ExceptionRecord {
            site: self.config.copy.site.clone(),
            object: work.object.clone(),
            state,
            reason,
            attempts: earlier.map_or(0, |record| record.attempts).saturating_add(attempts),
            first: earlier.map_or(self.now.wall, |record| record.first),
            last: self.now.wall,
            next,
        }
    }

    /// The step that deletes this version's exception record, if there may be one.
    fn tombstone(&self, work: &Work) -> Option<Step> {
        if !work.is_retry && self.parked.get(&work.partition).is_none_or(Parked::is_empty) {
            return None;
        }
        let record = self.exception(work, ExceptionState::Resolved, String::new(), 0, None);
        let known = self.parked.get(&work.partition).is_some_and(|parked| parked.may_know(&record.key()));
        (work.is_retry || known).then(|| Step::Exception(Box::new(record)))
    }

    /// Starts to write an ending down. `lane` stays closed until that is done.
    fn record(&mut self, work: Box<Work>, lane: Option<LaneKey>, steps: VecDeque<Step>) {
        let number = self.recordings_next;
        self.recordings_next += 1;
        let closed_lane = lane.filter(|_| !steps.is_empty() && self.rules.holds_key_until_durable());
        if let Some(lane) = &closed_lane {
            self.intake.lanes.block(lane.clone());
        }
        let recording = Recording { work, steps, closed_lane, in_flight: None, failures: 0, again_at: None };
        self.recordings.insert(number, recording);
        self.next_step(number);
    }

    fn next_step(&mut self, number: u64) {
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        let Some(step) = recording.steps.front() else { return self.recorded(number) };
        let id = self.ids.next();
        let effect = match step {
            Step::Exception(record) => Effect::PutException { id, record: record.clone() },
            Step::Status(entry) => Effect::PublishStatus { id, entry: entry.clone() },
        };
        recording.in_flight = Some(id);
        self.publishes.insert(id, number);
        self.effects.push_back(effect);
    }

    fn published(&mut self, id: EffectId, ending: &Ending<()>) {
        let Some(number) = self.publishes.remove(&id) else { return };
        let Some(recording) = self.recordings.get_mut(&number) else { return };
        if recording.in_flight.take_if(|in_flight| *in_flight == id).is_none() {
            return;
        }
        if matches!(ending, Ending::Applied(())) {
            if let Some(Step::Exception(record)) = recording.steps.pop_front() {
                let partition = recording.work.partition;
                self.note_parked(partition, *record);
            }
            self.next_step(number);
        } else {
            // Both kinds of message are idempotent: the same one is published again.
            recording.failures = recording.failures.saturating_add(1);
            let doublings = recording.failures.min(6);
            let at = self.now.mono + self.config.publish_delay.saturating_mul(1 << doublings);
            recording.again_at = Some(at);
            self.timers.set(Timer::Record(number), at);
        }
    }

    fn recorded(&mut self, number: u64) {
        let Some(recording) = self.recordings.remove(&number) else { return };
        if let Some(lane) = recording.closed_lane {
            self.intake.lanes.unblock(&lane);
        }
        self.intake.settle(&self.rules, &recording.work);
    }

    // ---- parked entries ----------------------------------------------------------------------------------------

    fn load_exceptions(&mut self, partition: Partition) {
        let Some(epoch) = self.intake.consumer.epoch(partition) else { return };
        let id = self.ids.next();
        self.loads.insert(id, (partition, epoch));
        self.effects.push_back(Effect::LoadExceptions { id, partition });
    }

    fn exceptions_loaded(&mut self, id: EffectId, ending: Ending<Vec<ExceptionRecord>>) {
        let Some((partition, epoch)) = self.loads.remove(&id) else { return };
        if self.intake.consumer.epoch(partition) != Some(epoch) {
            return;
        }
        let Ending::Applied(records) = ending else {
            let at = self.now.mono + self.config.publish_delay.saturating_mul(8);
            self.timers.set(Timer::Load(partition), at);
            return;
        };
        for record in records {
            if record.site == self.config.copy.site {
                self.note_parked(partition, record);
            }
        }
        self.timers.set(Timer::Load(partition), self.now.mono + self.config.exceptions_refresh);
        self.intake.open(&self.rules, partition);
    }

    fn note_parked(&mut self, partition: Partition, record: ExceptionRecord) {
        let Some(parked) = self.parked.get_mut(&partition) else { return };
        let key = record.key();
        let next = record.next;
        parked.insert(record);
        let timer = Timer::Parked(partition, key);
        match next {
            None => {
                self.timers.cancel(&timer);
            }
            Some(next) => {
                let millis = u64::try_from(next.as_millis() - self.now.wall.as_millis()).unwrap_or(0);
                let delay = Span::from_millis(millis).min(self.config.hold_delay);
                self.timers.set(timer, self.now.mono + delay);
            }
        }
    }

    fn try_parked(&mut self, partition: Partition, key: &str) {
        if !self.intake.consumer.may_start(partition) {
            return;
        }
        let Some(epoch) = self.intake.consumer.epoch(partition) else { return };
        let Some(record) = self.parked.get(&partition).and_then(|parked| parked.waiting(key)) else { return };
        let work = Work::of_record(partition, epoch, record.clone());
        // Until its ending is written down, look again after the usual delay: a busy lane must not lose it.
        self.timers.set(Timer::Parked(partition, key.to_owned()), self.now.mono + self.config.hold_delay);
        self.intake.offer_unless_busy(&self.rules, work);
    }

    // ---- control and timers ------------------------------------------------------------------------------------

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
                Timer::Parked(partition, key) => self.try_parked(partition, &key),
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
            self.effects.push_back(Effect::Commit {
                id: commit.id,
                epoch: commit.epoch,
                from: commit.from,
                upto: commit.upto,
            });
        }
    }

    fn regulate(&mut self) {
        let effects = &mut self.effects;
        self.intake.regulate(&self.rules, self.paused, self.recordings.len(), |partition, open| {
            effects.push_back(Effect::Flow { partition, open });
        });
    }

    // ---- questions ---------------------------------------------------------------------------------------------

    /// What the processor knows of `key`: the versions in its lane, in order. Empty when nothing is known of it.
    pub fn explain(&self, bucket: &Bucket, key: &ObjectKey) -> Vec<Explanation> {
        let lane = LaneKey { bucket: bucket.clone(), key: key.clone(), salt: 0 };
        let running = self.intake.lanes.running(&lane).map(|work| Self::explanation(work, true));
        let recording = self
            .recordings
            .values()
            .filter(|recording| recording.closed_lane.as_ref() == Some(&lane))
            .map(|recording| Self::explanation(&recording.work, true));
        let waiting = self.intake.lanes.waiting(&lane).map(|work| Self::explanation(work, false));
        let parked = self.parked.values().flat_map(Parked::iter);
        let parked = parked.filter(|record| record.object.bucket == *bucket && record.object.key == *key);
        let parked = parked.map(|record| Explanation {
            object: record.object.clone(),
            doing: Doing::Parked { reason: record.reason.clone(), next: record.next },
            attempts: record.attempts,
        });
        running.into_iter().chain(recording).chain(waiting).chain(parked).collect()
    }

    fn explanation(work: &Work, active: bool) -> Explanation {
        let job = work.job.as_ref();
        let doing = match job {
            Some(job) if !active || job.wait_until().is_some() => Doing::Waiting {
                until: job.wait_until(),
                trouble: job.trouble().map(|(side, reason)| (side, reason.to_owned())),
            },
            Some(job) => Doing::Copying { stage: job.stage() },
            None if active => Doing::Recording,
            None => Doing::Waiting { until: None, trouble: None },
        };
        Explanation { object: work.object.clone(), doing, attempts: job.map_or(0, |job| job.attempts()) }
    }

    /// Counts for the operator.
    pub fn summary(&self) -> Summary {
        Summary {
            running: self.intake.lanes.running_len(),
            waiting: self.intake.lanes.waiting_len(),
            recording: self.recordings.len(),
            parked: self.parked.values().map(Parked::len).sum(),
            partitions: self.parked.len(),
            paused: self.paused,
            target_reachable: self.breaker.is_closed(),
            bytes_held: self.budget.used(),
            leaked: self.leaked,
        }
    }
}

/// What the processor is doing about one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The version.
    pub object: ObjectRef,
    /// What happens to it.
    pub doing: Doing,
    /// Attempts so far.
    pub attempts: u32,
}

/// What happens to one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is being copied.
    Copying {
        /// The stage of the copy.
        stage: Stage,
    },
    /// Its ending is being written down.
    Recording,
    /// It waits for its turn, or for the next attempt.
    Waiting {
        /// When the next attempt is due.
        until: Option<Instant>,
        /// What went wrong last, and where.
        trouble: Option<(Side, String)>,
    },
    /// It is parked.
    Parked {
        /// Why.
        reason: String,
        /// When it is tried again.
        next: Option<WallTime>,
    },
}

/// What the processor holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Copies under way.
    pub running: usize,
    /// Entries in lanes that wait.
    pub waiting: usize,
    /// Endings being written down.
    pub recording: usize,
    /// Parked entries that are tried again by themselves.
    pub parked: usize,
    /// Partitions owned.
    pub partitions: usize,
    /// Whether the operator paused the site.
    pub paused: bool,
    /// Whether the target is asked freely.
    pub target_reachable: bool,
    /// Bytes of the budget that are out.
    pub bytes_held: u64,
    /// Parts written in vain that were left to an audit.
    pub leaked: u64,
}
