//! Queueing failed versions again (replication reference 6.6).

use std::collections::{BTreeMap, BTreeSet};

use backbeat_backends::coordination::Coordination;
use backbeat_backends::queue::{Queue, Record};
use backbeat_backends::stats::Stats;
use backbeat_core::exception::{ExceptionRecord, ExceptionState};
use backbeat_core::id::Site;
use backbeat_core::model::{MetricKind, ObjectEntry, ObjectRef, SiteMetric};

use super::operator::{Operator, OperatorError, answered, version_of};
use super::report::{Retried, Retry};
use crate::consumers::unlist;
use crate::driver::{Sites, exceptions};

impl<Q: Queue, S: Stats, C: Coordination, O: Sites> Operator<Q, S, C, O> {
    /// Queues each of these again, and says which were. What has no failure recorded is left out unless it is forced, and so
    /// is what is gone at the source, whose failure is not listed any more.
    pub async fn retry(&self, retries: &[Retry]) -> Result<Vec<Retried>, OperatorError> {
        let records = self.exceptions().await?;
        let recorded: BTreeMap<(&Site, &ObjectRef), &ExceptionRecord> =
            records.iter().map(|record| ((&record.site, &record.object), record)).collect();
        let mut seen = BTreeSet::new();
        let mut queued = Vec::new();
        for retry in retries {
            let version = version_of(retry.version_id.as_deref())?;
            let object = ObjectRef::new(retry.bucket.as_str(), retry.key.as_str(), version);
            let site = self.daemon(&retry.storage_class)?.site.clone();
            let record = recorded.get(&(&site, &object)).copied();
            if (record.is_some() || retry.force_retry) && seen.insert((site.clone(), object.clone())) {
                queued.extend(self.retry_one(&site, &object, record).await?);
            }
        }
        Ok(queued)
    }

    async fn retry_one(
        &self,
        site: &Site,
        object: &ObjectRef,
        record: Option<&ExceptionRecord>,
    ) -> Result<Option<Retried>, OperatorError> {
        let md = match self.metadata(object).await {
            Err(OperatorError::NotFound(_)) => {
                self.strike_off(site, object, record).await?;
                return Ok(None);
            }
            read => read?,
        };
        if !md.replication().names_site(site) {
            return Err(OperatorError::Invalid(format!(
                "{}/{} is not to be replicated to {site}",
                object.bucket, object.key
            )));
        }
        let entry = ObjectEntry::of(object.bucket.clone(), &object.key, md.clone());
        // The status goes first: an outcome of the retry must not meet a status that still says FAILED.
        let (key, message) = entry.to_pending(site).to_kafka(Some(site));
        let published = self.publisher.publish(&self.topics.status, Record::keyed(key, message)).await;
        answered(published, "the status topic")?;
        let (key, message) = entry.to_retry(site).to_kafka(Some(site));
        let published = self.publisher.publish(&self.topics.replication, Record::keyed(key, message)).await;
        answered(published, "the replication topic")?;
        // Those lists are a view for others: one that cannot be reached holds nobody up.
        unlist(&*self.stats, site, object, self.clock.now()).await;
        let bytes = md.content_length();
        self.counters.count(SiteMetric::of_site(MetricKind::PendingOnly, site.clone(), 1, bytes));
        tracing::info!(%site, bucket = %object.bucket, key = %object.key, version = %object.version, "queued again by an operator");
        Ok(Some(Retried {
            bucket: object.bucket.as_str().to_owned(),
            key: object.key.as_str().to_owned(),
            version_id: object.version.query(),
            storage_class: site.as_str().to_owned(),
            size: bytes,
            last_modified: md.last_modified().to_owned(),
            replication_status: "PENDING".to_owned(),
        }))
    }

    /// Nothing can be done any more about a version that is gone at the source. What is not a final failure its owner sees to.
    async fn strike_off(
        &self,
        site: &Site,
        object: &ObjectRef,
        record: Option<&ExceptionRecord>,
    ) -> Result<(), OperatorError> {
        if let Some(record) = record.filter(|record| record.state == ExceptionState::Failed) {
            let resolved = ExceptionRecord { state: ExceptionState::Resolved, ..record.clone() };
            let message = exceptions::to_message(&resolved, self.partitions);
            let published = self.publisher.publish(&self.topics.exceptions, message).await;
            answered(published, "the exceptions topic")?;
        }
        unlist(&*self.stats, site, object, self.clock.now()).await;
        tracing::info!(%site, bucket = %object.bucket, key = %object.key, version = %object.version, "gone at the source, and not listed any more");
        Ok(())
    }
}
