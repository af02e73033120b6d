//! What was seen of versions at a target: markers never change, so that each version is asked about once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use backbeat_core::id::{Bucket, MintedId, ObjectKey};
use backbeat_core::model::VersionRef;

/// Versions of one generation; two generations are kept.
const VERSIONS_MAX: usize = 10_000;

/// What never changes of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The source version that it is a copy of.
    pub(super) marker: Option<VersionRef>,
    /// Whether its entity tag says nothing about its bytes: those of encrypted objects do not.
    pub(super) is_opaque: bool,
}

type Place = (Bucket, ObjectKey, MintedId);

/// Versions seen lately. What is asked for stays; of the others, the older half goes when it is full.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    new: BTreeMap<Place, Seen>,
    old: BTreeMap<Place, Seen>,
}

impl Memory {
    pub(super) fn get(&self, bucket: &Bucket, key: &ObjectKey, id: &MintedId) -> Option<Seen> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (bucket.clone(), key.clone(), id.clone());
        if let Some(seen) = generations.new.get(&place) {
            return Some(seen.clone());
        }
        let seen = generations.old.remove(&place)?;
        generations.put(place, seen.clone());
        Some(seen)
    }

    /// Notes a version. The null version of a key is replaced without a new id, so that nothing of it is noted.
    pub(super) fn put(&self, bucket: &Bucket, key: &ObjectKey, id: &MintedId, seen: Seen) {
        if id.as_str() != "null" {
            let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            generations.put((bucket.clone(), key.clone(), id.clone()), seen);
        }
    }
}

impl Generations {
    fn put(&mut self, place: Place, seen: Seen) {
        if self.new.len() >= VERSIONS_MAX {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(place, seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let memory = Memory::default();
        let (bucket, key) = (Bucket::from("b"), ObjectKey::from("k"));
        let seen = Seen { marker: Some(VersionRef::Null), is_opaque: true };
        let id = |number: usize| MintedId::from(number.to_string());
        for number in 0..=VERSIONS_MAX {
            memory.put(&bucket, &key, &id(number), seen.clone());
        }
        assert_eq!(memory.get(&bucket, &key, &id(0)), Some(seen.clone()));
        for number in VERSIONS_MAX..2 * VERSIONS_MAX {
            memory.put(&bucket, &key, &id(number + 1), seen.clone());
        }
        assert_eq!(memory.get(&bucket, &key, &id(0)), Some(seen.clone()));
        assert_eq!(memory.get(&bucket, &key, &id(1)), None);
        assert_eq!(memory.get(&bucket, &ObjectKey::from("other"), &id(0)), None);
        memory.put(&bucket, &key, &"null".into(), seen);
        assert_eq!(memory.get(&bucket, &key, &"null".into()), None);
    }
}
