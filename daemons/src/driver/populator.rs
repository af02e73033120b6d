//! The driver of the populator: reads the journal, publishes strictly in order, keeps the position.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::coordination::Coordination;
use backbeat_backends::journal::Journal;
use backbeat_backends::queue::{Producer, Queue, Record};
use backbeat_core::call::Ending;
use backbeat_core::id::{EffectId, Seq, Site, Topic};
use backbeat_core::model::{MetricKind, Publish, SiteMetric};
use backbeat_core::populator::{Config, Effect, Event, Populator, StopReason, Summary};
use backbeat_core::rules::Production;
use backbeat_core::time::{Instant, Span};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{mpsc, oneshot, watch};

use super::answers::Answers;
use super::clock::Clock;
use super::counters::Counters;
use super::losses;
use super::position::{self, PositionNodes};
use super::publisher::PUBLISH_TIME_MAX;
use super::sites::{self, Sites};
use crate::metrics::Registry;
use crate::metrics::names::{self, ORIGIN};

/// How long the position may take to be read or written before the ending counts as unknown.
const POSITION_TIME_MAX: Duration = Duration::from_secs(30);

/// What a read of the journal may take beyond the time for which it may wait.
const READ_TIME_MAX: Duration = Duration::from_mins(1);

/// Endings of messages that are taken in before anything else is looked at.
const ENDINGS_AT_ONCE: usize = 256;

/// What the populator works with.
pub struct PopulatorPorts<J, Q, C, S> {
    /// The journal of the source.
    pub journal: Arc<J>,
    /// The queue.
    pub queue: Arc<Q>,
    /// Keeps the position.
    pub coordination: Arc<C>,
    /// Where in it.
    pub nodes: PositionNodes,
    /// The source: what status writes overwrote is written back where it does not compare before it writes.
    pub sites: Arc<S>,
    /// The replication topic.
    pub topic: Topic,
    /// The kind of log, for metrics (`raft-log`, `bucket-file`, ...).
    pub log_name: &'static str,
    /// Counts for the sites.
    pub counters: Counters,
    /// What operators see.
    pub metrics: Registry,
}

enum Command {
    Summary(oneshot::Sender<Summary>),
    ShutDown,
}

/// The way to a running populator.
#[derive(Clone)]
pub struct PopulatorHandle {
    commands: mpsc::Sender<Command>,
    saved: watch::Receiver<Seq>,
}

impl PopulatorHandle {
    /// What it is doing. `None` if it has ended.
    pub async fn summary(&self) -> Option<Summary> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(Command::Summary(sender)).await.ok()?;
        answer.await.ok()
    }

    /// The position that is stored, as it moves; 0 until one is. The sender is gone once the populator has ended.
    pub fn saved(&self) -> watch::Receiver<Seq> {
        self.saved.clone()
    }

    /// Asks it to stop reading, wait for what is under way, save its position and end.
    pub async fn shut_down(&self) {
        // One that has ended already is shut down.
        self.commands.send(Command::ShutDown).await.unwrap_or_default();
    }
}

/// Starts a task that owns a populator, as the owner of the journal. It ends with `None` after
/// [`PopulatorHandle::shut_down`], else with the reason why the machine stopped.
pub fn start<J: Journal, Q: Queue, C: Coordination, S: Sites>(
    config: Config,
    ports: PopulatorPorts<J, Q, C, S>,
    clock: Clock,
    drain_max: Span,
) -> (PopulatorHandle, tokio::task::JoinHandle<Option<StopReason>>) {
    let (sender, commands) = mpsc::channel(16);
    let (saving, saved) = watch::channel(Seq(0));
    let driver = Driver {
        machine: Populator::new(config, Production),
        ports,
        clock,
        drain_max,
        commands,
        answers: Answers::new(),
        producer: None,
        publishing: BTreeMap::new(),
        endings: FuturesUnordered::new(),
        saved: saving,
        stopping: None,
        stopped: None,
    };
    let span = tracing::info_span!("populator");
    let task = tokio::spawn(tracing::Instrument::instrument(driver.run(), span));
    (PopulatorHandle { commands: sender, saved }, task)
}

/// A message under way: what it is about, and when its ending counts as unknown.
struct Publishing {
    publish: Publish,
    until: Instant,
}

/// What is counted of messages that ended together.
#[derive(Debug, Default)]
struct Tally {
    published: u64,
    failed: u64,
    objects: u64,
    bytes: u64,
    /// Operations and bytes of each site.
    sites: BTreeMap<Site, (u64, u64)>,
}

impl Tally {
    fn add(&mut self, publish: Publish, ending: &Ending<()>) {
        if !matches!(ending, Ending::Applied(())) {
            self.failed += 1;
            return;
        }
        self.published += 1;
        self.objects = self.objects.saturating_add(publish.objects);
        self.bytes = self.bytes.saturating_add(publish.bytes);
        for site in publish.sites {
            let (ops, bytes) = self.sites.entry(site.site).or_default();
            *ops = ops.saturating_add(site.ops);
            *bytes = bytes.saturating_add(site.bytes);
        }
    }
}

type Sending = Pin<Box<dyn Future<Output = (EffectId, Ending<()>)> + Send>>;

struct Driver<J, Q: Queue, C, S> {
    machine: Populator<Production>,
    ports: PopulatorPorts<J, Q, C, S>,
    clock: Clock,
    drain_max: Span,
    commands: mpsc::Receiver<Command>,
    answers: Answers<Event>,
    /// The producer in use and the number that the machine knows it by.
    producer: Option<(u64, Q::Producer)>,
    /// What is being published. The oldest is the first.
    publishing: BTreeMap<EffectId, Publishing>,
    /// How that ends. There are thousands at once and little to do for each: no tasks.
    endings: FuturesUnordered<Sending>,
    saved: watch::Sender<Seq>,
    /// When a shutdown stops waiting.
    stopping: Option<Instant>,
    stopped: Option<StopReason>,
}

impl<J: Journal, Q: Queue, C: Coordination, S: Sites> Driver<J, Q, C, S> {
    async fn run(mut self) -> Option<StopReason> {
        self.apply(Event::Started);
        loop {
            if let Some(reason) = self.stopped.take() {
                tracing::error!(?reason, "populator stopped");
                return Some(reason);
            }
            if let Some(deadline) = self.stopping
                && (self.is_drained() || self.clock.now().mono >= deadline)
            {
                return None;
            }
            let overdue = self.publishing.values().next().map(|oldest| oldest.until);
            let timeout = [self.machine.poll_timeout(), self.stopping, overdue].into_iter().flatten().min();
            tokio::select! {
                biased;
                answer = self.answers.next() => self.apply(answer),
                Some((id, ending)) = self.endings.next() => self.published_so_far(id, ending),
                Some(command) = self.commands.recv() => match command {
                    Command::Summary(sender) => drop(sender.send(self.machine.summary())),
                    Command::ShutDown => {
                        self.stopping.get_or_insert(self.clock.now().mono + self.drain_max);
                    }
                },
                () = self.clock.sleep_until(timeout) => {
                    self.give_up_overdue();
                    self.apply(Event::Timer);
                }
            }
        }
    }

    /// Everything that was read is published and the position behind it saved, or there was nothing to save yet.
    fn is_drained(&self) -> bool {
        let summary = self.machine.summary();
        summary.in_flight == 0 && (summary.saved >= summary.position || summary.saved.0 == 0)
    }

    fn apply(&mut self, event: Event) {
        if self.stopping.is_some() && matches!(event, Event::JournalRead { .. }) {
            return;
        }
        let is_published = matches!(event, Event::Published { .. });
        self.machine.handle(self.clock.now(), event);
        // That a message is published changes nothing of what is reported, and there are many of them.
        if !is_published {
            self.report_position();
        }
        while let Some(effect) = self.machine.poll_effect() {
            self.carry_out(effect);
        }
    }

    /// The journal in metrics: one process may read several.
    fn labels(&self) -> [(&'static str, &str); 3] {
        [ORIGIN, ("logName", self.ports.log_name), ("logId", self.ports.nodes.log_id())]
    }

    /// How this message ended, and those of which the same is known by now: there are thousands of them, for which a look at
    /// everything else between any two is too much.
    fn published_so_far(&mut self, id: EffectId, ending: Ending<()>) {
        let mut tally = Tally::default();
        self.published(id, ending, &mut tally);
        for _ in 1..ENDINGS_AT_ONCE {
            let Some(Some((id, ending))) = self.endings.next().now_or_never() else { break };
            self.published(id, ending, &mut tally);
        }
        self.count(tally);
    }

    /// How a message ended, unless it was given up before.
    fn published(&mut self, id: EffectId, ending: Ending<()>, tally: &mut Tally) {
        if let Some(Publishing { publish, .. }) = self.publishing.remove(&id) {
            tally.add(publish, &ending);
            self.apply(Event::Published { id, ending });
        }
    }

    /// Whatever is under way for too long may have arrived or not.
    fn give_up_overdue(&mut self) {
        let now = self.clock.now().mono;
        let mut tally = Tally::default();
        while let Some((&id, oldest)) = self.publishing.first_key_value()
            && oldest.until <= now
        {
            self.published(id, Ending::Unknown, &mut tally);
        }
        self.count(tally);
    }

    fn count(&self, tally: Tally) {
        let (metrics, [_, log, id]) = (&self.ports.metrics, self.labels());
        for (status, messages) in [("SUCCESS", tally.published), ("FAILURE", tally.failed)] {
            if messages > 0 {
                let status = ("publishStatus", status);
                metrics.add(&names::POPULATOR_MESSAGES, &[ORIGIN, log, id, status], messages);
            }
        }
        if tally.published > 0 {
            metrics.add(&names::POPULATOR_OBJECTS, &[ORIGIN, log, id], tally.objects);
            metrics.add(&names::POPULATOR_BYTES, &[ORIGIN, log, id], tally.bytes);
        }
        for (site, (ops, bytes)) in tally.sites {
            self.ports.counters.count(SiteMetric::of_site(MetricKind::Queued, site, ops, bytes));
        }
    }

    fn report_position(&self) {
        let (summary, labels) = (self.machine.summary(), self.labels());
        self.saved.send_if_modified(|saved| std::mem::replace(saved, summary.saved) != summary.saved);
        self.ports.metrics.set(&names::READ_OFFSET, &labels, summary.position.0 as f64);
        self.ports.metrics.set(&names::LOG_SIZE, &labels, summary.end.0 as f64);
        self.ports.metrics.set(&names::JOURNAL_LOSSES, &labels, summary.losses as f64);
        self.ports.metrics.set(&names::OVERWRITTEN, &labels, summary.overwritten as f64);
        self.ports.metrics.set(&names::RESTORED, &labels, summary.restored as f64);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::LoadPosition { id } => {
                let (store, nodes) = (Arc::clone(&self.ports.coordination), self.ports.nodes.clone());
                let journal = Arc::clone(&self.ports.journal);
                self.answers.start(
                    POSITION_TIME_MAX,
                    Event::PositionLoaded { id, ending: Ending::Unknown },
                    async move {
                        let epoch = async || journal.read(None, 0, Span::ZERO).await.map(|batch| batch.epoch);
                        Event::PositionLoaded { id, ending: position::load(&*store, &nodes, epoch).await }
                    },
                );
            }
            Effect::SavePosition { id, position, epoch, version } => {
                let (store, nodes) = (Arc::clone(&self.ports.coordination), self.ports.nodes.clone());
                self.answers.start(
                    POSITION_TIME_MAX,
                    Event::PositionSaved { id, ending: Ending::Unknown },
                    async move {
                        let ending = position::save(&*store, &nodes, position, epoch, version).await;
                        Event::PositionSaved { id, ending }
                    },
                );
            }
            Effect::ReadJournal { id, from, limit, wait } => {
                let journal = Arc::clone(&self.ports.journal);
                let time_max = READ_TIME_MAX + Duration::from_micros(wait.as_micros());
                self.answers.start(
                    time_max,
                    Event::JournalRead { id, ending: Ending::Unknown },
                    async move { Event::JournalRead { id, ending: journal.read(from, limit, wait).await } },
                );
            }
            Effect::Publish { id, producer, publish, entry, .. } => {
                self.publish(id, producer, publish, entry.message());
            }
            Effect::Unreadable { seq, reason } => {
                tracing::error!(seq = seq.0, reason, "journal entry cannot be read and is passed over");
            }
            Effect::Overwritten { seq, object } => {
                tracing::warn!(seq = seq.0, %object, "a status write overwrote what was written meanwhile; writing it back");
            }
            Effect::Call { id, request } => {
                let sites = Arc::clone(&self.ports.sites);
                let unknown = Event::Replied { id, reply: sites::unknown(&request) };
                self.answers.start(sites::time_max(&request), unknown, async move {
                    Event::Replied { id, reply: sites.call(*request).await }
                });
            }
            Effect::RecordLoss { id, loss } => {
                tracing::error!(?loss, kind = ?loss.kind(), "the journal lost records that were not queued: `backbeat replication resync` queues what is there from a listing");
                let (store, node) = (Arc::clone(&self.ports.coordination), self.ports.nodes.lost.clone());
                let at = self.clock.now().wall;
                self.answers.start(
                    POSITION_TIME_MAX,
                    Event::LossRecorded { id, ending: Ending::Unknown },
                    async move {
                        Event::LossRecorded { id, ending: losses::record(&*store, &node, loss, at).await }
                    },
                );
            }
            Effect::Stopped { reason } => self.stopped = Some(reason),
        }
    }

    /// A message takes its place in the queue when `publish` is called, so calls in the machine's order are enough.
    fn publish(&mut self, id: EffectId, number: u64, publish: Publish, message: String) {
        if self.producer.as_ref().is_none_or(|(known, _)| *known != number) {
            self.producer = Some((number, self.ports.queue.producer()));
        }
        let Some((_, producer)) = &self.producer else { return };
        let record = Record::keyed(publish.key.clone(), message);
        let sending = producer.publish(&self.ports.topic, record);
        let until = self.clock.now().mono + Span::from_secs(PUBLISH_TIME_MAX.as_secs());
        self.publishing.insert(id, Publishing { publish, until });
        self.endings.push(Box::pin(async move { (id, sending.await.map(|_| ())) }));
    }
}
