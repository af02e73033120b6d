//! How often a version was queued again because its revision had changed (decision D2).

use std::collections::{BTreeMap, VecDeque};

use crate::id::Site;
use crate::model::ObjectRef;

/// Versions whose requeues are counted; beyond it the one that was first counted the longest ago is forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// Requeues per version and site.
#[derive(Debug, Default)]
pub(super) struct Requeues {
    counts: BTreeMap<(ObjectRef, Site), u32>,
    order: VecDeque<(ObjectRef, Site)>,
}

impl Requeues {
    /// Counts one more, and says how many there were with it.
    pub(super) fn count(&mut self, version: (ObjectRef, Site)) -> u32 {
        if let Some(count) = self.counts.get_mut(&version) {
            *count += 1;
            return *count;
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.order.push_back(version.clone());
        self.counts.insert(version, 1);
        1
    }

    /// An outcome was recorded: the next change begins to count anew.
    pub(super) fn forget(&mut self, version: &(ObjectRef, Site)) {
        if self.counts.remove(version).is_some() {
            self.order.retain(|other| other != version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VersionRef;

    fn version(number: usize) -> (ObjectRef, Site) {
        (ObjectRef::new("b", format!("k{number}").as_str(), VersionRef::Unversioned), "paris".into())
    }

    #[test]
    fn a_recorded_outcome_starts_the_count_anew() {
        let mut requeues = Requeues::default();
        assert_eq!((requeues.count(version(1)), requeues.count(version(1))), (1, 2));
        requeues.forget(&version(1));
        assert_eq!(requeues.count(version(1)), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut requeues = Requeues::default();
        for number in 0..REMEMBERED_MAX + 5 {
            requeues.count(version(number));
        }
        assert_eq!((requeues.counts.len(), requeues.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert_eq!(requeues.count(version(0)), 1);
        assert_eq!(requeues.count(version(REMEMBERED_MAX + 4)), 2);
    }
}
