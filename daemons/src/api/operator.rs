//! What operators can ask and do, whatever the way: the HTTP API, the web page and the command line all come here.

use std::collections::BTreeMap;
use std::sync::Arc;

use backbeat_backends::clock::WallClock;
use backbeat_backends::coordination::Coordination;
use backbeat_backends::http::SignedClient;
use backbeat_backends::queue::{Group, Queue, Slot};
use backbeat_backends::stats::Stats;
use backbeat_core::call::Ending;
use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::{Partition, Site, Topic};
use backbeat_core::model::VersionRef;
use backbeat_core::time::WallTime;

use super::report::{self, Parked, SiteStatus};
use crate::directory::Backups;
use crate::driver::Topics;
use crate::driver::counters::{self, Counters, INTERVAL_MS};
use crate::driver::exceptions::state_name;
use crate::driver::populator::PopulatorHandle;
use crate::driver::processor::{ProcessorHandle, load_exceptions};
use crate::driver::status::StatusHandle;
use crate::driver::{Publisher, Sites};
use crate::metrics::Registry;
use crate::timestamp;

/// Intervals of five minutes in a day.
const INTERVALS: i64 = 288;

/// The processor of one site.
pub struct SiteDaemon {
    /// The site.
    pub site: Site,
    /// Its consumer group.
    pub group: Group,
    /// The way to it.
    pub handle: ProcessorHandle,
}

/// The daemons of this process.
pub struct Daemons {
    /// The processors.
    pub sites: Vec<SiteDaemon>,
    /// The status processor.
    pub status: StatusHandle,
    /// Its consumer group.
    pub status_group: Group,
    /// The populator.
    pub populator: PopulatorHandle,
}

/// Answers operators and does what they say.
pub struct Operator<Q: Queue, S, C, O> {
    /// The queue.
    pub queue: Arc<Q>,
    /// Publishes retries.
    pub publisher: Publisher<Q>,
    /// The counters.
    pub stats: Arc<S>,
    /// Keeps who is paused.
    pub coordination: Arc<C>,
    /// The source.
    pub source: Arc<O>,
    /// Finds the current version of an object at the source.
    pub current: Arc<SignedClient>,
    /// The machines.
    pub daemons: Daemons,
    /// The topics.
    pub topics: Topics,
    /// Partitions of every topic.
    pub partitions: u32,
    /// What time it is.
    pub clock: WallClock,
    /// Counts for the sites.
    pub counters: Counters,
    /// The metrics of the process.
    pub metrics: Registry,
    /// Copies of the data directory.
    pub backups: Backups,
}

/// Why an operator gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// There is no such site, or no such version.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A part that is needed did not answer.
    #[error("{0}")]
    Unavailable(String),
}

/// What `part` said, or that it said nothing.
pub(super) fn answered<T>(ending: Ending<T>, part: &str) -> Result<T, OperatorError> {
    match ending {
        Ending::Applied(value) => Ok(value),
        Ending::Refused(refusal) => {
            Err(OperatorError::Unavailable(format!("{part} answered {}", refusal.code)))
        }
        Ending::Unknown => Err(OperatorError::Unavailable(format!("{part} did not answer"))),
    }
}

impl<Q: Queue, S: Stats, C: Coordination, O: Sites> Operator<Q, S, C, O> {
    /// The names of all sites.
    pub fn site_names(&self) -> impl Iterator<Item = &Site> {
        self.daemons.sites.iter().map(|daemon| &daemon.site)
    }

    /// The daemon of `site`.
    pub(super) fn daemon(&self, site: &str) -> Result<&SiteDaemon, OperatorError> {
        let found = self.daemons.sites.iter().find(|daemon| daemon.site.as_str() == site);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.site_names().map(Site::as_str).collect();
            OperatorError::NotFound(format!("there is no site {site}; known: {}", known.join(", ")))
        })
    }

    /// How replication is doing.
    pub async fn status(&self) -> Result<report::Status, OperatorError> {
        let summary = self.daemons.populator.summary().await;
        let populator = summary.map_or_else(report::Populator::default, |summary| report::Populator {
            running: true,
            position: summary.position.0,
            saved: summary.saved.0,
            behind: summary.end.0.saturating_sub(summary.position.0),
            in_flight: summary.in_flight as u64,
            queued: summary.queued,
            unreadable: summary.unreadable,
            losses: summary.losses,
        });
        let outcomes_waiting =
            self.backlog(&self.daemons.status_group, std::slice::from_ref(&self.topics.status)).await?;
        let mut parked: BTreeMap<Site, BTreeMap<&str, u64>> = BTreeMap::new();
        for record in self.exceptions().await? {
            if let Some(state) = state_name(record.state) {
                *parked.entry(record.site).or_default().entry(state).or_default() += 1;
            }
        }
        let mut sites = Vec::new();
        for daemon in &self.daemons.sites {
            let parked = parked.remove(&daemon.site).unwrap_or_default();
            sites.push(self.site_status(daemon, &parked).await?);
        }
        Ok(report::Status { populator, outcomes_waiting, sites })
    }

    async fn site_status(
        &self,
        daemon: &SiteDaemon,
        parked: &BTreeMap<&str, u64>,
    ) -> Result<SiteStatus, OperatorError> {
        let seen = daemon.handle.ask(|machine, progress| (machine.summary(), progress.oldest_open())).await;
        let (summary, oldest) = seen.unwrap_or_default();
        let topics: Vec<Topic> =
            [&self.topics.replication].into_iter().chain(&self.topics.replays).cloned().collect();
        let site = daemon.site.as_str();
        let [completed, completed_bytes, failures] =
            self.day(site, ["bb:crr:opsdone", "bb:crr:bytesdone", "bb:crr:opsfail"]).await?;
        let of = |state| parked.get(state).copied().unwrap_or(0);
        Ok(SiteStatus {
            site: site.to_owned(),
            running: seen.is_some(),
            paused: summary.paused,
            reachable: summary.target_reachable,
            pending: self.backlog(&daemon.group, &topics).await?,
            copying: summary.running as u64,
            deferred: of("deferred"),
            held: of("held"),
            failed: of("failed"),
            completed24h: completed,
            completed_bytes24h: completed_bytes,
            failures24h: failures,
            lag_seconds: oldest.map_or(0.0, |oldest| self.age(oldest)),
        })
    }

    /// Seconds since `time`.
    fn age(&self, time: WallTime) -> f64 {
        (self.clock.now().as_millis() - time.as_millis()).max(0) as f64 / 1_000.0
    }

    /// Messages of `topics` that `group` has not committed.
    pub(super) async fn backlog(&self, group: &Group, topics: &[Topic]) -> Result<u64, OperatorError> {
        let mut sum = 0;
        for topic in topics {
            for partition in 0..self.partitions {
                let slot = Slot::new(topic, Partition(partition));
                let positions = answered(self.queue.positions(group, &slot).await, "the queue")?;
                let from = positions.committed.unwrap_or(positions.begin).max(positions.begin);
                sum += positions.end.0.saturating_sub(from.0);
            }
        }
        Ok(sum)
    }

    /// The sums of 24 hours of these counters of `site`.
    pub(super) async fn day<const N: usize>(
        &self,
        site: &str,
        bases: [&str; N],
    ) -> Result<[u64; N], OperatorError> {
        let mut sums = [0; N];
        for (sum, base) in sums.iter_mut().zip(bases) {
            let values = self.intervals(site, base, INTERVALS).await?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }

    /// The newest `count` intervals of a counter, newest first.
    pub(super) async fn intervals(
        &self,
        site: &str,
        base: &str,
        count: i64,
    ) -> Result<Vec<u64>, OperatorError> {
        let now = self.clock.now().as_millis();
        let at = |back| WallTime::from_millis(now - back * INTERVAL_MS);
        let keys: Vec<String> = (0..count).map(|back| counters::interval_key(site, base, at(back))).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let values = answered(self.stats.values(&keys).await, "the counters")?;
        let number = |value: &Option<bytes::Bytes>| {
            let text = std::str::from_utf8(value.as_deref()?).ok()?;
            text.parse::<i64>().ok().and_then(|number| u64::try_from(number).ok())
        };
        Ok(values.iter().map(|value| number(value).unwrap_or(0)).collect())
    }

    /// All live exception records.
    pub(super) async fn exceptions(&self) -> Result<Vec<ExceptionRecord>, OperatorError> {
        let mut records = Vec::new();
        for partition in 0..self.partitions {
            let loaded =
                load_exceptions(&*self.queue, &self.topics.exceptions, Partition(partition), None).await;
            records.extend(answered(loaded, "the exceptions topic")?);
        }
        Ok(records)
    }

    /// The parked versions, oldest trouble first: those that wait for an explicit retry, or all of them.
    pub async fn parked(&self, site: Option<&str>, all: bool) -> Result<Vec<Parked>, OperatorError> {
        if let Some(site) = site {
            self.daemon(site)?;
        }
        let mut records = self.exceptions().await?;
        records.retain(|record| site.is_none_or(|site| record.site.as_str() == site));
        records.retain(|record| all || record.state == ExceptionState::Failed);
        records.sort_by_key(|record| record.first);
        Ok(records.iter().filter_map(parked).collect())
    }
}

/// A record as it is told.
pub(super) fn parked(record: &ExceptionRecord) -> Option<Parked> {
    Some(Parked {
        site: record.site.as_str().to_owned(),
        bucket: record.object.bucket.as_str().to_owned(),
        key: record.object.key.as_str().to_owned(),
        version_id: record.object.version.query(),
        state: state_name(record.state)?.to_owned(),
        reason: record.reason.clone(),
        attempts: record.attempts,
        first: timestamp::format(record.first),
        last: timestamp::format(record.last),
        next: record.next.map(timestamp::format),
    })
}

/// The version that a `versionId` parameter names.
pub(super) fn version_of(parameter: Option<&str>) -> Result<VersionRef, OperatorError> {
    match parameter {
        None | Some("") => Ok(VersionRef::Unversioned),
        Some("null") => Ok(VersionRef::Null),
        Some(encoded) => {
            backbeat_core::model::VersionId::decode(encoded).map(VersionRef::Version).map_err(|error| {
                OperatorError::Invalid(format!("version id {encoded:?} is not usable: {error}"))
            })
        }
    }
}
