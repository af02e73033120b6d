//! Publishes messages whose order across keys does not matter, and replaces a producer that failed.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backbeat_backends::queue::{Producer, Queue, Record};
use backbeat_core::call::Ending;
use backbeat_core::id::Topic;

use crate::metrics::{Registry, names};

/// How long a message may take to be acknowledged before its ending counts as unknown.
pub(super) const PUBLISH_TIME_MAX: Duration = Duration::from_secs(30);

/// A message on its way.
pub type Publishing = Pin<Box<dyn Future<Output = Ending<()>> + Send>>;

/// A producer that mends itself. The order of two messages is promised only if the second is published after the first
/// was acknowledged, which is how the machines publish what belongs to one key.
pub struct Publisher<Q: Queue> {
    queue: Arc<Q>,
    producer: Arc<Mutex<Arc<Q::Producer>>>,
    metrics: Registry,
}

impl<Q: Queue> Clone for Publisher<Q> {
    fn clone(&self) -> Self {
        let (queue, producer) = (Arc::clone(&self.queue), Arc::clone(&self.producer));
        Self { queue, producer, metrics: self.metrics.clone() }
    }
}

impl<Q: Queue> Publisher<Q> {
    /// A publisher to `queue`.
    pub fn new(queue: Arc<Q>, metrics: Registry) -> Self {
        let producer = Arc::new(Mutex::new(Arc::new(queue.producer())));
        Self { queue, producer, metrics }
    }

    /// Publishes `record` to `topic`.
    pub fn publish(&self, topic: &Topic, record: Record) -> Publishing {
        let producer = Arc::clone(&self.producer.lock().unwrap_or_else(PoisonError::into_inner));
        let sending = producer.publish(topic, record);
        let this = self.clone();
        Box::pin(async move {
            let ending = tokio::time::timeout(PUBLISH_TIME_MAX, sending).await.unwrap_or(Ending::Unknown);
            let delivered = matches!(ending, Ending::Applied(_));
            this.metrics.add(
                &names::DELIVERY_REPORTS,
                &[("status", if delivered { "success" } else { "error" })],
                1,
            );
            if !delivered {
                this.replace(&producer);
            }
            ending.map(|_| ())
        })
    }

    fn replace(&self, failed: &Arc<Q::Producer>) {
        let mut current = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, failed) {
            *current = Arc::new(self.queue.producer());
        }
    }
}
