//! What is under way, by the id of the effect that started it.

use std::collections::VecDeque;

use crate::id::EffectId;

/// A map from effect ids that is made for how they are used: ids only grow, few are under way at a time, and mostly the
/// oldest end first.
#[derive(Clone, Debug)]
pub struct InFlight<T> {
    entries: VecDeque<(EffectId, T)>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> InFlight<T> {
    /// Nothing is under way.
    pub const fn new() -> Self {
        Self { entries: VecDeque::new() }
    }

    /// Notes that `id` is under way.
    ///
    /// Panics if it was before: an id is used once.
    pub fn insert(&mut self, id: EffectId, entry: T) {
        if self.entries.back().is_none_or(|(last, _)| *last < id) {
            return self.entries.push_back((id, entry));
        }
        let place = self.place(id).expect_err("an effect id is used once");
        self.entries.insert(place, (id, entry));
    }

    /// Takes out what `id` started, if it is under way.
    #[inline]
    pub fn remove(&mut self, id: EffectId) -> Option<T> {
        // Mostly nothing of the kind is under way, or the oldest ends.
        let (first, _) = self.entries.front()?;
        if *first == id { self.entries.pop_front().map(|(_, entry)| entry) } else { self.remove_younger(id) }
    }

    #[inline(never)]
    fn remove_younger(&mut self, id: EffectId) -> Option<T> {
        let place = self.place(id).ok()?;
        self.entries.remove(place).map(|(_, entry)| entry)
    }

    /// What `id` started.
    pub fn get(&self, id: EffectId) -> Option<&T> {
        Some(&self.entries[self.place(id).ok()?].1)
    }

    /// What `id` started.
    pub fn get_mut(&mut self, id: EffectId) -> Option<&mut T> {
        let place = self.place(id).ok()?;
        Some(&mut self.entries[place].1)
    }

    /// Keeps what `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(EffectId, &T) -> bool) {
        self.entries.retain(|(id, entry)| keep(*id, entry));
    }

    /// Everything under way, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (EffectId, &T)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// How much is under way.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    fn place(&self, id: EffectId) -> Result<usize, usize> {
        // The oldest is the likeliest to end.
        match self.entries.front() {
            Some((first, _)) if *first == id => Ok(0),
            _ => self.entries.binary_search_by_key(&id, |(id, _)| *id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), 0_u64..40), 0..200)) {
            let mut map = BTreeMap::new();
            let mut in_flight = InFlight::new();
            for (number, (insert, id)) in steps.into_iter().enumerate() {
                let id = EffectId(id);
                if insert && !map.contains_key(&id) {
                    map.insert(id, number);
                    in_flight.insert(id, number);
                } else if insert {
                    prop_assert_eq!(in_flight.get(id), map.get(&id));
                    prop_assert_eq!(in_flight.get_mut(id), map.get_mut(&id));
                } else {
                    prop_assert_eq!(in_flight.remove(id), map.remove(&id));
                }
                prop_assert_eq!(in_flight.len(), map.len());
            }
            in_flight.retain(|_, number| number % 2 == 0);
            map.retain(|_, number| *number % 2 == 0);
            prop_assert_eq!(in_flight.is_empty(), map.is_empty());
            let left: Vec<_> = in_flight.iter().map(|(id, number)| (id, *number)).collect();
            prop_assert_eq!(left, map.into_iter().collect::<Vec<_>>());
        }
    }
}
