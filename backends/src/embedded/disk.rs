//! The database file as redb sees it, with faults that tests can switch on.

use redb::StorageBackend;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Faults of the disk under one store, for tests. Without a fault set it does nothing.
#[derive(Debug)]
pub struct DiskFaults {
    length_max: AtomicU64,
    writes_until_full: AtomicU64,
    writes_until_torn: AtomicU64,
    sync_fails: AtomicBool,
}

const NEVER: u64 = u64::MAX;

impl Default for DiskFaults {
    fn default() -> Self {
        Self {
            length_max: AtomicU64::new(NEVER),
            writes_until_full: AtomicU64::new(NEVER),
            writes_until_torn: AtomicU64::new(NEVER),
            sync_fails: AtomicBool::new(false),
        }
    }
}

impl DiskFaults {
    /// A disk without faults, for now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The file may not grow beyond `bytes`: growing is refused as a full disk would.
    pub fn limit_length(&self, bytes: u64) {
        self.length_max.store(bytes, Ordering::SeqCst);
    }

    /// After `writes` more writes the disk is full, until [`DiskFaults::heal`].
    pub fn fill_after(&self, writes: u64) {
        self.writes_until_full.store(writes, Ordering::SeqCst);
    }

    /// After `writes` more writes one write is torn in the middle and all further ones fail, as at a power cut.
    pub fn tear_after(&self, writes: u64) {
        self.writes_until_torn.store(writes, Ordering::SeqCst);
    }

    /// Making data durable fails, until [`DiskFaults::heal`].
    pub fn fail_sync(&self) {
        self.sync_fails.store(true, Ordering::SeqCst);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.length_max.store(NEVER, Ordering::SeqCst);
        self.writes_until_full.store(NEVER, Ordering::SeqCst);
        self.writes_until_torn.store(NEVER, Ordering::SeqCst);
        self.sync_fails.store(false, Ordering::SeqCst);
    }

    /// Counts one write down; true once the count is used up.
    fn spent(counter: &AtomicU64) -> bool {
        let left = counter.load(Ordering::SeqCst);
        if left == NEVER {
            return false;
        }
        counter.store(left.saturating_sub(1), Ordering::SeqCst);
        left == 0
    }
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "no space left on device (injected)")
}

/// The database file. Locking is the directory's affair.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    faults: Option<Arc<DiskFaults>>,
    /// Set when making data durable failed: from then on nobody knows what is on the disk.
    sync_failed: Arc<AtomicBool>,
}

impl Disk {
    pub(super) fn new(file: File, faults: Option<Arc<DiskFaults>>, sync_failed: Arc<AtomicBool>) -> Self {
        Self { file, faults, sync_failed }
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(faults) = &self.faults
            && faults.sync_fails.load(Ordering::SeqCst)
        {
            return Err(io::Error::other("sync failed (injected)"));
        }
        self.file.sync_data()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if let Some(faults) = &self.faults
            && len > self.file.metadata()?.len()
            && len > faults.length_max.load(Ordering::SeqCst)
        {
            return Err(full());
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync().inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            if DiskFaults::spent(&faults.writes_until_full) {
                return Err(full());
            }
            let torn_before = faults.writes_until_torn.load(Ordering::SeqCst) == 0;
            if DiskFaults::spent(&faults.writes_until_torn) {
                if !torn_before {
                    return Err(io::Error::other("power cut (injected)"));
                }
                faults.tear_once(&self.file, offset, data)?;
                return Err(io::Error::other("power cut (injected)"));
            }
        }
        self.file.write_all_at(data, offset)
    }
}

impl DiskFaults {
    /// Writes the first half of the data only.
    fn tear_once(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.sync_fails.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        file.write_all_at(&data[..data.len() / 2], offset)
    }
}
