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
    let replay = PausePlace::of_replay("backbeat-replication", "replay-0", "paris").expect("usable names");
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

/// A session whose watches end with it, as those of real stores do; reading takes its time and is counted, and writes are refused
/// while it says so.
struct Mortal {
    session: Arc<MemorySession>,
    reads: Arc<AtomicUsize>,
    refuses: AtomicBool,
}

impl Mortal {
    fn new(session: Arc<MemorySession>, reads: Arc<AtomicUsize>) -> Self {
        Self { session, reads, refuses: AtomicBool::new(false) }
    }
}

impl Coordination for Mortal {
    async fn read(&self, path: &NodePath) -> Ending<Node> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.session.read(path).await
    }

    async fn create(&self, path: &NodePath, data: Bytes, lifetime: Lifetime) -> Ending<NodeVersion> {
        self.session.create(path, data, lifetime).await
    }

    async fn create_numbered(&self, prefix: &NodePath, data: Bytes) -> Ending<NodePath> {
        self.session.create_numbered(prefix, data).await
    }

    async fn write(&self, path: &NodePath, data: Bytes, expect: Expect) -> Ending<NodeVersion> {
        if self.refuses.load(Ordering::Relaxed) {
            return Ending::Refused(Refusal::new(RefusalKind::Unavailable, "ConnectionLoss"));
        }
        self.session.write(path, data, expect).await
    }

    async fn delete(&self, path: &NodePath, expect: Expect) -> Ending<()> {
        self.session.delete(path, expect).await
    }

    async fn children(&self, path: &NodePath) -> Ending<Vec<String>> {
        self.session.children(path).await
    }

    async fn watch(&self, path: &NodePath) -> Ending<Watch> {
        let (changes, seen) = watch::channel(0_u64);
        let session = Arc::clone(&self.session);
        self.session.watch(path).await.map(|mut inner| {
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
        self.session.expired().await;
    }

    async fn close(&self) {
        self.session.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_does_not_happen_and_a_date_is_tried_again_every_minute() {
    let bench = Bench::new();
    let troubled = Arc::new(Mortal::new(Arc::clone(&bench.session), Arc::default()));
    let has_trouble = |has: bool| troubled.refuses.store(has, Ordering::Relaxed);
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
        Ok(Arc::new(Mortal::new(session, Arc::clone(&self.reads))))
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
