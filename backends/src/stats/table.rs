//! What a stats store holds, as plain state: keys with one kind of thing each, and their expiry.

use std::collections::{BTreeMap, BTreeSet};

use backbeat_core::call::{Refusal, RefusalKind};
use backbeat_core::time::{Span, WallTime};
use bytes::Bytes;

use super::{ScoreRange, Scored};

/// A sorted set: by member, and by score.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SortedSet {
    scores: BTreeMap<String, i64>,
    order: BTreeSet<(i64, String)>,
}

impl SortedSet {
    pub(crate) fn insert(&mut self, entry: Scored) {
        if let Some(before) = self.scores.insert(entry.member.clone(), entry.score) {
            self.order.remove(&(before, entry.member.clone()));
        }
        self.order.insert((entry.score, entry.member));
    }

    fn remove(&mut self, member: &str) -> bool {
        let Some(score) = self.scores.remove(member) else { return false };
        self.order.remove(&(score, member.to_owned()));
        true
    }

    pub(crate) fn score(&self, member: &str) -> Option<i64> {
        self.scores.get(member).copied()
    }

    pub(crate) fn range(&self, range: ScoreRange) -> Vec<Scored> {
        let within = self
            .order
            .range((range.score_min, String::new())..)
            .take_while(|(score, _)| *score <= range.score_max)
            .map(|(score, member)| Scored { member: member.clone(), score: *score });
        if range.descending {
            let mut all: Vec<Scored> = within.collect();
            all.reverse();
            all.into_iter().skip(range.skip).take(range.limit).collect()
        } else {
            within.skip(range.skip).take(range.limit).collect()
        }
    }
}

/// What is at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Counter(i64),
    Value(Bytes),
    Set(SortedSet),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) thing: Thing,
    pub(crate) expires: Option<WallTime>,
}

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct StatsTable {
    entries: BTreeMap<String, Entry>,
    /// When what expires, so that what nobody asks for again goes too.
    expiries: BTreeSet<(WallTime, String)>,
}

fn wrong_kind() -> Refusal {
    Refusal::new(RefusalKind::Conflict, "WRONGTYPE")
}

fn expiry(now: WallTime, life: Span) -> WallTime {
    let millis = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
    WallTime::from_millis(now.as_millis().saturating_add(millis))
}

impl StatsTable {
    /// Removes what has expired, and names it.
    pub(crate) fn sweep(&mut self, now: WallTime) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some((expires, _)) = self.expiries.first()
            && *expires <= now
        {
            let (_, key) = self.expiries.pop_first().expect("there is a first one");
            self.entries.remove(&key);
            gone.push(key);
        }
        gone
    }

    /// What is at a key.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Puts back an entry as it was.
    pub(crate) fn restore(&mut self, key: String, entry: Entry) {
        self.forget_expiry(&key);
        if let Some(expires) = entry.expires {
            self.expiries.insert((expires, key.clone()));
        }
        self.entries.insert(key, entry);
    }

    /// Puts back a member of a set; nothing if there is no set at the key.
    pub(crate) fn restore_member(&mut self, key: &str, entry: Scored) -> Option<()> {
        match &mut self.entries.get_mut(key)?.thing {
            Thing::Set(set) => {
                set.insert(entry);
                Some(())
            }
            Thing::Counter(_) | Thing::Value(_) => None,
        }
    }

    pub(crate) fn add(
        &mut self,
        key: &str,
        delta: i64,
        life: Option<Span>,
        now: WallTime,
    ) -> Result<i64, Refusal> {
        let entry = self.entries.get(key);
        let sum = match entry.map(|entry| &entry.thing) {
            None => delta,
            Some(Thing::Counter(count)) => count.saturating_add(delta),
            Some(Thing::Value(_) | Thing::Set(_)) => return Err(wrong_kind()),
        };
        let expires = life.map_or(entry.and_then(|entry| entry.expires), |life| Some(expiry(now, life)));
        self.restore(key.to_owned(), Entry { thing: Thing::Counter(sum), expires });
        Ok(sum)
    }

    pub(crate) fn value(&self, key: &str) -> Result<Option<Bytes>, Refusal> {
        match self.entry(key).map(|entry| &entry.thing) {
            None => Ok(None),
            Some(Thing::Counter(count)) => Ok(Some(Bytes::from(count.to_string()))),
            Some(Thing::Value(value)) => Ok(Some(value.clone())),
            Some(Thing::Set(_)) => Err(wrong_kind()),
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: Bytes, life: Option<Span>, now: WallTime) {
        let expires = life.map(|life| expiry(now, life));
        self.restore(key.to_owned(), Entry { thing: Thing::Value(value), expires });
    }

    pub(crate) fn delete(&mut self, key: &str) -> bool {
        self.forget_expiry(key);
        self.entries.remove(key).is_some()
    }

    pub(crate) fn sorted_add(
        &mut self,
        key: &str,
        scored: Scored,
        life: Option<Span>,
        now: WallTime,
    ) -> Result<(), Refusal> {
        match self.entries.get_mut(key).map(|entry| &mut entry.thing) {
            Some(Thing::Set(set)) => set.insert(scored),
            Some(Thing::Counter(_) | Thing::Value(_)) => return Err(wrong_kind()),
            None => {
                let mut set = SortedSet::default();
                set.insert(scored);
                let expires = life.map(|life| expiry(now, life));
                self.restore(key.to_owned(), Entry { thing: Thing::Set(set), expires });
            }
        }
        Ok(())
    }

    pub(crate) fn sorted_range(&self, key: &str, range: ScoreRange) -> Result<Vec<Scored>, Refusal> {
        Ok(self.sorted(key)?.map(|set| set.range(range)).unwrap_or_default())
    }

    pub(crate) fn sorted_score(&self, key: &str, member: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.sorted(key)?.and_then(|set| set.score(member)))
    }

    pub(crate) fn sorted_count(&self, key: &str) -> Result<u64, Refusal> {
        Ok(self.sorted(key)?.map_or(0, |set| set.scores.len() as u64))
    }

    pub(crate) fn sorted_remove(&mut self, key: &str, member: &str) -> Result<bool, Refusal> {
        let (removed, emptied) = match self.entries.get_mut(key).map(|entry| &mut entry.thing) {
            None => (false, false),
            Some(Thing::Set(set)) => (set.remove(member), set.scores.is_empty()),
            Some(Thing::Counter(_) | Thing::Value(_)) => return Err(wrong_kind()),
        };
        if emptied {
            self.delete(key);
        }
        Ok(removed)
    }

    fn sorted(&self, key: &str) -> Result<Option<&SortedSet>, Refusal> {
        match self.entry(key).map(|entry| &entry.thing) {
            None => Ok(None),
            Some(Thing::Set(set)) => Ok(Some(set)),
            Some(Thing::Counter(_) | Thing::Value(_)) => Err(wrong_kind()),
        }
    }

    fn forget_expiry(&mut self, key: &str) {
        if let Some(expires) = self.entries.get(key).and_then(|entry| entry.expires) {
            self.expiries.remove(&(expires, key.to_owned()));
        }
    }
}
