//! The parked entries of one partition, as far as they are held in memory: a view of the exceptions topic (decision D6).

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::exception::{ExceptionRecord, ExceptionState};
use crate::model::ObjectRef;

/// Records whose keys are remembered so that their resolution is written down; beyond it every resolution is.
const KNOWN_MAX: usize = 65_536;

/// The parked entries of one partition, all of one site: a record is named by its object.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Records that are tried again by themselves.
    waiting: BTreeMap<ObjectRef, ExceptionRecord>,
    /// Hashes of the objects of all live records.
    known: BTreeSet<u64>,
    known_overflowed: bool,
}

impl Parked {
    /// Takes a record in, as written or as loaded. Returns whether it is new.
    pub(super) fn insert(&mut self, record: ExceptionRecord) -> bool {
        let object = &record.object;
        if record.state == ExceptionState::Resolved {
            self.waiting.remove(object);
            self.known.remove(&hash(object));
            return false;
        }
        if self.known.len() < KNOWN_MAX {
            self.known.insert(hash(object));
        } else {
            self.known_overflowed = true;
        }
        if record.next.is_some() {
            self.waiting.insert(object.clone(), record).is_none()
        } else {
            self.waiting.remove(object);
            false
        }
    }

    /// Whether no live record can exist.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && !self.known_overflowed
    }

    /// Whether a live record of this object may exist.
    pub(super) fn may_know(&self, object: &ObjectRef) -> bool {
        self.known_overflowed || self.knows(object)
    }

    /// Whether a live record of this object was seen.
    pub(super) fn knows(&self, object: &ObjectRef) -> bool {
        self.known.contains(&hash(object))
    }

    /// The record of this object, if it is tried again by itself.
    pub(super) fn waiting(&self, object: &ObjectRef) -> Option<&ExceptionRecord> {
        self.waiting.get(object)
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

fn hash(object: &ObjectRef) -> u64 {
    let texts = [object.bucket.as_str(), object.key.as_str(), object.version.raw().unwrap_or("")];
    texts.into_iter().fold(0, |seed, text| xxh3_64_with_seed(text.as_bytes(), seed))
}
