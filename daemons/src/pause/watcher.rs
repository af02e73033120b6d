//! Follows the node and the channel of one site, and writes the node as commands and dates demand.

use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::{Coordination, Expect, InvalidPath, Lifetime, Node, NodePath, Watch};
use backbeat_backends::stats::{Heard, Stats, Subscription};
use backbeat_core::call::{Ending, RefusalKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::state::{Command, PauseState};
use super::{REPLAY_STATE, STATE};

/// Writers that change a node at the same time try again so often.
const ATTEMPTS: usize = 5;

/// How long to wait before a service that was away is asked again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How long to wait before a resumption that could not be written is tried again.
const RESUME_RETRY_WAIT: Duration = Duration::from_mins(1);

/// The longest wait between two looks at the clock: it may be set.
const CLOCK_WAIT_MAX: Duration = Duration::from_mins(1);

/// The names of a site's node and channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausePlace {
    /// Where its state is kept.
    pub node: NodePath,
    /// Where commands are heard.
    pub channel: String,
}

impl PausePlace {
    /// Those of `site`, whose changes come from `replication_topic`.
    ///
    /// # Errors
    /// The name of the site cannot be part of a path.
    pub fn of_site(replication_topic: &str, site: &str) -> Result<Self, InvalidPath> {
        let node = NodePath::new(STATE)?.child(site)?;
        Ok(Self { node, channel: format!("{replication_topic}-{site}") })
    }

    /// Those of `site` for the consumers of one replay topic: a node of their own, the same channel.
    ///
    /// # Errors
    /// One of the names cannot be part of a path.
    pub fn of_replay(replication_topic: &str, replay_topic: &str, site: &str) -> Result<Self, InvalidPath> {
        let node = NodePath::new(REPLAY_STATE)?.child(replay_topic)?.child(site)?;
        Ok(Self { node, channel: format!("{replication_topic}-{site}") })
    }
}

/// Why nobody can know whether a site is paused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// The node holds something else.
    #[error("node {node} holds no pause state but {content:?}: delete it, or write {{\"paused\":false}}")]
    Unreadable {
        /// The node.
        node: NodePath,
        /// What it holds.
        content: String,
    },
    /// The coordination store does not answer.
    #[error("node {node} cannot be read or written: {code}")]
    Unavailable {
        /// The node.
        node: NodePath,
        /// What it said.
        code: String,
    },
}

/// Learns whether the site is paused, and follows it from then on: the receiver always has the state that is known last.
/// A node that is missing is made. The task never ends: abort it.
///
/// The channel may be away, now or later: it is listened to as soon as it is there. A session that is over is asked again
/// and again: where that can happen, `coordination` opens another one by itself
/// ([`backbeat_backends::coordination::lasting::Lasting`]).
///
/// # Errors
/// The state cannot be known. A start that guesses could copy what somebody wanted to be left alone.
pub async fn follow<C: Coordination, S: Stats>(
    place: PausePlace,
    coordination: Arc<C>,
    stats: Arc<S>,
    clock: WallClock,
) -> Result<(watch::Receiver<bool>, JoinHandle<()>), PauseError> {
    let mut watcher = Watcher {
        place,
        coordination,
        stats,
        clock,
        state: PauseState::default(),
        paused: watch::Sender::new(false),
        node_watch: None,
        read_again: None,
        listening: None,
        listen_again: Instant::now(),
        resume_again: None,
    };
    watcher.begin().await?;
    let paused = watcher.paused.subscribe();
    let span = tracing::info_span!("pause", node = %watcher.place.node);
    Ok((paused, tokio::spawn(tracing::Instrument::instrument(watcher.run(), span))))
}

/// Deletes the state of a site that is not served any more.
pub async fn forget<C: Coordination>(coordination: &C, place: &PausePlace) -> Ending<()> {
    match coordination.delete(&place.node, Expect::Any).await {
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ending::Applied(()),
        ending @ (Ending::Applied(()) | Ending::Refused(_) | Ending::Unknown) => ending,
    }
}

struct Watcher<C, S> {
    place: PausePlace,
    coordination: Arc<C>,
    stats: Arc<S>,
    clock: WallClock,
    /// As it was read or written last.
    state: PauseState,
    paused: watch::Sender<bool>,
    node_watch: Option<Watch>,
    /// When the node is read again although nothing is heard of it.
    read_again: Option<Instant>,
    listening: Option<Subscription>,
    /// When the channel is listened to, while it is not.
    listen_again: Instant,
    /// When a resumption is tried again.
    resume_again: Option<Instant>,
}

impl<C: Coordination, S: Stats> Watcher<C, S> {
    async fn begin(&mut self) -> Result<(), PauseError> {
        self.watch_node().await;
        self.listen().await;
        let now = self.clock.now();
        let written = self.change(|state| state.at_start(now)).await?;
        if written {
            tracing::info!(node = %self.place.node, "its date had passed: the site is resumed");
        } else if self.state.is_paused() {
            tracing::info!(node = %self.place.node, resumes = ?self.state.resumes(), "the site is paused");
        }
        Ok(())
    }

    async fn run(mut self) {
        loop {
            let due = self.due();
            tokio::select! {
                () = changed(self.node_watch.as_mut()) => {
                    // Of a session that is over nothing more is heard, and that at once: the next one is asked to tell.
                    if self.node_watch.as_ref().is_some_and(Watch::is_over) {
                        self.watch_node().await;
                    }
                    self.look().await;
                }
                () = at(self.read_again) => {
                    self.watch_node().await;
                    self.look().await;
                }
                heard = next(self.listening.as_mut()) => self.heard(heard).await,
                () = at(Some(self.listen_again)), if self.listening.is_none() => {
                    self.listen().await;
                    // What was ordered on another process while nobody listened here.
                    self.look().await;
                }
                () = at(due) => self.resume_if_due().await,
            }
        }
    }

    /// When the date of the state is looked at.
    fn due(&self) -> Option<Instant> {
        let date = self.state.resumes()?;
        let left = date.as_millis().saturating_sub(self.clock.now().as_millis());
        let wait = Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(CLOCK_WAIT_MAX);
        Some((Instant::now() + wait).max(self.resume_again.unwrap_or_else(Instant::now)))
    }

    async fn watch_node(&mut self) {
        self.node_watch = match self.coordination.watch(&self.place.node).await {
            Ending::Applied(watch) => Some(watch),
            Ending::Refused(_) | Ending::Unknown => None,
        };
        self.read_again = self.node_watch.is_none().then(|| Instant::now() + RETRY_WAIT);
    }

    async fn listen(&mut self) {
        self.listening = match self.stats.subscribe(&self.place.channel).await {
            Ending::Applied(subscription) => Some(subscription),
            Ending::Refused(refusal) => {
                tracing::debug!(channel = self.place.channel, code = %refusal.code, "channel not heard");
                None
            }
            Ending::Unknown => None,
        };
        self.listen_again = Instant::now() + RETRY_WAIT;
    }

    async fn heard(&mut self, heard: Heard) {
        match heard {
            Heard::Message(message) => match Command::parse(&message) {
                Ok(command) => self.obey(command).await,
                Err(reason) => tracing::warn!(channel = self.place.channel, reason, "message passed over"),
            },
            Heard::Missed(_) => self.look().await,
            Heard::Closed => {
                self.listening = None;
                self.listen_again = Instant::now() + RETRY_WAIT;
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match self.change(|state| state.after(command, now)).await {
            Ok(true) => tracing::info!(?command, "done as ordered"),
            Ok(false) => tracing::info!(?command, paused = self.state.is_paused(), "nothing to do"),
            Err(error) => {
                tracing::warn!(?command, %error, "not done");
                self.look_soon();
            }
        }
    }

    async fn resume_if_due(&mut self) {
        self.resume_again = None;
        let now = self.clock.now();
        match self.change(|state| state.when_due(now)).await {
            Ok(true) => tracing::info!("resumed as scheduled"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "not resumed as scheduled; trying again");
                self.resume_again = Some(Instant::now() + RESUME_RETRY_WAIT);
            }
        }
    }

    /// Reads the node, and takes over what it says.
    async fn look(&mut self) {
        match self.read().await {
            Ok(Some((state, _))) => {
                if self.node_watch.is_some() {
                    self.read_again = None;
                }
                self.take(state);
            }
            // Whoever deleted it does not want the site to be served; that is not decided here.
            Ok(None) => tracing::warn!("the node is gone; the state stays what it was"),
            Err(error) => {
                tracing::debug!(%error, "the state stays what it was");
                self.look_soon();
            }
        }
    }

    /// Looks again after a while, with a new watch: the old one may be of a session that is over.
    fn look_soon(&mut self) {
        self.node_watch = None;
        self.read_again = Some(Instant::now() + RETRY_WAIT);
    }

    fn take(&mut self, state: PauseState) {
        if state != self.state {
            tracing::info!(paused = state.is_paused(), resumes = ?state.resumes(), "state");
            self.resume_again = None;
        }
        let is_paused = state.is_paused();
        self.state = state;
        self.paused.send_if_modified(|paused| std::mem::replace(paused, is_paused) != is_paused);
    }

    async fn read(&self) -> Result<Option<(PauseState, Expect)>, PauseError> {
        match self.coordination.read(&self.place.node).await {
            Ending::Applied(Node { data, version }) => match PauseState::parse(&data) {
                Some(state) => Ok(Some((state, Expect::Version(version)))),
                None => Err(PauseError::Unreadable {
                    node: self.place.node.clone(),
                    content: String::from_utf8_lossy(&data).into_owned(),
                }),
            },
            Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
            Ending::Refused(refusal) => Err(self.unavailable(refusal.code)),
            Ending::Unknown => Err(self.unavailable("no answer")),
        }
    }

    fn unavailable(&self, code: impl Into<String>) -> PauseError {
        PauseError::Unavailable { node: self.place.node.clone(), code: code.into() }
    }

    /// Writes what `change` makes of the state as it is now; makes the node if it is missing. Says whether `change` made
    /// anything of it. An error means that nothing is known to be written.
    async fn change(
        &mut self,
        change: impl Fn(&PauseState) -> Option<PauseState>,
    ) -> Result<bool, PauseError> {
        for _ in 0..ATTEMPTS {
            let (before, expect) = match self.read().await? {
                Some((state, expect)) => (state, Some(expect)),
                None => (PauseState::default(), None),
            };
            let after = change(&before);
            let is_change = after.is_some();
            let state = after.unwrap_or(before);
            let written = match expect {
                Some(_) if !is_change => {
                    self.take(state);
                    return Ok(false);
                }
                Some(expect) => self.coordination.write(&self.place.node, state.to_data(), expect).await,
                None => self.coordination.create(&self.place.node, state.to_data(), Lifetime::Durable).await,
            };
            match written {
                Ending::Applied(_) => {
                    self.take(state);
                    return Ok(is_change);
                }
                Ending::Refused(refusal)
                    if matches!(refusal.kind, RefusalKind::Conflict | RefusalKind::NotFound) => {}
                Ending::Refused(refusal) => return Err(self.unavailable(refusal.code)),
                Ending::Unknown => return Err(self.unavailable("no answer")),
            }
        }
        Err(self.unavailable("it keeps changing"))
    }
}

async fn changed(node_watch: Option<&mut Watch>) {
    match node_watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

async fn next(listening: Option<&mut Subscription>) -> Heard {
    match listening {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timestamp;
    use backbeat_backends::coordination::NodeVersion;
    use backbeat_backends::coordination::lasting::{Lasting, Sessions};
    use backbeat_backends::coordination::memory::{MemoryCoordination, MemorySession};
    use backbeat_backends::stats::memory::MemoryStats;
    use backbeat_core::call::Refusal;
    use backbeat_core::time::WallTime;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const START: i64 = 1_739_259_000_000;
    const HOUR: Duration = Duration::from_hours(1);

    struct Bench {
        tree: MemoryCoordination,
        session: Arc<MemorySession>,
        stats: Arc<MemoryStats>,
        clock: WallClock,
        place: PausePlace,
    }

    impl Bench {
        fn new() -> Self {
            let clock = WallClock::tokio(WallTime::from_millis(START));
            let tree = MemoryCoordination::new();
            Self {
                session: Arc::new(tree.connect()),
                tree,
                stats: Arc::new(MemoryStats::new(clock.clone())),
                clock,
                place: PausePlace::of_site("backbeat-replication", "paris").expect("a usable name"),
            }
        }

        async fn follow(&self) -> (watch::Receiver<bool>, JoinHandle<()>) {
            let (session, stats) = (Arc::clone(&self.session), Arc::clone(&self.stats));
            follow(self.place.clone(), session, stats, self.clock.clone()).await.expect("the state is known")
        }

        async fn order(&self, message: &str) {
            let message = Bytes::from(message.to_owned());
            let told = self.stats.publish("backbeat-replication-paris", message).await;
            assert_eq!(told, Ending::Applied(()));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }

        /// Resume so much later.
        async fn resume_after(&self, after: Duration) {
            self.order(&format!(r#"{{"action":"resumeService","date":"{}"}}"#, self.date(after))).await;
        }

        fn date(&self, after: Duration) -> String {
            let after = i64::try_from(after.as_millis()).expect("a short time");
            timestamp::format(WallTime::from_millis(self.clock.now().as_millis() + after))
        }

        async fn stored(&self) -> String {
            match self.session.read(&self.place.node).await {
                Ending::Applied(node) => String::from_utf8_lossy(&node.data).into_owned(),
                ending @ (Ending::Refused(_) | Ending::Unknown) => panic!("{ending:?}"),
            }
        }

        async fn store(&self, state: &str) {
            let data = Bytes::from(state.to_owned());
            let written = match self.session.read(&self.place.node).await {
                Ending::Applied(_) => self.session.write(&self.place.node, data, Expect::Any).await,
                Ending::Refused(_) | Ending::Unknown => {
                    self.session.create(&self.place.node, data, Lifetime::Durable).await
                }
            };
            assert!(matches!(written, Ending::Applied(_)), "{written:?}");
        }
    }

    const PAUSE: &str = r#"{"action":"pauseService"}"#;
    const RESUME: &str = r#"{"action":"resumeService"}"#;
    const PAUSED: &str = r#"{"paused":true,"scheduledResume":null}"#;
    const RESUMED: &str = r#"{"paused":false,"scheduledResume":null}"#;

    #[test]
    fn nodes_and_channels_are_those_of_upstream() {
        let site = PausePlace::of_site("backbeat-replication", "paris").expect("a usable name");
        assert_eq!(site.node.as_str(), "/backbeat/replication/state/paris");
        assert_eq!(site.channel, "backbeat-replication-paris");
        let replay =
            PausePlace::of_replay("backbeat-replication", "replay-0", "paris").expect("usable names");
        assert_eq!(replay.node.as_str(), "/backbeat/replication/replayState/replay-0/paris");
        assert_eq!(replay.channel, site.channel);
        assert!(PausePlace::of_site("t", "a/b").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn commands_are_written_and_told() {
        let bench = Bench::new();
        let (paused, _task) = bench.follow().await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (false, r#"{"paused":false}"#));
        bench.order(RESUME).await;
        bench.resume_after(HOUR).await;
        assert_eq!(bench.stored().await, r#"{"paused":false}"#, "an active site is not resumed");
        bench.order("nonsense").await;
        bench.order(PAUSE).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (true, PAUSED));
        bench.order(PAUSE).await;
        assert_eq!(bench.stored().await, PAUSED);
        bench.order(RESUME).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (false, RESUMED));
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_date_counts_until_it_is_forgotten() {
        let bench = Bench::new();
        let (paused, _task) = bench.follow().await;
        bench.order(PAUSE).await;
        bench.resume_after(HOUR).await;
        bench.resume_after(HOUR * 3).await;
        tokio::time::sleep(HOUR * 2).await;
        assert!(*paused.borrow(), "the first date does not count any more");
        bench.order(PAUSE).await;
        tokio::time::sleep(HOUR * 2).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (false, RESUMED), "pausing again keeps it");
        bench.order(PAUSE).await;
        bench.resume_after(HOUR).await;
        bench.order(r#"{"action":"deleteScheduledResumeService"}"#).await;
        tokio::time::sleep(HOUR * 5).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (true, PAUSED));
        let past = format!(
            r#"{{"action":"resumeService","date":"{}"}}"#,
            timestamp::format(WallTime::from_millis(START))
        );
        bench.order(&past).await;
        assert!(!*paused.borrow());
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_keeps_what_was_ordered() {
        let bench = Bench::new();
        for (stored, is_paused, becomes) in [
            (format!(r#"{{"paused":true,"scheduledResume":"{}"}}"#, bench.date(HOUR)), true, None),
            (
                r#"{"paused":true,"scheduledResume":"2020-01-01T00:00:00.000Z"}"#.to_owned(),
                false,
                Some(r#"{"paused":false}"#),
            ),
            (r#"{"paused":true}"#.to_owned(), true, None),
            (r#"{"paused":false}"#.to_owned(), false, None),
        ] {
            bench.store(&stored).await;
            let (paused, task) = bench.follow().await;
            assert_eq!(*paused.borrow(), is_paused, "{stored}");
            assert_eq!(bench.stored().await, becomes.unwrap_or(&stored));
            task.abort();
        }
        bench.store(&format!(r#"{{"paused":true,"scheduledResume":"{}"}}"#, bench.date(HOUR))).await;
        let (paused, _task) = bench.follow().await;
        tokio::time::sleep(HOUR * 2).await;
        assert!(!*paused.borrow(), "its date has come");
        bench.store("what?").await;
        let (session, stats) = (Arc::clone(&bench.session), Arc::clone(&bench.stats));
        let refused = follow(bench.place.clone(), session, stats, bench.clock.clone()).await;
        let error = refused.expect_err("nobody can know").to_string();
        assert!(error.contains("/backbeat/replication/state/paris") && error.contains("what?"), "{error}");
        assert!(!*paused.borrow(), "who knew it before goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn processes_agree_whoever_writes_the_node() {
        let bench = Bench::new();
        let (first, _first) = bench.follow().await;
        let (second, _second) = bench.follow().await;
        bench.store(r#"{"paused":true,"theirs":[1]}"#).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((*first.borrow(), *second.borrow()), (true, true));
        bench.resume_after(HOUR).await;
        tokio::time::sleep(HOUR * 2).await;
        assert_eq!((*first.borrow(), *second.borrow()), (false, false));
        assert_eq!(bench.stored().await, r#"{"paused":false,"scheduledResume":null,"theirs":[1]}"#);
    }

    /// A session whose writes are refused while it says so.
    struct Troubled(Arc<MemorySession>, AtomicBool);

    impl Coordination for Troubled {
        async fn read(&self, path: &NodePath) -> Ending<Node> {
            self.0.read(path).await
        }

        async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
            self.0.create(path, data, lifetime).await
        }

        async fn create_numbered(&self, prefix: &NodePath, data: Bytes) -> Ending<NodePath> {
            self.0.create_numbered(prefix, data).await
        }

        async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
            if self.1.load(Ordering::Relaxed) {
                return Ending::Refused(Refusal::new(RefusalKind::Unavailable, "ConnectionLoss"));
            }
            self.0.write(path, data, expect).await
        }

        async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
            self.0.delete(path, expect).await
        }

        async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
            self.0.children(path).await
        }

        async fn watch(&self, path: &NodePath) -> Ending<Watch> {
            self.0.watch(path).await
        }

        async fn expired(&self) {
            self.0.expired().await;
        }

        async fn close(&self) {
            self.0.close().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_written_does_not_happen_and_a_date_is_tried_again_every_minute() {
        let bench = Bench::new();
        let troubled = Arc::new(Troubled(Arc::clone(&bench.session), AtomicBool::new(false)));
        let has_trouble = |has: bool| troubled.1.store(has, Ordering::Relaxed);
        let (session, stats) = (Arc::clone(&troubled), Arc::clone(&bench.stats));
        let followed = follow(bench.place.clone(), session, stats, bench.clock.clone()).await;
        let (paused, _task) = followed.expect("the state is known");
        has_trouble(true);
        bench.order(PAUSE).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (false, r#"{"paused":false}"#));
        has_trouble(false);
        bench.order(PAUSE).await;
        bench.resume_after(HOUR).await;
        has_trouble(true);
        tokio::time::sleep(HOUR * 2).await;
        bench.order(RESUME).await;
        assert!(*paused.borrow());
        has_trouble(false);
        tokio::time::sleep(Duration::from_secs(62)).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (false, RESUMED));
    }

    /// A session whose watches end with it, as those of real stores do; reading takes its time and is counted.
    struct Mortal(Arc<MemorySession>, Arc<AtomicUsize>);

    impl Coordination for Mortal {
        async fn read(&self, path: &NodePath) -> Ending<Node> {
            self.1.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.0.read(path).await
        }

        async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
            self.0.create(path, data, lifetime).await
        }

        async fn create_numbered(&self, prefix: &NodePath, data: Bytes) -> Ending<NodePath> {
            self.0.create_numbered(prefix, data).await
        }

        async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
            self.0.write(path, data, expect).await
        }

        async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
            self.0.delete(path, expect).await
        }

        async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
            self.0.children(path).await
        }

        async fn watch(&self, path: &NodePath) -> Ending<Watch> {
            let (changes, seen) = watch::channel(0_u64);
            let session = Arc::clone(&self.0);
            self.0.watch(path).await.map(|mut inner| {
                tokio::spawn(async move {
                    loop {
                        tokio::select! {
                            () = session.expired() => return,
                            () = inner.changed() => changes.send_modify(|count| *count += 1),
                        }
                    }
                });
                Watch::new(seen)
            })
        }

        async fn expired(&self) {
            self.0.expired().await;
        }

        async fn close(&self) {
            self.0.close().await;
        }
    }

    /// Opens sessions, and keeps the last one at hand.
    struct Remembered {
        tree: MemoryCoordination,
        last: Arc<std::sync::Mutex<Option<Arc<MemorySession>>>>,
        reads: Arc<AtomicUsize>,
    }

    impl Sessions for Remembered {
        type Session = Mortal;
        type Error = std::convert::Infallible;

        async fn open(&self) -> Result<Arc<Mortal>, Self::Error> {
            let session = Arc::new(self.tree.connect());
            *self.last.lock().expect("nobody panicked") = Some(Arc::clone(&session));
            Ok(Arc::new(Mortal(session, Arc::clone(&self.reads))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_ends_changes_nothing_and_the_next_one_goes_on() {
        let bench = Bench::new();
        let sessions = Remembered { tree: bench.tree.clone(), last: Arc::default(), reads: Arc::default() };
        let (last, reads) = (Arc::clone(&sessions.last), Arc::clone(&sessions.reads));
        let Ok(lasting) = Lasting::open(sessions).await;
        let (stats, clock) = (Arc::clone(&bench.stats), bench.clock.clone());
        let (paused, _task) =
            follow(bench.place.clone(), Arc::new(lasting), stats, clock).await.expect("the state is known");
        bench.order(PAUSE).await;
        let session = last.lock().expect("nobody panicked").clone().expect("there is one");
        session.expire();
        let reads_before = reads.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(*paused.borrow());
        let reads_after = reads.load(Ordering::Relaxed);
        assert!(reads_after - reads_before < 10, "it keeps looking: {reads_before}, {reads_after}");
        bench.store(RESUMED).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!*paused.borrow(), "the new session hears of it");
        bench.order(PAUSE).await;
        assert_eq!((*paused.borrow(), &*bench.stored().await), (true, PAUSED));
    }
}
