//! The status processor: reads the source, decides, writes under a condition, publishes what follows, settles.

mod recording;

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use crate::call::Ending;
use crate::consumer::{QueueEffect, QueueEvent};
use crate::exception::ExceptionRecord;
use crate::id::{Bucket, EffectId, EffectIds, Epoch, ObjectKey, Offset, Partition, TopicPartition};
use crate::intake::{Intake, IntakeLimits, Item, LaneKey};
use crate::model::{Message, ObjectEntry, ObjectRef, Report, SiteMetric, StatusConfig};
use crate::parts::{InFlight, Retry, RetryDecision, RetryPolicy, Timers};
use crate::rules::Rules;
use crate::status::requeues::Requeues;
use crate::status::{Effect, Event, Outgoing};
use crate::time::{Instant, Now, Span};

/// How a status processor works.
#[derive(Clone, Debug)]
pub struct Config {
    /// What an outcome means for the stored metadata.
    pub decision: StatusConfig,
    /// Objects worked on at once (upstream's `replicationStatusProcessor.concurrency`).
    pub concurrency: usize,
    /// What is held in memory.
    pub intake: IntakeLimits,
    /// The waits between attempts to read or write the source. It never gives up: what cannot be recorded stays queued.
    pub retry: RetryPolicy,
    /// How often a version is queued again because its revision changed, before it is held (decision D2).
    pub requeues_max: u32,
    /// How long a held version waits before the site processor looks at it again.
    pub hold_delay: Span,
}

/// One status message on its way to the source.
#[derive(Clone, Debug)]
struct Work {
    epoch: Epoch,
    message: (TopicPartition, Offset),
    entry: Box<ObjectEntry>,
    object: ObjectRef,
    report: Report,
    retry: Option<Retry>,
    stage: Stage,
    /// What is published, in order, before the message is settled.
    steps: VecDeque<Step>,
    /// What is counted once the write is acknowledged.
    metric: Option<SiteMetric>,
    in_flight: Option<EffectId>,
}

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source metadata is read.
    Reading,
    /// The source metadata is written.
    Writing,
    /// What follows is published.
    Publishing,
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Outgoing),
    Exception(Box<ExceptionRecord>),
}

impl Item for Work {
    fn partition(&self) -> Partition {
        self.message.0.partition
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn offsets(&self) -> &[(TopicPartition, Offset)] {
        std::slice::from_ref(&self.message)
    }

    fn object(&self) -> (&Bucket, &ObjectKey) {
        (&self.object.bucket, &self.object.key)
    }

    /// Outcomes are facts about different moments: each is recorded (replication reference 12.4, row 127).
    fn is_same(&self, _other: &Self) -> bool {
        false
    }

    fn absorb(&mut self, _other: Self) {}
}

/// Counts for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages being worked on.
    pub running: usize,
    /// Messages in lanes that wait.
    pub waiting: usize,
    /// Documents written since the start.
    pub written: u64,
    /// Outcomes that spoke for another revision than the stored one, since the start.
    pub mismatched: u64,
    /// Messages that report nothing usable, since the start.
    pub unusable: u64,
    /// Conditional writes that found the document changed, since the start.
    pub conflicts: u64,
}

/// The status processor. One task owns it.
#[derive(Debug)]
pub struct StatusProcessor<R> {
    config: Config,
    rules: R,
    now: Now,
    ids: EffectIds,
    effects: VecDeque<Effect>,
    intake: Intake<Box<Work>>,
    /// Whose effect it is; ghosts are writes sent for partitions that are gone, with the work that they ask for.
    owners: InFlight<LaneKey>,
    ghosts: InFlight<(LaneKey, Option<Outgoing>)>,
    requeues: Requeues,
    timers: Timers<Timer>,
    summary: Summary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Drained or not, partitions are released.
    Deadline,
}

impl<R: Rules> StatusProcessor<R> {
    /// A processor that owns nothing yet.
    pub fn new(config: Config, rules: R) -> Self {
        Self {
            rules,
            now: Now::default(),
            ids: EffectIds::default(),
            effects: VecDeque::new(),
            intake: Intake::new(config.intake),
            owners: InFlight::new(),
            ghosts: InFlight::new(),
            requeues: Requeues::default(),
            timers: Timers::new(),
            summary: Summary::default(),
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
            Event::Timer => while self.timers.pop_due(self.now.mono).is_some() {},
        }
        self.start_work();
        self.commit();
        self.release_drained();
        let effects = &mut self.effects;
        self.intake.regulate(&self.rules, false, 0, |partition, open| {
            effects.push_back(Effect::Queue(QueueEffect::Flow { partition, open }));
        });
    }

    /// Returns the next effect to carry out. Drain it to `None` after every `handle`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Returns when [`Event::Timer`] is next due, if at all.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Instant::earlier(self.timers.next_due(), self.intake.lanes.next_wake())
    }

    /// Counts for the operator.
    pub fn summary(&self) -> Summary {
        Summary {
            running: self.intake.lanes.running_len(),
            waiting: self.intake.lanes.waiting_len(),
            ..self.summary
        }
    }

    /// What the processor is doing for `key`, if anything: the stage of the message that runs, and how many wait.
    pub fn explain(&self, bucket: &Bucket, key: &ObjectKey) -> Option<(Option<Stage>, usize)> {
        let lane = LaneKey::new(bucket, key);
        let is_asked = |work: &Work| work.object.bucket == *bucket && work.object.key == *key;
        let running = self.intake.lanes.running(&lane).filter(|work| is_asked(work)).map(|work| work.stage);
        let waiting = self.intake.lanes.waiting(&lane).filter(|work| is_asked(work)).count();
        (running.is_some() || waiting > 0).then_some((running, waiting))
    }

    fn queue(&mut self, event: QueueEvent) {
        match event {
            QueueEvent::Assigned { epoch, partitions } => {
                for (partition, starts) in partitions {
                    self.forget(partition);
                    self.intake.assign(epoch, partition, &starts, true);
                }
            }
            QueueEvent::Revoked { epoch, partitions, deadline } => self.revoked(epoch, &partitions, deadline),
            QueueEvent::Lost { epoch, partitions } => {
                for partition in partitions {
                    if self.intake.consumer.epoch(partition) == Some(epoch) {
                        self.forget(partition);
                    }
                }
            }
            QueueEvent::Message { epoch, from, offset, message } => {
                self.message(epoch, from, offset, message);
            }
            QueueEvent::Committed { id, ending } => self.intake.consumer.committed(id, &ending),
        }
    }

    fn revoked(&mut self, epoch: Epoch, partitions: &[Partition], deadline: Instant) {
        for &partition in partitions {
            self.intake.revoke(partition, epoch, deadline);
        }
        self.timers.set(Timer::Deadline, self.intake.consumer.next_deadline().unwrap_or(deadline));
    }

    fn release_drained(&mut self) {
        if !self.intake.consumer.is_leaving() {
            return;
        }
        let released =
            self.intake.consumer.releasable(self.now.mono, |partition| self.intake.is_drained(partition));
        for (epoch, partitions) in released {
            for &partition in &partitions {
                self.forget(partition);
            }
            self.effects.push_back(Effect::Queue(QueueEffect::Release { epoch, partitions }));
        }
        if let Some(deadline) = self.intake.consumer.next_deadline() {
            self.timers.set(Timer::Deadline, deadline);
        }
    }

    fn forget(&mut self, partition: Partition) {
        for (lane, work) in self.intake.forget(partition) {
            if let Some(id) = work.in_flight {
                self.owners.remove(id);
                // A write that is under way may still land: what follows for its key waits until it ended.
                if work.stage == Stage::Writing {
                    let again = work.steps.iter().find_map(|step| match step {
                        Step::Publish(outgoing @ Outgoing::Requeue { .. }) => Some(outgoing.clone()),
                        Step::Publish(_) | Step::Exception(_) => None,
                    });
                    self.ghosts.insert(id, (lane, again));
                    self.intake.lanes.block(lane);
                }
            }
        }
    }

    fn message(&mut self, epoch: Epoch, from: TopicPartition, offset: Offset, message: Message) {
        if !self.intake.accepts(&self.rules, from.partition, epoch) {
            return;
        }
        self.intake.consumer.consumed(from, offset);
        // What is no report is dropped with a count, as upstream does (replication reference 6.2, S1 and S2): nobody waits
        // for it.
        let Message::Object(entry) = message else {
            return self.intake.consumer.settle(from, offset);
        };
        let Ok(report) = Report::of(&entry) else {
            self.summary.unusable += 1;
            return self.intake.consumer.settle(from, offset);
        };
        let work = Box::new(Work {
            epoch,
            message: (from, offset),
            object: entry.object_ref(),
            report,
            entry,
            retry: None,
            stage: Stage::Reading,
            steps: VecDeque::new(),
            metric: None,
            in_flight: None,
        });
        self.intake.offer(&self.rules, work);
    }

    fn start_work(&mut self) {
        self.intake.lanes.wake(self.now.mono);
        while self.intake.lanes.running_len() < self.config.concurrency {
            let Some(lane) = self.intake.lanes.start_next_key() else { return };
            let stage = self.intake.lanes.running(&lane).map(|work| work.stage);
            match stage {
                Some(Stage::Publishing) => self.next_step(lane),
                Some(Stage::Reading | Stage::Writing) => self.read(lane),
                None => {}
            }
        }
    }

    /// Emits `effect` for the work in `lane`.
    fn emit(&mut self, lane: LaneKey, effect: impl FnOnce(EffectId, &Work) -> Effect) {
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        let id = self.ids.next();
        work.in_flight = Some(id);
        let effect = effect(id, work);
        self.owners.insert(id, lane);
        self.effects.push_back(effect);
    }

    fn publish(&mut self, lane: LaneKey, steps: VecDeque<Step>) {
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        work.steps = steps;
        work.stage = Stage::Publishing;
        work.retry = None;
        self.next_step(lane);
    }

    fn next_step(&mut self, lane: LaneKey) {
        let Some(work) = self.intake.lanes.running(&lane) else { return };
        let Some(step) = work.steps.front().cloned() else { return self.finish(lane) };
        self.emit(lane, |id, _| match step {
            Step::Publish(outgoing) => Effect::Publish { id, outgoing },
            Step::Exception(record) => Effect::PutException { id, record },
        });
    }

    fn published(&mut self, id: EffectId, ending: &Ending<()>) {
        let Some(lane) = self.owners.remove(id) else { return };
        if !matches!(ending, Ending::Applied(())) {
            // Each of these messages may come twice: the same one is published again.
            return self.wait(lane, None);
        }
        if let Some(work) = self.intake.lanes.running_mut(&lane) {
            work.steps.pop_front();
            work.retry = None;
        }
        self.next_step(lane);
    }

    /// Tries the present stage again later. The key waits; others go on.
    fn wait(&mut self, lane: LaneKey, retry_after: Option<Span>) {
        let now = self.now.mono;
        let Some(work) = self.intake.lanes.running_mut(&lane) else { return };
        work.in_flight = None;
        let seed = xxh3_64(work.object.key.as_str().as_bytes());
        let retry = work.retry.get_or_insert_with(|| Retry::new(now));
        let at = match retry.next_after(&self.config.retry, now, seed, retry_after) {
            RetryDecision::Retry { at } => at,
            RetryDecision::GiveUp => now + self.config.retry.delay_max,
        };
        self.intake.lanes.release_to_front(&lane, at);
    }

    fn finish(&mut self, lane: LaneKey) {
        let work = self.intake.lanes.finish(&lane);
        self.intake.settle(&self.rules, &work);
    }

    fn commit(&mut self) {
        while let Some(commit) = self.intake.consumer.next_commit(&self.rules, &mut self.ids) {
            self.effects.push_back(Effect::Queue(commit));
        }
    }
}
