//! The parked entries of one partition, as far as they are held in memory: a view of the exceptions topic (decision D6).

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::exception::{ExceptionRecord, ExceptionState};

/// Records whose keys are remembered so that their resolution is written down; beyond it every resolution is.
const KNOWN_MAX: usize = 65_536;

/// The parked entries of one partition.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Records that are tried again by themselves.
    waiting: BTreeMap<String, ExceptionRecord>,
    /// Hashes of the keys of all live records.
    known: BTreeSet<u64>,
    known_overflowed: bool,
}

impl Parked {
    /// Takes a record in, as written or as loaded. Returns whether it is new.
    pub(super) fn insert(&mut self, record: ExceptionRecord) -> bool {
        let key = record.key();
        if record.state == ExceptionState::Resolved {
            self.waiting.remove(&key);
            self.known.remove(&xxh3_64(key.as_bytes()));
            return false;
        }
        if self.known.len() < KNOWN_MAX {
            self.known.insert(xxh3_64(key.as_bytes()));
        } else {
            self.known_overflowed = true;
        }
        if record.next.is_some() {
            self.waiting.insert(key, record).is_none()
        } else {
            self.waiting.remove(&key);
            false
        }
    }

    /// Whether no live record can exist.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.known_overflowed
    }

    /// Whether a live record with this key may exist.
    pub(super) fn may_know(&self, key: &str) -> bool {
        self.known_overflowed || self.known.contains(&xxh3_64(key.as_bytes()))
    }

    /// Whether a live record with this key was seen.
    pub(super) fn knows(&self, key: &str) -> bool {
        self.known.contains(&xxh3_64(key.as_bytes()))
    }

    /// The record with this key, if it is tried again by itself.
    pub(super) fn waiting(&self, key: &str) -> Option<&ExceptionRecord> {
        self.waiting.get(key)
    }

    /// How many records are tried again by themselves.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The records that are tried again by themselves.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ExceptionRecord> {
        self.waiting.values()
    }
}
