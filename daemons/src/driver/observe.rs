//! What operators see of the machines: metrics and counts taken from the events and effects that pass by, so that the
//! machines themselves stay silent.

use std::collections::BTreeMap;

use backbeat_core::QueueEvent;
use backbeat_core::call::Ending;
use backbeat_core::id::{EffectId, Site};
use backbeat_core::model::{ContentFlag, ObjectEntry, SiteStatus};
use backbeat_core::request::minting::MintingReply;
use backbeat_core::request::{Side, SiteReply, SiteRequest};
use backbeat_core::time::{Instant, Now};
use backbeat_core::{processor, status};

use super::counters::Counters;
use crate::metrics::names::{self, ORIGIN};
use crate::metrics::{Family, Registry};

const SERVICE: (&str, &str) = ("serviceName", "ReplicationQueueProcessor");

/// Seconds since the epoch.
fn seconds(now: Now) -> f64 {
    now.wall.as_millis() as f64 / 1_000.0
}

#[derive(Debug)]
enum Awaited {
    Moved { since: Instant, bytes: u64 },
    Written { since: Instant, bytes: u64 },
    Status { outcome: &'static str, has_data: bool },
}

/// Watches a site processor.
#[derive(Debug)]
pub struct ProcessorObserver {
    site: Site,
    topic: String,
    group: String,
    metrics: Registry,
    awaited: BTreeMap<EffectId, Awaited>,
}

impl ProcessorObserver {
    /// An observer of the processor of `site`, which consumes `topic` in `group`.
    pub fn new(site: Site, topic: impl Into<String>, group: impl Into<String>, metrics: Registry) -> Self {
        Self { site, topic: topic.into(), group: group.into(), metrics, awaited: BTreeMap::new() }
    }

    fn called(&mut self, now: Now, id: EffectId, request: &SiteRequest) {
        let since = now.mono;
        if let SiteRequest::MovePart(part) = request {
            self.awaited.insert(id, Awaited::Moved { since, bytes: part.size });
        } else if let SiteRequest::WriteMetadata { side: Side::Target, md, .. } = request {
            let bytes = md.json_len() as u64;
            self.awaited.insert(id, Awaited::Written { since, bytes });
        } else if let SiteRequest::Minting(request) = request
            && let Some(put) = request.transfer()
        {
            self.awaited.insert(id, Awaited::Moved { since, bytes: put.size });
        }
    }

    pub(super) fn effect(&mut self, now: Now, effect: &processor::Effect) {
        match effect {
            processor::Effect::Call { id, request } => self.called(now, *id, request),
            processor::Effect::PublishStatus { id, entry } => {
                let has_data = entry.replication().has(&ContentFlag::Data);
                let outcome = outcome_of(entry, &self.site);
                tracing::debug!(object = %place(entry), outcome, "copy ended");
                self.awaited.insert(*id, Awaited::Status { outcome, has_data });
            }
            processor::Effect::PutException { record, .. } if !record.reason.is_empty() => {
                tracing::warn!(
                    bucket = %record.object.bucket,
                    key = %record.object.key,
                    version = %record.object.version,
                    reason = record.reason,
                    attempts = record.attempts,
                    "copy parked"
                );
            }
            processor::Effect::PutException { .. }
            | processor::Effect::LoadExceptions { .. }
            | processor::Effect::Queue(_) => {}
        }
    }

    pub(super) fn event(&mut self, now: Now, event: &processor::Event) {
        match event {
            processor::Event::Queue(QueueEvent::Message { from, .. }) => {
                let partition = from.partition.0.to_string();
                let labels = [("topic", &*self.topic), ("partition", &*partition), ("group", &*self.group)];
                self.metrics.set(&names::CONSUME_EVENT_AT, &labels, seconds(now));
            }
            processor::Event::Replied { id, reply } => self.replied(now, *id, reply),
            processor::Event::Published { id, ending } => {
                if let Some(Awaited::Status { outcome, has_data }) = self.awaited.remove(id)
                    && matches!(ending, Ending::Applied(()))
                {
                    let labels = [ORIGIN, ("location", self.site.as_str()), ("replicationStatus", outcome)];
                    let family = if has_data { &names::DATA_STATUS } else { &names::METADATA_STATUS };
                    self.metrics.add(family, &labels, 1);
                }
            }
            processor::Event::Queue(QueueEvent::Revoked { .. }) => self.rebalanced("drained"),
            processor::Event::Queue(QueueEvent::Lost { .. }) => self.rebalanced("timeout"),
            processor::Event::Queue(QueueEvent::Assigned { .. } | QueueEvent::Committed { .. })
            | processor::Event::ExceptionsLoaded { .. }
            | processor::Event::Control(_)
            | processor::Event::Timer => {}
        }
    }

    fn rebalanced(&self, status: &str) {
        let labels = [("topic", &*self.topic), ("group", &*self.group), ("status", status)];
        self.metrics.add(&names::REBALANCES, &labels, 1);
    }

    fn replied(&mut self, now: Now, id: EffectId, reply: &SiteReply) {
        let location = ("location", self.site.as_str());
        let count = |family: &'static Family, by| self.metrics.add(family, &[ORIGIN, SERVICE, location], by);
        let stage = |name, since| {
            let elapsed = now.mono.since(since).as_micros() as f64 / 1_000.0;
            let labels = [ORIGIN, SERVICE, location, ("replicationStage", name)];
            self.metrics.observe(&names::STAGE_TIME, &labels, elapsed);
        };
        match (self.awaited.remove(&id), reply) {
            (
                Some(Awaited::Moved { since, bytes }),
                SiteReply::Moved { ending: Ending::Applied(_), .. }
                | SiteReply::Minting(MintingReply::Put { ending: Ending::Applied(_), .. }),
            ) => {
                count(&names::DATA_READ, 1);
                count(&names::SOURCE_DATA_BYTES, bytes);
                count(&names::DATA_BYTES, bytes);
                self.written("data");
                stage("ReplicationDestinationDataWrite", since);
            }
            (Some(Awaited::Written { since, bytes }), SiteReply::Written(Ending::Applied(()))) => {
                count(&names::METADATA_BYTES, bytes);
                self.written("metadata");
                stage("ReplicationDestinationMetadataWrite", since);
            }
            _ => {}
        }
    }

    fn written(&self, content: &str) {
        let location = ("location", self.site.as_str());
        self.metrics.add(
            &names::DATA_WRITE,
            &[ORIGIN, SERVICE, location, ("replicationContent", content)],
            1,
        );
    }
}

fn outcome_of(entry: &ObjectEntry, site: &Site) -> &'static str {
    match entry.replication().site_status(site) {
        Some(SiteStatus::Completed) => "COMPLETED",
        Some(SiteStatus::Failed) => "FAILED",
        Some(SiteStatus::Pending) => "PENDING",
        Some(SiteStatus::Replica | SiteStatus::Other(_)) | None => "UNKNOWN",
    }
}

fn place(entry: &ObjectEntry) -> String {
    format!("{}/{}?versionId={}", entry.bucket(), entry.object_key(), entry.object_ref().version)
}

/// Watches the status processor, and counts for the sites.
#[derive(Debug)]
pub struct StatusObserver {
    metrics: Registry,
    counters: Counters,
    writes: BTreeMap<EffectId, (Instant, String)>,
}

impl StatusObserver {
    /// An observer that counts into `metrics` and `counters`.
    pub fn new(metrics: Registry, counters: Counters) -> Self {
        Self { metrics, counters, writes: BTreeMap::new() }
    }

    pub(super) fn effect(&mut self, now: Now, effect: &status::Effect) {
        match effect {
            status::Effect::Call { id, request } => {
                if let SiteRequest::WriteMetadata { md, .. } = &**request {
                    let status = md.replication().status().as_str().to_owned();
                    self.writes.insert(*id, (now.mono, status));
                }
            }
            status::Effect::Count(metric) => self.counters.count((**metric).clone()),
            status::Effect::Publish { outgoing: status::Outgoing::Replay { topic, entry }, .. } => {
                tracing::info!(object = %place(entry), %topic, "queued for another attempt");
                let count = entry.replay_count.unwrap_or_default().to_string();
                let labels =
                    [ORIGIN, ("location", entry.replication().storage_class()), ("replayCount", &count)];
                self.metrics.add(&names::REPLAYS_QUEUED, &labels, 1);
            }
            status::Effect::Publish { outgoing: status::Outgoing::Requeue { entry }, .. } => {
                tracing::info!(object = %place(entry), "changed while it was copied, queued again");
            }
            status::Effect::Publish { .. }
            | status::Effect::PutException { .. }
            | status::Effect::Queue(_) => {}
        }
    }

    pub(super) fn event(&mut self, now: Now, event: &status::Event) {
        let status::Event::Replied { id, reply } = event else { return };
        let Some((since, status)) = self.writes.remove(id) else { return };
        let written = matches!(reply, SiteReply::Written(Ending::Applied(())));
        let result = if written { "success" } else { "error" };
        let elapsed = now.mono.since(since).as_micros() as f64 / 1_000_000.0;
        let labels = [ORIGIN, ("result", result), ("replicationStatus", &*status)];
        self.metrics.observe(&names::STATUS_DURATION, &labels, elapsed);
        if written {
            self.metrics.add(&names::STATUS_CHANGED, &[ORIGIN, ("replicationStatus", &*status)], 1);
        }
    }
}
