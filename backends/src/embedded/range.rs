//! Ranges of keys.

use std::ops::{Bound, RangeBounds};

/// A range of keys in byte order.
#[derive(Clone, Debug)]
pub struct KeyRange {
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bound::Included(prefix.to_vec()), end: prefix_end(prefix) }
    }

    /// `key` and everything after it.
    pub fn from(key: &[u8]) -> Self {
        Self { start: Bound::Included(key.to_vec()), end: Bound::Unbounded }
    }

    /// Keys from `start` (included) to `end` (not included).
    pub fn between(start: &[u8], end: &[u8]) -> Self {
        Self { start: Bound::Included(start.to_vec()), end: Bound::Excluded(end.to_vec()) }
    }

    /// Keys that start with `prefix` and are greater than `key`.
    pub fn prefix_after(prefix: &[u8], key: &[u8]) -> Self {
        if key < prefix {
            return Self::prefix(prefix);
        }
        Self { start: Bound::Excluded(key.to_vec()), end: prefix_end(prefix) }
    }

    /// Keys that start with `prefix` and are not less than `key`.
    pub fn prefix_from(prefix: &[u8], key: &[u8]) -> Self {
        if key < prefix {
            return Self::prefix(prefix);
        }
        Self { start: Bound::Included(key.to_vec()), end: prefix_end(prefix) }
    }

    pub(super) fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Excluded(end) | Bound::Included(end),
            ) => start >= end,
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        RangeBounds::<[u8]>::contains(&self.bounds(), key)
    }

    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(Vec::as_slice), self.end.as_ref().map(Vec::as_slice))
    }
}

/// The first key after all that start with `prefix`.
fn prefix_end(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}
