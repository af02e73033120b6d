//! Brings back the sorted sets of failures after the stats store was emptied, was replaced by an older copy of itself, or
//! was away: the failures themselves are records of the exceptions topic (decision D6).
//!
//! Cheap while nothing is missing: a mark in the store tells whether it still is what it was. Only if not, and once in a
//! long while all the same, are the records compared with the sets. What an operator took out of a set by an explicit
//! retry stays out until then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backbeat_backends::clock::WallClock;
use backbeat_backends::queue::Queue;
use backbeat_backends::stats::{ScoreRange, Stats};
use backbeat_core::call::Ending;
use backbeat_core::exception::ExceptionState;
use backbeat_core::id::{Partition, Site, Topic};
use backbeat_core::model::FailureRecord;
use backbeat_core::time::WallTime;
use tokio::time::Instant;

use super::failures::{HOUR_MS, HOURS, put};
use crate::driver::processor::load_exceptions;

/// The mark: how often a repair looked, whichever process it was in. A store that lost something lost some of these too, and
/// whoever looks first then sees it. Nobody else uses the key.
const MARK: &str = "bb:crr:failed-sets-checked";

/// How often a repair looks.
#[derive(Clone, Copy, Debug)]
pub struct RepairSchedule {
    /// At the mark.
    pub mark: Duration,
    /// At everything.
    pub everything: Duration,
}

impl Default for RepairSchedule {
    fn default() -> Self {
        Self { mark: Duration::from_secs(15), everything: Duration::from_hours(1) }
    }
}

/// Keeps the sorted sets of failures complete. Several may run at once.
pub struct Repair<Q, S> {
    /// Where the failures are.
    pub queue: Arc<Q>,
    /// The compacted exceptions topic.
    pub exceptions_topic: Topic,
    /// Its partitions.
    pub partitions: u32,
    /// Where the sets are.
    pub stats: Arc<S>,
    /// What time it is.
    pub clock: WallClock,
}

impl<Q: Queue, S: Stats> Repair<Q, S> {
    /// Looks again and again, and adds what is missing. It never ends: run it as a task, and abort that to end it. What it
    /// cannot reach it tries again the next time.
    pub async fn run(self, schedule: RepairSchedule) {
        let mut everything = Instant::now();
        let mut count = None;
        loop {
            // Counted before the sets are looked at: a store that is emptied meanwhile does not know the count the next time.
            let before = count;
            count = self.look_at_mark().await;
            let is_intact = before.is_some() && count > before;
            if count.is_some() && (!is_intact || Instant::now() >= everything) {
                match self.complete().await {
                    Ok(added) => {
                        everything = Instant::now() + schedule.everything;
                        if added > 0 {
                            tracing::warn!(
                                added,
                                "failures were missing in the stats store and are listed again"
                            );
                        }
                    }
                    Err(code) => {
                        tracing::debug!(code, "the sets of failures could not be compared");
                        count = None;
                    }
                }
            }
            tokio::time::sleep(schedule.mark).await;
        }
    }

    /// Counts this look, and says how many there were since the store was made.
    async fn look_at_mark(&self) -> Option<i64> {
        match self.stats.add(MARK, 1, None).await {
            Ending::Applied(count) => Some(count),
            Ending::Refused(_) | Ending::Unknown => None,
        }
    }

    /// Adds every failure of the last day that is in no set, and says how many those were.
    ///
    /// # Errors
    /// What could not be reached, as a code.
    pub async fn complete(&self) -> Result<u64, String> {
        let now = self.clock.now();
        let hours = hours(now);
        let mut listed: BTreeMap<Site, BTreeSet<String>> = BTreeMap::new();
        let mut added = 0;
        for partition in 0..self.partitions {
            let loaded =
                load_exceptions(&*self.queue, &self.exceptions_topic, Partition(partition), None).await;
            for record in applied(loaded)? {
                let failure = FailureRecord::new(&record.object, &record.site, record.last);
                let is_recent = record.last.as_millis() >= hours[hours.len() - 1];
                if record.state != ExceptionState::Failed || !is_recent {
                    continue;
                }
                if !listed.contains_key(&record.site) {
                    let members = self.members(&record.site, &hours).await?;
                    listed.insert(record.site.clone(), members);
                }
                if listed[&record.site].contains(&failure.member) {
                    continue;
                }
                applied(put(&*self.stats, &failure, now).await)?;
                added += 1;
            }
        }
        Ok(added)
    }

    /// What is in the sets of a site.
    async fn members(&self, site: &Site, hours: &[i64]) -> Result<BTreeSet<String>, String> {
        let mut members = BTreeSet::new();
        for hour in hours {
            let key = format!("bb:crr:failed:{site}:{hour}");
            for entry in applied(self.stats.sorted_range(&key, ScoreRange::ALL).await)? {
                // Newer versions of upstream add the role.
                if let Some((member, role)) = entry.member.rsplit_once(':')
                    && role.starts_with("arn%3A")
                {
                    members.insert(member.to_owned());
                }
                members.insert(entry.member);
            }
        }
        Ok(members)
    }
}

/// The hours that are listed, newest first.
fn hours(now: WallTime) -> Vec<i64> {
    let newest = now.as_millis().div_euclid(HOUR_MS) * HOUR_MS;
    (0..HOURS).map(|back| newest - back * HOUR_MS).collect()
}

fn applied<T>(ending: Ending<T>) -> Result<T, String> {
    match ending {
        Ending::Applied(value) => Ok(value),
        Ending::Refused(refusal) => Err(refusal.code.clone()),
        Ending::Unknown => Err("NoAnswer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Publisher, exceptions};
    use crate::metrics::Registry;
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Retention, TopicSpec};
    use backbeat_backends::stats::Scored;
    use backbeat_backends::stats::memory::MemoryStats;
    use backbeat_core::exception::ExceptionRecord;
    use backbeat_core::model::{ObjectRef, VersionRef};

    const NOW: i64 = 1_727_786_100_000;
    const THIS_HOUR: &str = "bb:crr:failed:paris:1727784000000";
    const HOUR_BEFORE: &str = "bb:crr:failed:paris:1727780400000";

    fn repair() -> Repair<MemoryQueue, MemoryStats> {
        let clock = WallClock::tokio(WallTime::from_millis(NOW));
        Repair {
            queue: Arc::new(MemoryQueue::new(clock.clone())),
            exceptions_topic: Topic::from("exceptions"),
            partitions: 4,
            stats: Arc::new(MemoryStats::new(clock.clone())),
            clock,
        }
    }

    async fn park(repair: &Repair<MemoryQueue, MemoryStats>, key: &str, state: ExceptionState, last: i64) {
        let spec = TopicSpec::new("exceptions").kept(Retention::LatestPerKey);
        assert_eq!(repair.queue.create_topic(&spec).await, Ending::Applied(()));
        let record = ExceptionRecord {
            site: "paris".into(),
            object: ObjectRef::new("b", key, VersionRef::Null),
            state,
            reason: "TargetUnavailable".to_owned(),
            attempts: 1,
            first: WallTime::from_millis(last),
            last: WallTime::from_millis(last),
            next: None,
            deposit: None,
        };
        let publisher = Publisher::new(Arc::clone(&repair.queue), Registry::default());
        let message = exceptions::to_message(&record, 4);
        assert_eq!(publisher.publish(&"exceptions".into(), message).await, Ending::Applied(()));
    }

    async fn members(repair: &Repair<MemoryQueue, MemoryStats>, key: &str) -> Vec<String> {
        let Ending::Applied(entries) = repair.stats.sorted_range(key, ScoreRange::ALL).await else {
            panic!("stats in memory answer")
        };
        entries.into_iter().map(|entry| entry.member).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_added_and_nothing_else() {
        let repair = repair();
        park(&repair, "missing", ExceptionState::Failed, NOW - 1_000).await;
        park(&repair, "an hour ago", ExceptionState::Failed, NOW - HOUR_MS).await;
        park(&repair, "listed an hour later", ExceptionState::Failed, NOW - HOUR_MS).await;
        park(&repair, "listed with its role", ExceptionState::Failed, NOW - 1_000).await;
        park(&repair, "held", ExceptionState::Held, NOW - 1_000).await;
        park(&repair, "two days ago", ExceptionState::Failed, NOW - 48 * HOUR_MS).await;
        for member in ["b:listed an hour later:null", "b:listed with its role:null:arn%3Aaws%3Aiam"] {
            let entry = Scored { member: member.to_owned(), score: NOW };
            assert_eq!(repair.stats.sorted_add(THIS_HOUR, entry, None).await, Ending::Applied(()));
        }
        assert_eq!(repair.complete().await, Ok(2));
        assert_eq!(members(&repair, HOUR_BEFORE).await, ["b:an hour ago:null"]);
        assert!(members(&repair, THIS_HOUR).await.contains(&"b:missing:null".to_owned()));
        assert_eq!(repair.complete().await, Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_emptied_store_is_filled_again_and_an_explicit_removal_stays() {
        let repair = repair();
        park(&repair, "one", ExceptionState::Failed, NOW).await;
        park(&repair, "two", ExceptionState::Failed, NOW).await;
        let stats = Arc::clone(&repair.stats);
        let task = tokio::spawn(repair.run(RepairSchedule::default()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(stats.sorted_count(THIS_HOUR).await, Ending::Applied(2));
        assert_eq!(stats.sorted_remove(THIS_HOUR, "b:one:null").await, Ending::Applied(true));
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(stats.sorted_count(THIS_HOUR).await, Ending::Applied(1), "it is being retried");
        for key in [THIS_HOUR, MARK] {
            assert_eq!(stats.delete(key).await, Ending::Applied(true));
        }
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(stats.sorted_count(THIS_HOUR).await, Ending::Applied(2));
        // An older copy of the store: the mark is there, but is not what it was.
        assert_eq!(stats.delete(THIS_HOUR).await, Ending::Applied(true));
        assert_eq!(stats.add(MARK, -2, None).await, Ending::Applied(2));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(stats.sorted_count(THIS_HOUR).await, Ending::Applied(2));
        task.abort();
    }
}
