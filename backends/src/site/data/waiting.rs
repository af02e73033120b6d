//! Small data whose metadata has not come yet: it waits in memory, and becomes durable in the commit that mentions it. Until
//! then it is nobody's, and is lost with the process: who wrote it is told when it sends the metadata, and sends it again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::used::Counted;

/// Bytes that wait at most, [`COST`] for every piece included. Of what was abandoned there may be so much, too.
const BYTES_MAX: usize = 8 << 20;
/// Bytes that a piece takes besides its own.
const COST: usize = 256;

/// The small data of a site that waits for metadata.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<Pieces>>);

#[derive(Debug, Default)]
struct Pieces {
    /// By key: keys begin with the time that they were made.
    pieces: BTreeMap<String, (Bytes, Counted)>,
    bytes: usize,
}

impl Waiting {
    fn pieces(&self) -> MutexGuard<'_, Pieces> {
        // Nothing that holds it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a piece in. Answers which of them, the oldest, have to become durable now because too many wait; they go on
    /// waiting until they are.
    pub(super) fn add(&self, key: String, bytes: Bytes, counted: Counted) -> Vec<String> {
        let mut waiting = self.pieces();
        waiting.bytes += bytes.len() + COST;
        waiting.pieces.insert(key, (bytes, counted));
        let mut too_many = waiting.bytes;
        if too_many <= BYTES_MAX {
            return Vec::new();
        }
        let due = waiting.pieces.iter().take_while(|(_, (bytes, _))| {
            let goes = too_many > BYTES_MAX / 2;
            too_many = too_many.saturating_sub(bytes.len() + COST);
            goes
        });
        due.map(|(key, _)| key.clone()).collect()
    }

    /// The bytes of a piece that waits.
    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        self.pieces().pieces.get(key).map(|(bytes, _)| bytes.clone())
    }

    /// Lets a piece go; nothing if it does not wait.
    pub(super) fn take(&self, key: &str) -> Option<Counted> {
        let mut waiting = self.pieces();
        let (bytes, counted) = waiting.pieces.remove(key)?;
        waiting.bytes -= bytes.len() + COST;
        Some(counted)
    }

    /// How many pieces wait.
    pub(super) fn count(&self) -> usize {
        self.pieces().pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::used::Used;
    use super::*;

    #[test]
    fn the_oldest_have_to_go_when_too_many_wait() {
        let (waiting, used) = (Waiting::default(), Used::default());
        let size = 1 << 20;
        let add = |number: usize| {
            waiting.add(format!("{number:02}"), Bytes::from(vec![0; size]), Counted::new(&used, size as u64))
        };
        for number in 0..7 {
            assert!(add(number).is_empty());
        }
        assert_eq!(add(7), ["00", "01", "02", "03", "04"]);
        assert_eq!((waiting.count(), used.bytes()), (8, 8 * size as u64), "they wait until they are durable");
        for number in 0..5 {
            waiting.take(&format!("{number:02}")).expect("it waits").keep();
        }
        assert!(waiting.take("00").is_none());
        assert_eq!((waiting.count(), waiting.get("05").unwrap().len()), (3, size));
        assert!(add(8).is_empty());
        assert_eq!(used.bytes(), 9 * size as u64);
        drop(waiting.take("05"));
        assert_eq!(used.bytes(), 8 * size as u64, "what is let go before it is durable does not count");
    }
}
