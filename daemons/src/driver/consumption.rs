//! The event loop of a machine that consumes from the queue: one task owns the machine, everything else comes to it as
//! events and leaves it as effects.
//!
//! What all such machines share is carried out here: assignments, messages, commits, the flow of messages and the way
//! partitions are given back. What else a machine asks for goes to its [`Outside`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::queue::{Consumer, ConsumerEvent, QueueError, Slot};
use backbeat_core::call::Ending;
use backbeat_core::id::{EffectId, Epoch, Offset, Partition, Topic, TopicPartition};
use backbeat_core::model::{Message, parse_message};
use backbeat_core::time::{Instant, Now, Span};
use backbeat_core::{QueueEffect, QueueEvent};
use tokio::sync::{mpsc, oneshot};

use super::answers::Answers;
use super::clock::Clock;
use super::progress::Progress;

/// How long a commit may take before its ending counts as unknown.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(30);

/// Commands that wait for the driver; more than a few are never under way.
const COMMANDS_MAX: usize = 64;

/// A machine that consumes from the queue.
pub trait QueueMachine: Send + 'static {
    /// What it is told.
    type Event: Send + 'static;
    /// What it asks for.
    type Effect: Send;

    /// Applies an event.
    fn handle(&mut self, now: Now, event: Self::Event);
    /// The next effect to carry out.
    fn poll_effect(&mut self) -> Option<Self::Effect>;
    /// When the timer is next due.
    fn poll_timeout(&self) -> Option<Instant>;
    /// The event that a timer is due.
    fn timer() -> Self::Event;
    /// News of the queue as an event.
    fn news(event: QueueEvent) -> Self::Event;
    /// What the effect asks of the queue, or the effect itself if it asks something else.
    fn sort(effect: Self::Effect) -> Result<QueueEffect, Self::Effect>;
}

/// Carries out what is particular to a machine. Sees every event and effect, so that operators do (see
/// [`super::observe`]).
pub(super) trait Outside<M: QueueMachine>: Send + 'static {
    /// Carries out `effect`, answering through `answers`.
    fn carry_out(&mut self, now: Now, effect: M::Effect, answers: &mut Answers<M::Event>);
    /// Sees an event before the machine does.
    fn observe(&mut self, now: Now, event: &M::Event);
}

type Question<M> = Box<dyn FnOnce(&M, &Progress) + Send>;

enum Command<M: QueueMachine> {
    Ask(Question<M>),
    Tell(M::Event),
    ShutDown,
}

/// The way to a running driver.
pub struct Handle<M: QueueMachine> {
    commands: mpsc::Sender<Command<M>>,
}

impl<M: QueueMachine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { commands: self.commands.clone() }
    }
}

impl<M: QueueMachine> Handle<M> {
    /// Asks the machine something. `None` if its driver has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&M, &Progress) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let ask: Question<M> = Box::new(move |machine, progress| {
            // Whoever asked may have gone; then nobody misses the answer.
            drop(sender.send(question(machine, progress)));
        });
        self.commands.send(Command::Ask(ask)).await.ok()?;
        answer.await.ok()
    }

    /// Tells the machine something. Says whether its driver still runs.
    pub async fn tell(&self, event: M::Event) -> bool {
        self.commands.send(Command::Tell(event)).await.is_ok()
    }

    /// Asks the driver to drain, commit, leave its group and end. Await its task to know that it has.
    pub async fn shut_down(&self) {
        // A driver that has ended already is shut down.
        self.commands.send(Command::ShutDown).await.unwrap_or_default();
    }
}

/// A driver, ready to run.
pub(super) struct Driver<M: QueueMachine, C, O> {
    machine: M,
    consumer: Arc<C>,
    topics: Vec<Topic>,
    outside: O,
    clock: Clock,
    drain_max: Span,
    answers: Answers<M::Event>,
    commits: Answers<(EffectId, Ending<()>)>,
    commands: mpsc::Receiver<Command<M>>,
    progress: Progress,
    owned: BTreeMap<Partition, Epoch>,
    stopping: bool,
}

impl<M: QueueMachine, C: Consumer, O: Outside<M>> Driver<M, C, O> {
    /// A driver of `machine`, which consumes `topics` (in the order in which it numbers them) through `consumer`.
    /// Partitions that are taken away, and the shutdown, have `drain_max` to drain.
    pub(super) fn new(
        machine: M,
        consumer: C,
        topics: Vec<Topic>,
        outside: O,
        clock: Clock,
        drain_max: Span,
    ) -> (Self, Handle<M>) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let driver = Self {
            machine,
            consumer: Arc::new(consumer),
            topics,
            outside,
            clock,
            drain_max,
            answers: Answers::new(),
            commits: Answers::new(),
            commands,
            progress: Progress::default(),
            owned: BTreeMap::new(),
            stopping: false,
        };
        (driver, Handle { commands: sender })
    }

    /// Runs until shut down. An error means that the queue cannot be read any more.
    pub(super) async fn run(mut self) -> Result<(), QueueError> {
        while !(self.stopping && self.owned.is_empty()) {
            tokio::select! {
                biased;
                answer = self.answers.next() => self.apply(answer),
                (id, ending) = self.commits.next() => {
                    self.progress.committed(id, matches!(ending, Ending::Applied(())));
                    self.happen(QueueEvent::Committed { id, ending });
                }
                Some(command) = self.commands.recv() => self.obey(command),
                () = self.clock.sleep_until(self.machine.poll_timeout()) => self.apply(M::timer()),
                event = self.consumer.next() => match event {
                    Ok(event) => self.consumed(event),
                    Err(QueueError::Left) if self.stopping => break,
                    Err(error) => return Err(error),
                },
            }
        }
        self.consumer.leave().await;
        Ok(())
    }

    fn obey(&mut self, command: Command<M>) {
        match command {
            Command::Ask(question) => question(&self.machine, &self.progress),
            Command::Tell(event) => self.apply(event),
            Command::ShutDown => self.stop(),
        }
    }

    /// Stops reading, and lets the machine drain as if its partitions were taken away.
    fn stop(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let partitions: Vec<Partition> = self.owned.keys().copied().collect();
        self.consumer.pause(&self.slots(&partitions));
        let mut epochs: BTreeMap<Epoch, Vec<Partition>> = BTreeMap::new();
        for (&partition, &epoch) in &self.owned {
            epochs.entry(epoch).or_default().push(partition);
        }
        let deadline = self.clock.now().mono + self.drain_max;
        for (epoch, partitions) in epochs {
            self.happen(QueueEvent::Revoked { epoch, partitions, deadline });
        }
    }

    fn consumed(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned { epoch, partitions } => self.assigned(epoch, &partitions),
            ConsumerEvent::Revoked { epoch, partitions } => {
                let partitions = distinct(&partitions);
                let deadline = self.clock.now().mono + self.drain_max;
                // The machine has nothing of these to release (it may never have heard of them, or have released them
                // while shutting down): say so in its place.
                if partitions.iter().all(|partition| !self.owned.contains_key(partition)) {
                    self.consumer.release(epoch);
                }
                self.happen(QueueEvent::Revoked { epoch, partitions, deadline });
            }
            ConsumerEvent::Lost { epoch, partitions } => {
                let partitions = distinct(&partitions);
                self.disown(&partitions);
                self.happen(QueueEvent::Lost { epoch, partitions });
            }
            // Replication of what they said has to be asked for again: nothing here knows what that was.
            ConsumerEvent::Gone { slot, from, upto, .. } => {
                tracing::error!(%slot, from = from.0, upto = upto.0, "messages were deleted before they were read: `backbeat replication resync --status pending` queues what still waits at the source");
            }
            ConsumerEvent::Message(message) => {
                if self.stopping {
                    return;
                }
                let Some(from) = self.place(&message.slot) else { return };
                self.progress.read(from, message.offset, message.timestamp);
                let parsed = message.payload.map_or_else(
                    || Message::Invalid { reason: "message without a value".to_owned() },
                    |payload| parse_message(&payload),
                );
                let (epoch, offset) = (message.epoch, message.offset);
                self.happen(QueueEvent::Message { epoch, from, offset, message: parsed });
            }
        }
    }

    fn assigned(&mut self, epoch: Epoch, slots: &[(Slot, Offset)]) {
        if self.stopping {
            return;
        }
        let mut partitions: BTreeMap<Partition, Vec<Offset>> = BTreeMap::new();
        for (slot, start) in slots {
            if let Some(from) = self.place(slot) {
                let starts =
                    partitions.entry(slot.partition).or_insert_with(|| vec![Offset(0); self.topics.len()]);
                starts[usize::from(from.topic)] = *start;
                self.progress.assigned(from);
            }
        }
        self.owned.extend(partitions.keys().map(|&partition| (partition, epoch)));
        tracing::info!(epoch = epoch.0, partitions = partitions.len(), "partitions assigned");
        self.happen(QueueEvent::Assigned { epoch, partitions: partitions.into_iter().collect() });
    }

    fn happen(&mut self, event: QueueEvent) {
        self.apply(M::news(event));
    }

    /// Hands an event to the machine and carries out everything that it asks for then.
    fn apply(&mut self, event: M::Event) {
        let now = self.clock.now();
        self.outside.observe(now, &event);
        self.machine.handle(now, event);
        while let Some(effect) = self.machine.poll_effect() {
            match M::sort(effect) {
                Ok(QueueEffect::Commit { id, epoch, from, upto }) => self.commit(id, epoch, from, upto),
                Ok(QueueEffect::Flow { partition, open }) => {
                    let slots = self.slots(&[partition]);
                    if open && !self.stopping {
                        self.consumer.resume(&slots);
                    } else {
                        self.consumer.pause(&slots);
                    }
                }
                Ok(QueueEffect::Release { epoch, partitions }) => {
                    tracing::info!(epoch = epoch.0, partitions = partitions.len(), "partitions drained");
                    self.disown(&partitions);
                    if !self.owned.values().any(|&owned| owned == epoch) {
                        self.consumer.release(epoch);
                    }
                }
                Err(effect) => self.outside.carry_out(now, effect, &mut self.answers),
            }
        }
    }

    fn commit(&mut self, id: EffectId, epoch: Epoch, from: TopicPartition, upto: Offset) {
        self.progress.committing(id, from, upto);
        let consumer = Arc::clone(&self.consumer);
        let slot = Slot::new(&self.topics[usize::from(from.topic)], from.partition);
        self.commits.start(COMMIT_TIME_MAX, (id, Ending::Unknown), async move {
            (id, consumer.commit(epoch, &slot, upto).await)
        });
    }

    fn disown(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.owned.remove(partition);
            self.progress.forget(*partition);
        }
    }

    fn slots(&self, partitions: &[Partition]) -> Vec<Slot> {
        let slots = |partition| self.topics.iter().map(move |topic| Slot::new(topic, partition));
        partitions.iter().copied().flat_map(slots).collect()
    }

    fn place(&self, slot: &Slot) -> Option<TopicPartition> {
        let topic = self.topics.iter().position(|topic| *topic == slot.topic)?;
        Some(TopicPartition { topic: u8::try_from(topic).ok()?, partition: slot.partition })
    }
}

fn distinct(slots: &[Slot]) -> Vec<Partition> {
    slots.iter().map(|slot| slot.partition).collect::<BTreeSet<_>>().into_iter().collect()
}
