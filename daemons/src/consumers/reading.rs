//! The loop of a consumer that has no machine: reads a group's messages, hands them over in batches, commits what is done.
//!
//! At least once: a batch is committed after it is done, and what was read but not begun when partitions are taken away
//! is read by whoever gets them. A batch that is under way then is finished first, unless that takes too long.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::queue::{Consumer, ConsumerEvent, Group, Message, Queue, QueueError, Slot};
use backbeat_core::id::{Epoch, Offset, Topic};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::insistence::{Doubt, insist};
use crate::metrics::{Registry, names};

/// Messages that wait for the batch before them; beyond that their partitions are not read.
const WAITING_MAX: usize = 1_000;

/// Bytes that wait at most, but for the last message.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// What is done with messages.
pub trait Work: Send + Sync + 'static {
    /// Does what the messages ask for, those of one partition in order. When it returns, all of them are done for good:
    /// what no attempt can do is named in the log and passed over. It may be dropped half-way, when its partitions are
    /// somebody else's: then the messages come again.
    fn work(&self, messages: &[Message]) -> impl Future<Output = ()> + Send;
}

/// What is consumed, and how.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The consumer group.
    pub group: Group,
    /// Its topics.
    pub topics: Vec<Topic>,
    /// How long a batch that is under way may take once its partitions are taken away, or at the end.
    pub drain_max: Duration,
    /// Nothing new is begun while this says true.
    pub paused: Option<watch::Receiver<bool>>,
}

/// The way to a running consumer.
#[derive(Clone, Debug)]
pub struct ConsumerHandle {
    stopping: Arc<watch::Sender<bool>>,
}

impl ConsumerHandle {
    /// Asks the consumer to finish what is under way, commit it, leave its group and end. Await its task to know that it has.
    pub fn shut_down(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the consumer still runs.
    pub fn is_running(&self) -> bool {
        self.stopping.receiver_count() > 0
    }
}

/// Joins the group and starts a task that does `work`. The task ends after [`ConsumerHandle::shut_down`], or with an error
/// when the queue cannot be read any more.
///
/// # Errors
/// The group cannot be joined.
pub async fn start<Q: Queue, W: Work>(
    queue: &Q,
    membership: Membership,
    work: W,
    metrics: Registry,
) -> Result<(ConsumerHandle, JoinHandle<Result<(), QueueError>>), QueueError> {
    let consumer = queue.subscribe(&membership.group, &membership.topics).await?;
    let (stopping, stopped) = watch::channel(false);
    let span = tracing::info_span!("consumer", group = %membership.group);
    let reading = Reading {
        consumer: Arc::new(consumer),
        work: Arc::new(work),
        metrics,
        stopped,
        owned: None,
        waiting: Vec::new(),
        waiting_bytes: 0,
        is_held: false,
        under_way: None,
        deadline: None,
        is_leaving: false,
        is_ending: false,
        membership,
    };
    let task = tokio::spawn(tracing::Instrument::instrument(reading.run(), span));
    Ok((ConsumerHandle { stopping: Arc::new(stopping) }, task))
}

type UnderWay = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Reading<C, W> {
    consumer: Arc<C>,
    work: Arc<W>,
    metrics: Registry,
    membership: Membership,
    stopped: watch::Receiver<bool>,
    owned: Option<(Epoch, Vec<Slot>)>,
    waiting: Vec<Message>,
    waiting_bytes: usize,
    /// The partitions are not read for now.
    is_held: bool,
    under_way: Option<UnderWay>,
    /// When what is under way is given up.
    deadline: Option<Instant>,
    /// The partitions go back as soon as nothing is under way.
    is_leaving: bool,
    is_ending: bool,
}

impl<C: Consumer, W: Work> Reading<C, W> {
    async fn run(mut self) -> Result<(), QueueError> {
        loop {
            self.begin();
            self.flow();
            if self.under_way.is_none() && self.is_ending {
                break;
            }
            tokio::select! {
                biased;
                () = ended(&mut self.under_way) => self.finished(),
                () = overdue(self.deadline) => {
                    tracing::warn!("a batch was not finished in time and is given up; it comes again");
                    self.finished();
                }
                () = changed(&mut self.stopped), if !self.is_ending => self.end(),
                () = next_pause(self.membership.paused.as_mut()) => {}
                event = self.consumer.next() => match event {
                    Ok(event) => self.consumed(event),
                    Err(QueueError::Left) if self.is_ending => break,
                    Err(error) => return Err(error),
                },
            }
        }
        self.consumer.leave().await;
        Ok(())
    }

    /// Begins with what waits, if nothing else is under way.
    fn begin(&mut self) {
        let Some((epoch, _)) = &self.owned else { return };
        if self.under_way.is_some() || self.is_leaving || self.is_ending || self.waiting.is_empty() {
            return;
        }
        let (epoch, consumer, work) = (*epoch, Arc::clone(&self.consumer), Arc::clone(&self.work));
        let batch = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let mut upto: BTreeMap<Slot, Offset> = BTreeMap::new();
        for message in &batch {
            upto.insert(message.slot.clone(), message.offset.next());
        }
        self.count(&batch);
        self.under_way = Some(Box::pin(async move {
            work.work(&batch).await;
            join_all(upto.iter().map(|(slot, &upto)| commit(&*consumer, epoch, slot, upto))).await;
        }));
    }

    /// Reads the partitions, or does not.
    fn flow(&mut self) {
        let Some((_, slots)) = &self.owned else { return };
        let is_full = self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX;
        let is_paused = self.membership.paused.as_ref().is_some_and(|paused| *paused.borrow());
        let is_held = is_full || is_paused || self.is_leaving || self.is_ending;
        if is_held != self.is_held {
            self.is_held = is_held;
            if is_held {
                self.consumer.pause(slots);
            } else {
                self.consumer.resume(slots);
            }
        }
    }

    fn consumed(&mut self, event: ConsumerEvent) {
        match event {
            ConsumerEvent::Assigned { epoch, partitions } => {
                tracing::info!(epoch = epoch.0, partitions = partitions.len(), "partitions assigned");
                self.owned = Some((epoch, partitions.into_iter().map(|(slot, _)| slot).collect()));
                self.is_held = false;
            }
            ConsumerEvent::Revoked { .. } => {
                self.forget_waiting();
                self.is_leaving = true;
                self.count_rebalance(if self.under_way.is_some() { "drained" } else { "idle" });
                self.deadline.get_or_insert(Instant::now() + self.membership.drain_max);
                if self.under_way.is_none() {
                    self.finished();
                }
            }
            ConsumerEvent::Lost { epoch, .. } => {
                tracing::warn!(epoch = epoch.0, "partitions lost; what was not committed comes again");
                self.count_rebalance("timeout");
                self.forget_waiting();
                self.owned = None;
                self.finished();
            }
            ConsumerEvent::Gone { slot, from, upto, .. } => {
                tracing::error!(%slot, from = from.0, upto = upto.0, "messages were deleted before they were read");
            }
            ConsumerEvent::Message(message) => {
                if self.is_leaving || self.is_ending {
                    return;
                }
                self.waiting_bytes += message.payload.as_ref().map_or(0, Bytes::len);
                self.waiting.push(message);
            }
        }
    }

    /// Nothing is under way any more, finished or not.
    fn finished(&mut self) {
        self.under_way = None;
        if !self.is_ending {
            self.deadline = None;
        }
        if std::mem::take(&mut self.is_leaving)
            && let Some((epoch, _)) = self.owned.take()
        {
            self.consumer.release(epoch);
        }
    }

    fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    fn end(&mut self) {
        self.is_ending = true;
        self.forget_waiting();
        self.deadline.get_or_insert(Instant::now() + self.membership.drain_max);
    }

    /// Shows how far it is: the newest message of each partition.
    fn count(&self, batch: &[Message]) {
        let newest: BTreeMap<&Slot, &Message> =
            batch.iter().map(|message| (&message.slot, message)).collect();
        for (slot, message) in newest {
            let partition = slot.partition.0.to_string();
            let group = self.membership.group.as_str();
            let labels = [("topic", slot.topic.as_str()), ("partition", &*partition), ("group", group)];
            let published = message.timestamp.as_millis() as f64 / 1_000.0;
            self.metrics.set(&names::CONSUMED_MESSAGE_AT, &labels, published);
        }
    }

    fn count_rebalance(&self, status: &str) {
        for topic in &self.membership.topics {
            let group = self.membership.group.as_str();
            let labels = [("topic", topic.as_str()), ("group", group), ("status", status)];
            self.metrics.add(&names::REBALANCES, &labels, 1);
        }
    }
}

/// Waits for what is under way; for ever if nothing is.
async fn ended(under_way: &mut Option<UnderWay>) {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

async fn overdue(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Waits until it says true, or nobody can say anything any more.
async fn changed(stopped: &mut watch::Receiver<bool>) {
    stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
}

/// Waits for news of a pause; for ever if there can be none.
async fn next_pause(paused: Option<&mut watch::Receiver<bool>>) {
    if let Some(paused) = paused
        && paused.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

async fn commit<C: Consumer>(consumer: &C, epoch: Epoch, slot: &Slot, upto: Offset) {
    let committed = insist("commit", Doubt::Repeat, || consumer.commit(epoch, slot, upto));
    if let Err(refusal) = committed.await {
        // Somebody else's by now, and done again there.
        tracing::info!(%slot, upto = upto.0, code = %refusal.code, "not committed: it comes again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backbeat_backends::clock::WallClock;
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Producer as _, Record, TopicSpec};
    use backbeat_core::call::Ending;
    use backbeat_core::id::Partition;
    use backbeat_core::time::WallTime;
    use std::sync::{Mutex, PoisonError};

    /// Writes down what it did, each batch after a while.
    #[derive(Clone)]
    struct Slow {
        done: Arc<Mutex<Vec<String>>>,
        batch_time: Duration,
    }

    impl Slow {
        fn new(batch_time: Duration) -> Self {
            Self { done: Arc::default(), batch_time }
        }

        fn done(&self) -> Vec<String> {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }

        async fn until(&self, count: usize) {
            let all = async {
                while self.done().len() < count {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_hours(1), all).await.expect("everything is done");
        }
    }

    impl Work for Slow {
        async fn work(&self, messages: &[Message]) {
            tokio::time::sleep(self.batch_time).await;
            let text = |message: &Message| {
                let payload = message.payload.as_ref().expect("it has a payload");
                String::from_utf8_lossy(payload).into_owned()
            };
            self.done.lock().unwrap_or_else(PoisonError::into_inner).extend(messages.iter().map(text));
        }
    }

    const PARTITIONS: u32 = 2;

    async fn queue() -> MemoryQueue {
        let queue = MemoryQueue::new(WallClock::tokio(WallTime::from_millis(0)));
        let created = queue.create_topic(&TopicSpec::new("topic").partitioned(PARTITIONS)).await;
        assert_eq!(created, Ending::Applied(()));
        queue
    }

    async fn publish(queue: &MemoryQueue, numbers: std::ops::Range<u32>) {
        let producer = queue.producer();
        for number in numbers {
            let record = Record::unkeyed(number.to_string()).at(Partition(number % PARTITIONS));
            let published = producer.publish(&Topic::from("topic"), record).await;
            assert!(matches!(published, Ending::Applied(_)));
        }
    }

    async fn uncommitted(queue: &MemoryQueue) -> u64 {
        let mut sum = 0;
        for partition in 0..PARTITIONS {
            let slot = Slot::new(&Topic::from("topic"), Partition(partition));
            let Ending::Applied(at) = queue.positions(&Group::from("group"), &slot).await else {
                panic!("{slot} exists")
            };
            sum += at.end.0 - at.committed.unwrap_or_default().0;
        }
        sum
    }

    fn membership(drain_max: Duration) -> Membership {
        Membership { group: "group".into(), topics: vec!["topic".into()], drain_max, paused: None }
    }

    async fn join(
        queue: &MemoryQueue,
        membership: Membership,
        work: &Slow,
    ) -> (ConsumerHandle, JoinHandle<Result<(), QueueError>>) {
        start(queue, membership, work.clone(), Registry::default()).await.expect("the topic is there")
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn everything_is_done_in_order_and_committed() {
        let queue = queue().await;
        publish(&queue, 0..5_000).await;
        let work = Slow::new(SECOND);
        let (handle, task) = join(&queue, membership(SECOND * 10), &work).await;
        work.until(5_000).await;
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
        assert!(!handle.is_running());
        assert_eq!(uncommitted(&queue).await, 0);
        for partition in 0..PARTITIONS {
            let numbers: Vec<u32> = work.done().iter().map(|text| text.parse().expect("a number")).collect();
            let numbers = numbers.into_iter().filter(|number| number % PARTITIONS == partition);
            assert!(numbers.eq((0..5_000).filter(|number| number % PARTITIONS == partition)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_is_finished_before_partitions_are_given_back() {
        let queue = queue().await;
        publish(&queue, 0..10).await;
        let work = Slow::new(SECOND * 5);
        let (_first, _first_task) = join(&queue, membership(SECOND * 20), &work).await;
        tokio::time::sleep(SECOND).await;
        let (_second, _second_task) = join(&queue, membership(SECOND * 20), &work).await;
        publish(&queue, 10..100).await;
        work.until(100).await;
        tokio::time::sleep(SECOND * 20).await;
        assert_eq!(work.done().len(), 100, "nothing is done twice");
        assert_eq!(uncommitted(&queue).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_no_longer_than_it_may_and_the_rest_comes_again() {
        let queue = queue().await;
        publish(&queue, 0..10).await;
        let stuck = Slow::new(SECOND * 3_000);
        let (handle, task) = join(&queue, membership(SECOND * 10), &stuck).await;
        tokio::time::sleep(SECOND).await;
        let before = Instant::now();
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
        assert!((SECOND * 10..SECOND * 12).contains(&before.elapsed()));
        assert_eq!((stuck.done().len(), uncommitted(&queue).await), (0, 10));
        let work = Slow::new(Duration::ZERO);
        let (_handle, _task) = join(&queue, membership(SECOND * 10), &work).await;
        work.until(10).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_consumer_begins_nothing_until_it_is_resumed() {
        let queue = queue().await;
        let (pause, paused) = watch::channel(true);
        let work = Slow::new(Duration::ZERO);
        let membership = Membership { paused: Some(paused), ..membership(SECOND) };
        let (handle, task) = join(&queue, membership, &work).await;
        publish(&queue, 0..10).await;
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(work.done().len(), 0);
        pause.send_replace(false);
        work.until(10).await;
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
    }
}
