//! The store itself: one writer thread that commits for many, snapshots for readers.

use super::directory::{Directory, OlderFormat};
use super::disk::{Disk, DiskFaults};
use super::in_use::InUse;
use super::transaction::GroupTables;
use super::{Read, ReadTxn, StoreError, Table, WriteTxn};
use redb::{Database, ReadableDatabase};
use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

/// Writes that wait for the writer before callers have to wait to enqueue theirs.
const WAITING_MAX: usize = 1024;
/// Writes that share one commit at most: bounds the time of one commit.
const GROUP_MAX: usize = 512;
/// After a commit that many writes shared the next one is begun as much later as that one took, at most so much: a machine that is
/// busy, whose commits take long, lets still more share one, which costs as much for one as for many. Who writes alone waits for
/// nothing.
const COMMIT_GAP_MAX: Duration = Duration::from_millis(2);
/// The store's own table: the number of the last group commit.
const OWN: Table = Table("embedded");
const OWN_COMMIT: &[u8] = b"commit";

type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A caller's closure with its way back.
trait Job: Send {
    /// Runs it; the reply is to be given after the commit.
    fn run(self: Box<Self>, txn: &mut WriteTxn<'_>) -> Ran;
    /// Answers without running it.
    fn refuse(self: Box<Self>, error: StoreError);
}

/// What a closure came to: whether its changes are to be kept, and who waits for the commit.
struct Ran {
    accepted: bool,
    reply: Reply,
}

struct Write<F, A, U, E> {
    closure: F,
    after: A,
    answer: oneshot::Sender<Result<U, E>>,
}

impl<F, A, T, U, E> Job for Write<F, A, U, E>
where
    T: Send + 'static,
    U: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: FnOnce(&mut WriteTxn<'_>) -> Result<T, E> + Send + 'static,
    A: FnOnce(T, Result<(), &StoreError>) -> U + Send + 'static,
{
    fn run(self: Box<Self>, txn: &mut WriteTxn<'_>) -> Ran {
        let Self { closure, after, answer } = *self;
        let written = closure(txn);
        let accepted = written.is_ok();
        let reply: Reply = Box::new(move |committed| {
            let result = match (written, committed) {
                (Ok(value), Ok(())) => Ok(after(value, Ok(()))),
                (Ok(value), Err(error)) => {
                    drop(after(value, Err(&error)));
                    Err(error.into())
                }
                (Err(refusal), Ok(())) => Err(refusal),
                (Err(_), Err(error)) => Err(error.into()),
            };
            // The caller may have stopped waiting: then there is nobody to tell.
            drop(answer.send(result));
        });
        Ran { accepted, reply }
    }

    fn refuse(self: Box<Self>, error: StoreError) {
        drop(self.answer.send(Err(error.into())));
    }
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of database pages kept in memory.
    pub cache_bytes: usize,
    /// Faults for tests.
    pub faults: Option<Arc<DiskFaults>>,
    /// What becomes of a directory of an older format.
    pub older: OlderFormat,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, faults: None, older: OlderFormat::default() }
    }
}

/// The durable store of one data directory. Clones share it; the last one to go closes it.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    jobs: Option<mpsc::Sender<Box<dyn Job>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    directory: Directory,
    /// Goes after the directory: then the store is closed.
    closing: watch::Sender<()>,
    file: PathBuf,
    /// The same, for whoever has to name it in a panic.
    name: Arc<Path>,
    options: StoreOptions,
    /// Nothing while a failed disk keeps it from being opened again.
    database: RwLock<Option<Database>>,
    commits: AtomicU64,
    writes: AtomicU64,
    sync_failed: Arc<AtomicBool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens, or creates, the store of a directory.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it, [`StoreError::UnknownFormat`] if another version wrote it,
    /// [`StoreError::Damaged`] naming the file if it is torn.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, StoreOptions::default())
    }

    /// [`Store::open`] with options.
    pub fn open_with(directory: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let directory = Directory::open(directory, options.older)?;
        let shared = Arc::new(Shared {
            file: directory.database(),
            name: directory.database().into(),
            directory,
            closing: watch::Sender::new(()),
            options,
            database: RwLock::new(None),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            sync_failed: Arc::default(),
        });
        shared.ensure_open()?;
        shared.directory.sync()?;
        let (jobs, waiting) = mpsc::channel(WAITING_MAX);
        let writer = thread::Builder::new()
            .name("embedded-store".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || Writer { shared, waiting, last: None }.run()
            })
            .map_err(|error| StoreError::io(&shared.file, &error))?;
        Ok(Self { handle: Arc::new(Handle { shared, jobs: Some(jobs), writer: Mutex::new(Some(writer)) }) })
    }

    /// Runs `write` inside the writer's transaction and answers once it is durable.
    ///
    /// Closures run in the order they were enqueued, each seeing all before it; many share one commit. A closure that
    /// returns an error leaves no effect. It runs on the writer's thread: keep it short, prepare outside. A caller
    /// that stops waiting does not undo its write.
    ///
    /// # Errors
    /// The closure's own error; or the store's: after [`StoreError::Unknown`] the write may be there, after any other
    /// it is not.
    pub async fn write<T, E, F>(&self, write: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut WriteTxn<'_>) -> Result<T, E> + Send + 'static,
    {
        self.write_then(write, |value, _| value).await
    }

    /// [`Store::write`] with something to do as soon as the outcome of an accepted closure is known, whether its caller
    /// still waits or not: `after` gets what the closure answered, and makes the caller's answer of it. It runs on the
    /// writer's thread, too, and must not wait for anything.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_then<T, U, E, F, A>(&self, write: F, after: A) -> Result<U, E>
    where
        T: Send + 'static,
        U: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut WriteTxn<'_>) -> Result<T, E> + Send + 'static,
        A: FnOnce(T, Result<(), &StoreError>) -> U + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let jobs = self.handle.jobs.as_ref().expect("the sender goes with the handle");
        if jobs.send(Box::new(Write { closure: write, after, answer })).await.is_err() {
            return Err(StoreError::Closed { file: self.file().into() }.into());
        }
        answered.await.unwrap_or_else(|_| Err(StoreError::Panicked { file: self.file().into() }.into()))
    }

    /// Reads a snapshot of what is committed. Reads pages of the file if they are not cached, so keep it short.
    ///
    /// # Errors
    /// The closure's own, or the store's.
    pub fn read<T, E>(&self, read: impl FnOnce(&ReadTxn<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        self.handle.shared.read(read)
    }

    /// What tells when the store is closed. It does not keep the store open.
    pub fn closed(&self) -> Closed {
        Closed { file: self.file().into(), closing: self.handle.shared.closing.subscribe() }
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.handle.shared.file
    }

    /// Durable commits since the store was opened.
    pub fn commits(&self) -> u64 {
        self.handle.shared.commits.load(Ordering::Relaxed)
    }

    /// Closures run since the store was opened.
    pub fn writes(&self) -> u64 {
        self.handle.shared.writes.load(Ordering::Relaxed)
    }
}

/// Tells when a store is closed: its last clone is gone, its file too, and its directory may be opened again.
#[derive(Clone, Debug)]
pub struct Closed {
    file: PathBuf,
    closing: watch::Receiver<()>,
}

impl Closed {
    /// Waits until the store is closed.
    pub async fn wait(mut self) {
        // Nothing is ever sent: an error says that the sender is gone, and with it the store.
        while self.closing.changed().await.is_ok() {}
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.jobs.take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!(file = %self.shared.file.display(), "the store's writer panicked");
        }
    }
}

impl Shared {
    fn read<T, E>(&self, read: impl FnOnce(&ReadTxn<'_>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<StoreError>,
    {
        self.ensure_open()?;
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else {
            return Err(self.unavailable().into());
        };
        let run = || {
            let txn =
                database.begin_read().map_err(|error| StoreError::database(&self.file, error.into()))?;
            read(&ReadTxn::new(&self.file, txn))
        };
        // Damaged pages make the database panic rather than answer.
        let _in_use = InUse::new(&self.name);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Err(StoreError::Damaged { file: self.file.clone(), message: "reading it panicked".into() }.into())
        })
    }

    fn unavailable(&self) -> StoreError {
        StoreError::Io {
            file: self.file.clone(),
            message: "closed by a disk error, not yet opened again".into(),
        }
    }

    /// Opens the database file if a disk error closed it and it could not be opened again at once.
    fn ensure_open(&self) -> Result<(), StoreError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() {
            *database = Some(self.open_file()?);
        }
        Ok(())
    }

    /// Closes the database file after a disk error and opens it again. Waits for readers of the old one.
    fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        close(database.take(), &self.name);
        *database = Some(self.open_file()?);
        Ok(())
    }

    fn open_file(&self) -> Result<Database, StoreError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.file)
            .map_err(|error| StoreError::io(&self.file, &error))?;
        let disk = Disk::new(file, self.options.faults.clone(), Arc::clone(&self.sync_failed));
        let open = || Database::builder().set_cache_size(self.options.cache_bytes).create_with_backend(disk);
        let _in_use = InUse::new(&self.name);
        let opened = catch_unwind(AssertUnwindSafe(open)).map_err(|_| StoreError::Damaged {
            file: self.file.clone(),
            message: "opening it panicked".into(),
        })?;
        opened.map_err(|error| StoreError::database(&self.file, error.into()))
    }

    fn last_commit(&self) -> Result<u64, StoreError> {
        self.read(|txn| {
            let number = Read::get(txn, OWN, OWN_COMMIT)?;
            Ok(number.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        close(self.database.get_mut().unwrap_or_else(PoisonError::into_inner).take(), &self.name);
    }
}

/// Closes a database. Damaged pages make it panic then, too.
fn close(database: Option<Database>, file: &Arc<Path>) {
    let _in_use = InUse::new(file);
    if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
        tracing::error!(file = %file.display(), "the database is damaged: closing it panicked");
    }
}

/// The writer's thread.
struct Writer {
    shared: Arc<Shared>,
    waiting: mpsc::Receiver<Box<dyn Job>>,
    /// The number of the last commit, as long as it is known without a look into the file.
    last: Option<u64>,
}

impl Writer {
    fn run(mut self) {
        // When the next commit may begin.
        let mut due: Option<Instant> = None;
        while let Some(first) = self.waiting.blocking_recv() {
            if let Some(left) = due.and_then(|due| due.checked_duration_since(Instant::now())) {
                thread::sleep(left);
            }
            let mut group = vec![first];
            while group.len() < GROUP_MAX
                && let Ok(next) = self.waiting.try_recv()
            {
                group.push(next);
            }
            let (is_shared, begun) = (group.len() > 1, Instant::now());
            self.commit(group);
            due = is_shared.then(|| Instant::now() + begun.elapsed().min(COMMIT_GAP_MAX));
        }
    }

    fn commit(&mut self, group: Vec<Box<dyn Job>>) {
        let shared = &self.shared;
        // What failed may be there or not: then the file says.
        let number = match self.last.take().map_or_else(|| shared.last_commit(), Ok) {
            Ok(last) => last + 1,
            Err(error) => return refuse(group, &error),
        };
        shared.sync_failed.store(false, Ordering::SeqCst);
        let mut replies = Vec::with_capacity(group.len());
        let run = || self.run_group(group, number, &mut replies);
        let in_use = InUse::new(&shared.name);
        let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            Err(StoreError::Damaged { file: shared.file.clone(), message: "writing it panicked".into() })
        });
        drop(in_use);
        let outcome = outcome.map_err(|error| self.recover(number, error)).map(|is_changed| {
            self.last = Some(if is_changed { number } else { number - 1 });
        });
        for reply in replies {
            reply(outcome.clone());
        }
    }

    /// Runs the closures in one transaction and makes it durable; false if they changed nothing.
    fn run_group(
        &self,
        group: Vec<Box<dyn Job>>,
        number: u64,
        replies: &mut Vec<Reply>,
    ) -> Result<bool, StoreError> {
        let shared = &self.shared;
        let file = shared.file.as_path();
        let database = shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let mut group = group.into_iter();
        let result = (|| {
            let database = database.as_ref().ok_or_else(|| shared.unavailable())?;
            let txn = database.begin_write().map_err(|error| StoreError::database(file, error.into()))?;
            let mut is_changed = false;
            {
                let tables = GroupTables::new(file, &txn);
                for job in group.by_ref() {
                    shared.writes.fetch_add(1, Ordering::Relaxed);
                    let mut overlay = WriteTxn::new(&tables);
                    // A closure that panics drops its reply: its caller is told, the others go on.
                    let Ok(ran) = catch_unwind(AssertUnwindSafe(|| job.run(&mut overlay))) else { continue };
                    replies.push(ran.reply);
                    let changes = overlay.into_changes();
                    if ran.accepted && !changes.is_empty() {
                        is_changed = true;
                        tables.apply(changes)?;
                    }
                }
                if is_changed {
                    let mut own = WriteTxn::new(&tables);
                    own.put(OWN, OWN_COMMIT, number.to_be_bytes());
                    tables.apply(own.into_changes())?;
                }
            }
            if !is_changed {
                txn.abort().map_err(|error| StoreError::database(file, error.into()))?;
                return Ok(false);
            }
            txn.commit().map_err(|error| StoreError::database(file, error.into()))?;
            shared.commits.fetch_add(1, Ordering::Relaxed);
            Ok(true)
        })();
        if let Err(error) = &result {
            // Those that did not run yet are refused too: what they would have seen is gone.
            drop(database);
            refuse(group.collect(), error);
        }
        result
    }

    /// After a disk error: opens the file again and finds out whether the commit is there.
    fn recover(&self, number: u64, error: StoreError) -> StoreError {
        tracing::warn!(%error, "a group commit failed: opening the database again");
        let sync_failed = self.shared.sync_failed.load(Ordering::SeqCst);
        match self.shared.reopen().and_then(|()| self.shared.last_commit()) {
            Ok(last) if last < number => error,
            Ok(_) => StoreError::Unknown { file: self.shared.file.clone(), message: error.to_string() },
            // A commit is there only if all of it was written: one failed write, and opening takes it back.
            Err(_) if !sync_failed => error,
            Err(second) => StoreError::Unknown {
                file: self.shared.file.clone(),
                message: format!("{error}; and it could not be opened again: {second}"),
            },
        }
    }
}

/// Answers callers whose closures were not run.
fn refuse(group: Vec<Box<dyn Job>>, error: &StoreError) {
    for job in group {
        job.refuse(error.clone());
    }
}
