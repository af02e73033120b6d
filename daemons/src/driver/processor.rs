//! The driver of a site processor.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::queue::{Queue, QueueError, Record, Slot};
use backbeat_core::call::Ending;
use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::{Partition, Site, Topic};
use backbeat_core::processor::{Config, Control, Effect, Event, SiteProcessor};
use backbeat_core::rules::Production;
use backbeat_core::time::{Instant, Now, Span};
use backbeat_core::{QueueEffect, QueueEvent};

use super::answers::Answers;
use super::clock::Clock;
use super::consumption::{Driver, Handle, Outside, QueueMachine};
use super::exceptions;
use super::observe::ProcessorObserver;
use super::publisher::{PUBLISH_TIME_MAX, Publisher};
use super::sites::{self, Sites};

/// Reading the exceptions of a partition reads a table: longer than one message, but never endless.
const LOAD_TIME_MAX: Duration = Duration::from_mins(1);

/// Time on top of a publisher's own, so that its ending is heard.
const GRACE: Duration = Duration::from_secs(1);

impl QueueMachine for SiteProcessor<Production> {
    type Event = Event;
    type Effect = Effect;

    fn handle(&mut self, now: Now, event: Event) {
        Self::handle(self, now, event);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        Self::poll_effect(self)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn timer() -> Event {
        Event::Timer
    }

    fn news(event: QueueEvent) -> Event {
        Event::Queue(event)
    }

    fn sort(effect: Effect) -> Result<QueueEffect, Effect> {
        if let Effect::Queue(effect) = effect { Ok(effect) } else { Err(effect) }
    }
}

/// What a site processor works with.
pub struct ProcessorPorts<Q: Queue, S> {
    /// The queue.
    pub queue: Arc<Q>,
    /// Publishes status messages and exception records.
    pub publisher: Publisher<Q>,
    /// The source and the target.
    pub sites: Arc<S>,
    /// The topics consumed: the replication topic, then the replay topics.
    pub topics: Vec<Topic>,
    /// The status topic.
    pub status_topic: Topic,
    /// The compacted exceptions topic.
    pub exceptions_topic: Topic,
    /// Partitions of every topic.
    pub partitions: u32,
    /// The consumer group.
    pub group: backbeat_backends::queue::Group,
    /// What operators see.
    pub observer: ProcessorObserver,
}

/// The machine of a running site processor, asked and told through its [`Handle`].
pub type ProcessorHandle = Handle<SiteProcessor<Production>>;

/// Joins the group and starts a task that owns the processor. The task ends after [`Handle::shut_down`], or with an
/// error when the queue cannot be read any more. A site that is paused begins so: nothing is copied before it is resumed.
pub async fn start<Q: Queue, S: Sites>(
    config: Config,
    is_paused: bool,
    ports: ProcessorPorts<Q, S>,
    clock: Clock,
    drain_max: Span,
) -> Result<(ProcessorHandle, tokio::task::JoinHandle<Result<(), QueueError>>), QueueError> {
    let consumer = ports.queue.subscribe(&ports.group, &ports.topics).await?;
    let span = tracing::info_span!("processor", site = %config.copy.site);
    let topics = ports.topics.clone();
    let outside = ProcessorOutside { site: config.copy.site.clone(), ports };
    let mut machine = SiteProcessor::new(config, Production);
    if is_paused {
        // Before it hears of anything to do.
        machine.handle(clock.now(), Event::Control(Control::Pause));
    }
    let (driver, handle) = Driver::new(machine, consumer, topics, outside, clock, drain_max);
    let task = tokio::spawn(tracing::Instrument::instrument(driver.run(), span));
    Ok((handle, task))
}

struct ProcessorOutside<Q: Queue, S> {
    site: Site,
    ports: ProcessorPorts<Q, S>,
}

impl<Q: Queue, S: Sites> Outside<SiteProcessor<Production>> for ProcessorOutside<Q, S> {
    fn observe(&mut self, now: Now, event: &Event) {
        self.ports.observer.event(now, event);
    }

    fn carry_out(&mut self, now: Now, effect: Effect, answers: &mut Answers<Event>) {
        self.ports.observer.effect(now, &effect);
        let ports = &self.ports;
        match effect {
            Effect::Call { id, request } => {
                let sites = Arc::clone(&ports.sites);
                let unknown = Event::Replied { id, reply: sites::unknown(&request) };
                answers.start(sites::time_max(&request), unknown, async move {
                    Event::Replied { id, reply: sites.call(*request).await }
                });
            }
            Effect::PublishStatus { id, entry } => {
                let (key, message) = entry.to_kafka(Some(&self.site));
                let sending = ports.publisher.publish(&ports.status_topic, Record::keyed(key, message));
                answers.start(
                    PUBLISH_TIME_MAX + GRACE,
                    Event::Published { id, ending: Ending::Unknown },
                    async move { Event::Published { id, ending: sending.await } },
                );
            }
            Effect::PutException { id, record } => {
                let record = exceptions::to_message(&record, ports.partitions);
                let sending = ports.publisher.publish(&ports.exceptions_topic, record);
                answers.start(
                    PUBLISH_TIME_MAX + GRACE,
                    Event::Published { id, ending: Ending::Unknown },
                    async move { Event::Published { id, ending: sending.await } },
                );
            }
            Effect::LoadExceptions { id, partition } => {
                let queue = Arc::clone(&ports.queue);
                let (topic, site) = (ports.exceptions_topic.clone(), self.site.clone());
                answers.start(
                    LOAD_TIME_MAX,
                    Event::ExceptionsLoaded { id, ending: Ending::Unknown },
                    async move {
                        let ending = load_exceptions(&*queue, &topic, partition, Some(&site)).await;
                        Event::ExceptionsLoaded { id, ending }
                    },
                );
            }
            Effect::Queue(_) => unreachable!("the loop carries these out itself"),
        }
    }
}

/// The live exception records of one partition, of one site if it is named. A record that cannot be read is reported
/// and passed over: it must not hold up its partition.
pub async fn load_exceptions<Q: Queue>(
    queue: &Q,
    topic: &Topic,
    partition: Partition,
    site: Option<&Site>,
) -> Ending<Vec<ExceptionRecord>> {
    let rows = queue.read_compacted(&Slot::new(topic, partition)).await;
    rows.map(|rows| {
        let records = rows.iter().filter_map(|(_, value)| match exceptions::from_message(value) {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::error!(partition = partition.0, %error, "unusable exception record passed over");
                None
            }
        });
        records
            .filter(|record| record.state != ExceptionState::Resolved)
            .filter(|record| site.is_none_or(|site| record.site == *site))
            .collect()
    })
}
