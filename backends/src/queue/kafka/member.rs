//! One member of a consumer group: its thread, which polls whatever its owner does.
//!
//! Everything that touches the client happens on this thread, and everything that it is to do comes to it as a
//! [`Command`], from the owner or from the client's own callbacks, in order. It never waits for the owner: a revocation
//! is a state with a deadline, and an owner that misses it loses its membership.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::id::{Epoch, Offset, Partition, Topic};
use futures_util::FutureExt as _;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::Offset as Place;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::outcome::write_ended;
use super::reading::{Reading, Revocation};
use super::start::{self, Start};
use super::taking::{Partitioned, take_in};
use super::{context, next_epoch, reaper};
use crate::queue::{ConsumerEvent, QueueError, Slot};

/// The client of a member.
pub(super) type Client = StreamConsumer<Watching>;

/// What the thread found to do.
enum Step {
    Command(Command),
    Timer,
    /// Messages were taken in, or the client had something to complain about.
    Came(Option<KafkaError>),
    /// Nobody can say anything any more.
    Abandoned,
}

/// How long the thread waits before it asks again what could not be answered.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// Between the beginnings of two requests to commit: a busy owner settles hundreds of messages meanwhile, and the last
/// offset stands for all of them. While an assignment is given back nothing waits.
const COMMIT_GAP: Duration = Duration::from_millis(50);

/// What the thread is to do.
pub(super) enum Command {
    /// Commit.
    Commit { epoch: Epoch, slot: Slot, upto: Offset, waiter: oneshot::Sender<Ending<()>> },
    /// The owner gives a revoked assignment back.
    Release(Epoch),
    /// The owner knows that it lost its membership: join again.
    Rejoin,
    /// Leave the group; the thread ends.
    Leave(Option<oneshot::Sender<()>>),
    /// The client of that number has something to say.
    Client(u64, News),
}

/// What a client says.
pub(super) enum News {
    /// The group has given it these partitions.
    Assigned(TopicPartitionList),
    /// The group wants them back, or has taken them.
    Revoked { is_lost: bool },
    /// The request to commit has ended.
    Committed(Result<(), RDKafkaErrorCode>),
}

/// The callbacks of a client.
pub(super) struct Watching {
    number: u64,
    commands: mpsc::UnboundedSender<Command>,
    is_closing: AtomicBool,
}

impl Watching {
    fn say(&self, news: News) {
        // When the thread has ended nobody listens, and nobody has to.
        drop(self.commands.send(Command::Client(self.number, news)));
    }
}

impl ClientContext for Watching {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        context::complain(&error, reason);
    }
}

impl ConsumerContext for Watching {
    fn rebalance(
        &self,
        client: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.is_closing.load(Ordering::Acquire) {
            if let Err(error) = client.unassign() {
                tracing::warn!(%error, "a member that leaves could not give its partitions back");
            }
        } else if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.say(News::Assigned(partitions.clone()));
        } else {
            self.say(News::Revoked { is_lost: client.assignment_lost() });
        }
    }
}

/// What the thread and the owner share.
#[derive(Default)]
pub(super) struct Shared {
    reading: Mutex<Reading>,
    /// Told when there may be something new to take.
    pub(super) changed: Notify,
    /// Told when more of some partition is wanted.
    pub(super) wanted: Notify,
}

impl Shared {
    /// What waits for the owner.
    pub(super) fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a member is to read.
pub(super) struct Subscription {
    /// Settings of its clients.
    pub(super) client: ClientConfig,
    /// Names of the topics on the wire, and the topics.
    pub(super) topics: Vec<(String, Topic)>,
    /// The partitions of each of them. With another number keys are in other partitions: then nothing is read.
    pub(super) partitions: u32,
    /// How long the owner may take to release.
    pub(super) drain_time_max: Duration,
    /// How long a question to brokers may take.
    pub(super) answer_time_max: Duration,
}

/// The thread's side of a member.
pub(super) struct Member {
    subscription: Subscription,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    to_self: mpsc::UnboundedSender<Command>,
    /// Where requests to commit are made: the client says how one ended only to who waits for it.
    to_committer: std::sync::mpsc::Sender<Request>,
    client: Option<Arc<Client>>,
    number: u64,
    commits: super::commits::Commits,
    /// When the last request to commit was made.
    committed_at: Option<Instant>,
    /// Given by the group, but not begun yet: brokers must first say where.
    given: Option<TopicPartitionList>,
    /// When something that failed is tried again.
    retry_at: Option<Instant>,
    /// Until when the revoked assignment must be released and its commits done.
    drain_until: Option<Instant>,
    is_released: bool,
    /// Whether a place that is not there any more has to be found again.
    is_lost_place: bool,
    /// Where the messages of each assigned partition come from. They keep the client: they go before it does.
    partitions: Vec<Partitioned>,
}

impl Member {
    /// Joins, and runs until told to leave. `joined` hears whether that is possible at all.
    pub(super) fn run(
        subscription: Subscription,
        shared: Arc<Shared>,
        (to_self, commands): (mpsc::UnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
        joined: oneshot::Sender<Result<(), QueueError>>,
    ) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let cause = QueueError::Storage(format!("no runtime for a member: {error}"));
                drop(joined.send(Err(cause)));
                return;
            }
        };
        let (to_committer, requests) = std::sync::mpsc::channel();
        let heard = to_self.clone();
        let committing = thread::Builder::new().name("kafka-commit".to_owned());
        if let Err(error) = committing.spawn(move || make_requests(&requests, &heard)) {
            let cause = QueueError::Storage(format!("no thread for commits: {error}"));
            drop(joined.send(Err(cause)));
            return;
        }
        let mut member = Self {
            subscription,
            shared,
            commands,
            to_self,
            to_committer,
            client: None,
            number: 0,
            commits: super::commits::Commits::default(),
            committed_at: None,
            given: None,
            retry_at: None,
            drain_until: None,
            is_released: false,
            is_lost_place: false,
            partitions: Vec::new(),
        };
        runtime.block_on(async move {
            let first = member.join().map_err(|error| QueueError::Storage(error.to_string()));
            let is_joined = first.is_ok();
            if joined.send(first).is_ok() && is_joined {
                member.work().await;
            }
            member.close();
        });
    }

    /// Makes a client that joins the group.
    fn join(&mut self) -> KafkaResult<()> {
        self.number += 1;
        let watching = Watching {
            number: self.number,
            commands: self.to_self.clone(),
            is_closing: AtomicBool::new(false),
        };
        let client: Client = self.subscription.client.create_with_context(watching)?;
        let topics: Vec<&str> = self.subscription.topics.iter().map(|(name, _)| name.as_str()).collect();
        client.subscribe(&topics)?;
        self.client = Some(Arc::new(client));
        Ok(())
    }

    async fn work(&mut self) {
        loop {
            match self.step().await {
                Step::Command(Command::Leave(left)) => {
                    self.leave(left);
                    return;
                }
                Step::Command(command) => self.obey(command),
                Step::Timer => self.tick(),
                Step::Came(None) => {}
                Step::Came(Some(error)) => self.trouble(&error),
                Step::Abandoned => return,
            }
        }
    }

    /// Waits for the next thing to do. The client is nobody else's while that is done.
    async fn step(&mut self) -> Step {
        let client = self.client.clone();
        let timer = [self.retry_at, self.drain_until, self.commit_due()].into_iter().flatten().min();
        tokio::select! {
            biased;
            command = self.commands.recv() => command.map_or(Step::Abandoned, Step::Command),
            () = tokio::time::sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => Step::Timer,
            error = take_in(client.as_deref(), &self.partitions, &self.shared) => Step::Came(error),
        }
    }

    fn trouble(&mut self, error: &KafkaError) {
        if let KafkaError::MessageConsumptionFatal(code) = error {
            tracing::error!(%error, "the member ends");
            let cause = format!("the Kafka client cannot go on: {code}; start this process again");
            self.shared.reading().end(QueueError::Storage(cause));
            self.shared.changed.notify_one();
            self.part();
        } else if *error == KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) {
            self.find_places();
        } else {
            // Connections and groups are mended by the client.
            tracing::warn!(%error, "kafka client");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Commit { epoch, slot, upto, waiter } => {
                if self.shared.reading().may_commit(epoch, &slot) {
                    self.commits.ask(slot, upto, waiter);
                    self.commit();
                } else {
                    drop(waiter.send(fenced("IllegalGeneration")));
                }
            }
            Command::Release(epoch) => {
                if self.shared.reading().release(epoch) {
                    self.is_released = true;
                    self.give_back();
                }
            }
            Command::Rejoin => {
                if self.client.is_none() {
                    self.retry_at = Some(Instant::now());
                }
            }
            Command::Client(number, news) if number == self.number => self.hear(news),
            // Of a client that is gone.
            Command::Client(..) | Command::Leave(_) => {}
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Assigned(partitions) => {
                self.given = Some(partitions);
                self.begin();
            }
            News::Revoked { is_lost } => self.revoked(is_lost),
            News::Committed(result) => {
                self.commits.ended(|slot| match result {
                    Ok(()) => Ending::Applied(()),
                    Err(code) => write_ended(code, &format!("commit of {slot}")),
                });
                self.commit();
                self.give_back();
            }
        }
    }

    /// When the commits that wait may be sent, if they have to wait.
    fn commit_due(&self) -> Option<Instant> {
        let waits = self.commits.are_waiting() && self.client.is_some() && self.drain_until.is_none();
        self.committed_at.filter(|_| waits).map(|last| last + COMMIT_GAP)
    }

    /// Sends the commits that wait, if none is under way and it is time.
    fn commit(&mut self) {
        let now = Instant::now();
        let Some(client) = &self.client else { return };
        if self.commit_due().is_some_and(|due| due > now) {
            return;
        }
        let Some(request) = self.commits.request() else { return };
        self.committed_at = Some(now);
        let mut offsets = TopicPartitionList::with_capacity(request.len());
        let mut asked = Ok(());
        for (slot, upto) in &request {
            let (name, partition) = self.wire(slot);
            asked =
                asked.and(offsets.add_partition_offset(&name, partition, Place::Offset(start::raw(*upto))));
        }
        let request = Request { number: self.number, client: Arc::clone(client), offsets };
        if asked.is_err() || self.to_committer.send(request).is_err() {
            tracing::error!("a commit could not be sent");
            self.commits.ended(|_| Ending::Unknown);
        }
    }

    fn revoked(&mut self, is_lost: bool) {
        self.retry_at = None;
        self.is_lost_place = false;
        if self.given.take().is_some() {
            self.unassign();
        } else if is_lost {
            if self.shared.reading().lose() {
                tracing::warn!("partitions were given to others: this member was not heard of for too long");
            }
            self.shared.changed.notify_one();
            self.commits.give_up(&fenced("AssignmentLost"));
            self.is_released = false;
            self.drain_until = None;
            self.unassign();
        } else {
            let revocation = self.shared.reading().revoke();
            self.shared.changed.notify_one();
            match revocation {
                Revocation::Told => {
                    self.drain_until = Some(Instant::now() + self.subscription.drain_time_max);
                    self.commit();
                }
                Revocation::Unheard => self.unassign(),
            }
        }
    }

    /// Gives a released assignment back, once nothing is committed any more in its name.
    fn give_back(&mut self) {
        if self.is_released && self.commits.are_done() {
            self.is_released = false;
            self.drain_until = None;
            self.unassign();
        }
    }

    fn unassign(&mut self) {
        if let Some(client) = &self.client
            && let Err(error) = client.unassign()
        {
            tracing::error!(%error, "partitions could not be given back");
        }
        for own in self.partitions.drain(..) {
            // What was read ahead is of no use any more. The client lets go of it when it is asked for it, not before.
            while own.queue.recv().now_or_never().is_some() {}
        }
    }

    /// Begins what the group has given, as soon as brokers have said where.
    fn begin(&mut self) {
        let (Some(client), Some(given)) = (self.client.clone(), self.given.clone()) else { return };
        let time_max = self.subscription.answer_time_max;
        if let Some(error) = self.changed_topic(&client) {
            tracing::error!(%error, "the member ends");
            self.shared.reading().end(error);
            self.shared.changed.notify_one();
            self.given = None;
            drop(client);
            self.part();
            return;
        }
        let begun = start::starts(&client, &given, time_max).and_then(|starts| {
            let mut places = TopicPartitionList::with_capacity(starts.len());
            for start in &starts {
                places.add_partition_offset(
                    &start.topic,
                    start.partition,
                    Place::Offset(start::raw(start.at)),
                )?;
            }
            // Of two queues of one partition the one that ends takes the other's wake-ups with it.
            self.partitions.clear();
            // Before anything comes: what is there by then would come with everything else.
            self.partitions = self.split(&client, &starts)?;
            client.assign(&places).map(|()| starts)
        });
        match begun {
            Ok(starts) => {
                self.given = None;
                self.retry_at = None;
                self.assigned(starts);
            }
            Err(error) => {
                tracing::warn!(%error, "where to read from is not known yet");
                self.retry_at = Some(Instant::now() + RETRY_WAIT);
            }
        }
    }

    /// A queue for each partition, so that one that nobody takes from holds up no other. They stay apart whatever is
    /// assigned later.
    fn split(&self, client: &Arc<Client>, starts: &[Start]) -> KafkaResult<Vec<Partitioned>> {
        let split = |start: &Start| {
            let slot = self.slot(&start.topic, start.partition)?;
            let queue = client.split_partition_queue(&start.topic, start.partition)?;
            Some(Partitioned { slot, topic: start.topic.clone(), queue })
        };
        let split =
            |start| split(start).ok_or(KafkaError::Subscription("a partition has no queue".to_owned()));
        starts.iter().map(split).collect()
    }

    fn assigned(&mut self, starts: Vec<Start>) {
        let epoch = next_epoch();
        let mut gone = Vec::new();
        let mut partitions = Vec::with_capacity(starts.len());
        for Start { topic, partition, at, gone_from } in starts {
            let Some(slot) = self.slot(&topic, partition) else { continue };
            if let Some(from) = gone_from {
                tracing::error!(%slot, from = from.0, upto = at.0, "messages were deleted before they were read");
                gone.push(ConsumerEvent::Gone { epoch, slot: slot.clone(), from, upto: at });
            }
            partitions.push((slot, at));
        }
        partitions.sort();
        self.shared.reading().assign(epoch, partitions, gone);
        self.shared.changed.notify_one();
    }

    /// A topic that has not the number of partitions any more that this member counted on.
    fn changed_topic(&self, client: &Client) -> Option<QueueError> {
        self.subscription.topics.iter().find_map(|(name, topic)| {
            let metadata = client.fetch_metadata(Some(name), self.subscription.answer_time_max).ok()?;
            let found = metadata.topics().iter().find(|found| found.name() == name)?.partitions().len();
            let expected = self.subscription.partitions;
            (found != 0 && found != expected as usize).then(|| QueueError::PartitionsChanged {
                topic: topic.clone(),
                expected,
                found: u32::try_from(found).unwrap_or(u32::MAX),
            })
        })
    }

    /// Something was to be read that is not there. The client does not say what, and has stopped there: all places are
    /// looked at, and given to it again.
    fn find_places(&mut self) {
        let Some(client) = self.client.clone() else { return };
        let positions = self.shared.reading().positions();
        let found =
            self.places(&client, positions).and_then(|(places, gone)| client.assign(&places).map(|()| gone));
        match found {
            Ok(gone) => {
                self.is_lost_place = false;
                for (slot, upto) in gone {
                    tracing::error!(%slot, upto = upto.0, "messages were deleted before they were read");
                    self.shared.reading().jump(&slot, upto);
                }
                self.shared.changed.notify_one();
            }
            Err(error) => {
                tracing::warn!(%error, "where to read on is not known yet");
                self.is_lost_place = true;
                self.retry_at = Some(Instant::now() + RETRY_WAIT);
            }
        }
    }

    /// Where each partition is read on, and which cannot go on where they were.
    fn places(
        &self,
        client: &Client,
        positions: Vec<(Slot, Offset)>,
    ) -> KafkaResult<(TopicPartitionList, Vec<(Slot, Offset)>)> {
        let (mut places, mut gone) = (TopicPartitionList::new(), Vec::new());
        for (slot, position) in positions {
            let (name, partition) = self.wire(&slot);
            let (begin, end) = start::bounds(client, &name, partition, self.subscription.answer_time_max)?;
            let (at, lost) = start::resume(Some(position), begin, end);
            places.add_partition_offset(&name, partition, Place::Offset(start::raw(at)))?;
            if lost.is_some() {
                gone.push((slot, at));
            }
        }
        Ok((places, gone))
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.drain_until.is_some_and(|until| until <= now) {
            self.drain_until = None;
            self.is_released = false;
            let is_told = self.shared.reading().lose();
            tracing::error!("partitions were not given back in time: the member leaves its group");
            self.shared.changed.notify_one();
            self.part();
            if !is_told {
                self.retry_at = Some(now);
            }
            return;
        }
        self.commit();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            if self.client.is_none() {
                if let Err(error) = self.join() {
                    tracing::warn!(%error, "the group could not be joined again yet");
                    self.retry_at = Some(now + RETRY_WAIT);
                }
            } else if self.is_lost_place {
                self.find_places();
            } else {
                self.begin();
            }
        }
    }

    fn leave(&mut self, left: Option<oneshot::Sender<()>>) {
        self.shared.reading().end(QueueError::Left);
        self.shared.changed.notify_one();
        self.commits.give_up(&Ending::Unknown);
        self.close();
        if let Some(left) = left {
            // Whoever waited may have gone.
            left.send(()).unwrap_or_default();
        }
    }

    /// Ends the client here and now: leaves the group.
    fn close(&mut self) {
        self.partitions.clear();
        if let Some(client) = self.client.take() {
            // A static member that ends is expected back.
            let is_static = self.subscription.client.get("group.instance.id").is_some();
            prepare_end(&client, !is_static);
            drop(client);
        }
    }

    /// Ends the client without waiting for that: its membership is over.
    fn part(&mut self) {
        self.commits.give_up(&fenced("AssignmentLost"));
        // What it still says is not for this member any more.
        self.number += 1;
        self.is_lost_place = false;
        self.partitions.clear();
        if let Some(client) = self.client.take() {
            reaper::bury(client, |client| prepare_end(client, true));
        }
    }

    fn wire(&self, slot: &Slot) -> (String, i32) {
        let name = self.subscription.topics.iter().find(|(_, topic)| *topic == slot.topic);
        (
            name.map_or_else(String::new, |(name, _)| name.clone()),
            i32::try_from(slot.partition.0).unwrap_or(-1),
        )
    }

    fn slot(&self, name: &str, partition: i32) -> Option<Slot> {
        let (_, topic) = self.subscription.topics.iter().find(|(known, _)| known == name)?;
        Some(Slot::new(topic, Partition(u32::try_from(partition).ok()?)))
    }
}

/// A request to commit, of the client of that number.
struct Request {
    number: u64,
    client: Arc<Client>,
    offsets: TopicPartitionList,
}

/// Makes requests, one after another, and tells how they ended.
fn make_requests(requests: &std::sync::mpsc::Receiver<Request>, heard: &mpsc::UnboundedSender<Command>) {
    for Request { number, client, offsets } in requests {
        let result = client
            .commit(&offsets, CommitMode::Sync)
            .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
        // It may be the last that keeps the client.
        drop(client);
        if heard.send(Command::Client(number, News::Committed(result))).is_err() {
            return;
        }
    }
}

/// Makes the destructor of a client end: nobody else will answer a rebalance that waits. Without its subscription the
/// client leaves at once, and does not join again meanwhile.
fn prepare_end(client: &Client, leaves: bool) {
    client.context().is_closing.store(true, Ordering::Release);
    if leaves {
        client.unsubscribe();
    }
    if let Err(error) = client.unassign() {
        tracing::warn!(%error, "a member that leaves could not give its partitions back");
    }
}

fn fenced(code: &str) -> Ending<()> {
    Ending::Refused(Refusal::new(RefusalKind::Fenced, code))
}
