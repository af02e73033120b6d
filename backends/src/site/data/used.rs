//! How many bytes the data of a site has: what its quota is compared with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of a site's data, those that are being received included.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(Arc<AtomicU64>);

impl Used {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn more(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn less(&self, bytes: u64) {
        // It never goes below zero, whatever became of files behind our back.
        let less = |used: u64| Some(used.saturating_sub(bytes));
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).unwrap_or_default();
    }
}

/// Bytes that count as long as this lives, or for good once they are kept.
#[derive(Debug)]
pub(super) struct Counted {
    used: Used,
    bytes: u64,
}

impl Counted {
    pub(super) fn new(used: &Used, bytes: u64) -> Self {
        used.more(bytes);
        Self { used: used.clone(), bytes }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.used.more(bytes);
        self.bytes += bytes;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.used.less(self.bytes);
    }
}
