//! Restorations under way: what a status write overwrote is written back (decision D3).
//!
//! A restoration reads the source first: it writes only over what is known to be older. The journal position does not pass the
//! record that showed the loss before the restoration has ended, so whoever owns the journal next finds it again.

use std::collections::BTreeMap;

use crate::id::{EffectId, Seq};
use crate::model::ObjectRef;
use crate::time::Instant;

/// One version that is being restored.
#[derive(Clone, Copy, Debug)]
struct Restoration {
    /// The first record that showed a loss.
    first: Seq,
    /// The last one.
    last: Seq,
    /// Another record showed one meanwhile: the source is read once more at the end.
    again: bool,
    /// When it goes on, if it waits.
    wait_until: Option<Instant>,
}

/// All restorations of a populator.
#[derive(Debug, Default)]
pub(super) struct Restorations {
    by_object: BTreeMap<ObjectRef, Restoration>,
    calls: BTreeMap<EffectId, ObjectRef>,
}

impl Restorations {
    /// A record showed a loss. Says whether a restoration starts that was not under way yet.
    pub(super) fn begin(&mut self, object: &ObjectRef, seq: Seq) -> bool {
        if let Some(known) = self.by_object.get_mut(object) {
            known.again = true;
            known.last = known.last.max(seq);
            return false;
        }
        let restoration = Restoration { first: seq, last: seq, again: false, wait_until: None };
        self.by_object.insert(object.clone(), restoration);
        true
    }

    /// Notes that a request was sent for `object`.
    pub(super) fn sent(&mut self, id: EffectId, object: ObjectRef) {
        self.calls.insert(id, object);
    }

    /// The version that a reply is about, and the last record that showed a loss.
    pub(super) fn replied(&mut self, id: EffectId) -> Option<(ObjectRef, Seq)> {
        let object = self.calls.remove(&id)?;
        let seq = self.by_object.get(&object).map(|known| known.last);
        seq.map(|seq| (object, seq))
    }

    /// Nothing is left to write. Says whether to read the source once more.
    pub(super) fn ended(&mut self, object: &ObjectRef) -> bool {
        match self.by_object.get_mut(object) {
            Some(known) if known.again => {
                known.again = false;
                true
            }
            Some(_) | None => {
                self.by_object.remove(object);
                false
            }
        }
    }

    /// The restoration of `object` goes on at `at`.
    pub(super) fn wait(&mut self, object: &ObjectRef, at: Instant) {
        if let Some(known) = self.by_object.get_mut(object) {
            known.wait_until = Some(at);
        }
    }

    /// A restoration that goes on now.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<ObjectRef> {
        let due = |known: &Restoration| known.wait_until.is_some_and(|at| at <= now);
        let (object, known) = self.by_object.iter_mut().find(|(_, known)| due(known))?;
        known.wait_until = None;
        Some(object.clone())
    }

    /// When the next one goes on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_object.values().filter_map(|known| known.wait_until).min()
    }

    /// The record that the saved position must not pass.
    pub(super) fn first(&self) -> Option<Seq> {
        self.by_object.values().map(|known| known.first).min()
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.by_object.len()
    }
}
