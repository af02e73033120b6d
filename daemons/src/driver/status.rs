//! The driver of the status processor.

use std::sync::Arc;

use backbeat_backends::queue::{Group, Queue, QueueError, Record};
use backbeat_core::call::Ending;
use backbeat_core::id::Topic;
use backbeat_core::rules::Production;
use backbeat_core::status::{Config, Effect, Event, Outgoing, StatusProcessor};
use backbeat_core::time::{Instant, Now, Span};
use backbeat_core::{QueueEffect, QueueEvent};

use super::answers::Answers;
use super::clock::Clock;
use super::consumption::{Driver, Handle, Outside, QueueMachine};
use super::exceptions;
use super::observe::StatusObserver;
use super::publisher::{PUBLISH_TIME_MAX, Publisher};
use super::sites::{self, Sites};
use super::topics::Topics;

/// Time on top of a publisher's own, so that its ending is heard.
const GRACE: std::time::Duration = std::time::Duration::from_secs(1);

impl QueueMachine for StatusProcessor<Production> {
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

/// The topics of the status processor.
#[derive(Clone, Debug)]
pub struct StatusTopics {
    /// What it consumes.
    pub status: Topic,
    /// Where a changed revision is queued again.
    pub replication: Topic,
    /// Final failures.
    pub failed: Topic,
    /// What the garbage collector does.
    pub gc: Topic,
    /// The compacted exceptions topic.
    pub exceptions: Topic,
}

impl From<&Topics> for StatusTopics {
    fn from(topics: &Topics) -> Self {
        Self {
            status: topics.status.clone(),
            replication: topics.replication.clone(),
            failed: topics.failed.clone(),
            gc: topics.gc.clone(),
            exceptions: topics.exceptions.clone(),
        }
    }
}

/// What the status processor works with.
pub struct StatusPorts<Q: Queue, S> {
    /// The queue.
    pub queue: Arc<Q>,
    /// Publishes what follows from an outcome.
    pub publisher: Publisher<Q>,
    /// The source.
    pub sites: Arc<S>,
    /// The topics.
    pub topics: StatusTopics,
    /// Partitions of every topic.
    pub partitions: u32,
    /// The consumer group.
    pub group: Group,
    /// What operators see.
    pub observer: StatusObserver,
}

/// The machine of a running status processor, asked through its [`Handle`].
pub type StatusHandle = Handle<StatusProcessor<Production>>;

/// Joins the group and starts a task that owns the status processor. The task ends after [`Handle::shut_down`], or with
/// an error when the queue cannot be read any more.
pub async fn start<Q: Queue, S: Sites>(
    config: Config,
    ports: StatusPorts<Q, S>,
    clock: Clock,
    drain_max: Span,
) -> Result<(StatusHandle, tokio::task::JoinHandle<Result<(), QueueError>>), QueueError> {
    let topics = vec![ports.topics.status.clone()];
    let consumer = ports.queue.subscribe(&ports.group, &topics).await?;
    let machine = StatusProcessor::new(config, Production);
    let (driver, handle) = Driver::new(machine, consumer, topics, StatusOutside { ports }, clock, drain_max);
    let span = tracing::info_span!("status");
    let task = tokio::spawn(tracing::Instrument::instrument(driver.run(), span));
    Ok((handle, task))
}

struct StatusOutside<Q: Queue, S> {
    ports: StatusPorts<Q, S>,
}

impl<Q: Queue, S: Sites> Outside<StatusProcessor<Production>> for StatusOutside<Q, S> {
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
            Effect::Publish { id, outgoing } => {
                let (topic, record) = message_of(&ports.topics, &outgoing);
                let sending = ports.publisher.publish(topic, record);
                answers.start(
                    PUBLISH_TIME_MAX + GRACE,
                    Event::Published { id, ending: Ending::Unknown },
                    async move { Event::Published { id, ending: sending.await } },
                );
            }
            Effect::PutException { id, record } => {
                let record = exceptions::to_message(&record, ports.partitions);
                let sending = ports.publisher.publish(&ports.topics.exceptions, record);
                answers.start(
                    PUBLISH_TIME_MAX + GRACE,
                    Event::Published { id, ending: Ending::Unknown },
                    async move { Event::Published { id, ending: sending.await } },
                );
            }
            // The observer counts.
            Effect::Count(_) => {}
            Effect::Queue(_) => unreachable!("the loop carries these out itself"),
        }
    }
}

/// Where an outgoing message goes and what it is (replication reference 6.4 to 6.6).
fn message_of<'a>(topics: &'a StatusTopics, outgoing: &'a Outgoing) -> (&'a Topic, Record) {
    match outgoing {
        Outgoing::Replay { topic, entry } => {
            let (key, message) = entry.to_kafka(None);
            (topic, Record::keyed(key, message))
        }
        Outgoing::Requeue { entry } => {
            let (key, message) = entry.to_kafka(entry.site.as_ref());
            (&topics.replication, Record::keyed(key, message))
        }
        Outgoing::Failed { record } => (&topics.failed, Record::unkeyed(record.to_message())),
        Outgoing::Gc { action } => {
            (&topics.gc, Record::unkeyed(action.to_message(&random_uuid(), &random_request_id())))
        }
    }
}

/// A random UUID of version 4.
fn random_uuid() -> String {
    let mut bytes = random_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    [0..4, 4..6, 6..8, 8..10, 10..16].map(|range| hex::encode(&bytes[range])).join("-")
}

/// A request id as log lines carry them: 20 hexadecimal digits.
fn random_request_id() -> String {
    hex::encode(&random_bytes()[..10])
}

/// Random enough to tell two actions apart.
fn random_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    // Without a source of randomness the action is told apart by its content alone, which is all that its consumer
    // looks at.
    getrandom::fill(&mut bytes).unwrap_or_default();
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_ids_are_uuids() {
        let id = random_uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, random_uuid());
        assert_eq!(random_request_id().len(), 20);
    }
}
