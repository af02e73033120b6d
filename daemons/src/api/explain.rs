//! What becomes of one version, put together from everything that knows of it (decision D13): the source's metadata, the
//! exception record, the lanes of the processors, and the position of its partition.

use std::time::Duration;

use backbeat_backends::coordination::Coordination;
use backbeat_backends::http::Request;
use backbeat_backends::queue::{Queue, Slot};
use backbeat_backends::stats::Stats;
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::exception::ExceptionRecord;
use backbeat_core::model::{ObjectMd, ObjectRef, SiteStatus as Status, VersionRef};
use backbeat_core::processor::Doing;
use backbeat_core::request::{Side, SiteReply, SiteRequest};
use http::{Method, StatusCode};

use super::operator::{Operator, OperatorError, SiteDaemon, answered, parked, version_of};
use super::report::{Explanation, SiteExplanation};
use crate::driver::{Sites, exceptions};

/// How long the source may take to say what the current version is.
const CURRENT_TIME_MAX: Duration = Duration::from_secs(30);

/// Metadata of a version is never larger.
const METADATA_BYTES_MAX: usize = 16 << 20;

impl<Q: Queue, S: Stats, C: Coordination, O: Sites> Operator<Q, S, C, O> {
    /// Explains a version; without `version` the current one.
    pub async fn explain(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Explanation, OperatorError> {
        let (object, md) = if let Some(version) = version {
            let object = ObjectRef::new(bucket, key, version_of(Some(version))?);
            let md = self.metadata(&object).await?;
            (object, md)
        } else {
            let md = self.current(bucket, key).await?;
            (ObjectRef::new(bucket, key, md.version_ref()), md)
        };
        let mut unknown = Vec::new();
        let records = match self.exceptions_of(&object).await {
            Ok(records) => records,
            Err(error) => {
                unknown.push(error.to_string());
                Vec::new()
            }
        };
        let mut sites = Vec::new();
        for backend in md.replication().backends() {
            let record = records.iter().find(|record| record.site == backend.site);
            let doing = match self.daemon(backend.site.as_str()) {
                Ok(daemon) => self.doing(daemon, &object, &backend.status, record, &mut unknown).await,
                Err(_) => "no processor of this process serves the site".to_owned(),
            };
            sites.push(SiteExplanation {
                site: backend.site.as_str().to_owned(),
                status: backend.status.as_str().to_owned(),
                doing,
                record: record.and_then(parked),
            });
        }
        Ok(Explanation {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: object.version.query(),
            status: md.replication().status().as_str().to_owned(),
            sites,
            unknown,
        })
    }

    /// The metadata of a version at the source, or that there is none.
    pub(super) async fn metadata(&self, object: &ObjectRef) -> Result<ObjectMd, OperatorError> {
        let request = SiteRequest::ReadMetadata { side: Side::Source, object: object.clone() };
        let SiteReply::Metadata(ending) = self.source.call(request).await else {
            unreachable!("a read of metadata is answered with metadata");
        };
        let is_gone = |kind| matches!(kind, RefusalKind::NotFound | RefusalKind::BucketNotFound);
        if matches!(&ending, Ending::Refused(refusal) if is_gone(refusal.kind)) {
            return Err(not_found(object));
        }
        answered(ending, "the source")
    }

    /// The metadata of the current version, by the internal route (wire reference 1.5), which gives it where no version is named.
    async fn current(&self, bucket: &str, key: &str) -> Result<ObjectMd, OperatorError> {
        let request = Request::new(Method::GET, format!("/_/backbeat/metadata/{bucket}/{key}"));
        let answer = self.current.fetch(request, CURRENT_TIME_MAX, METADATA_BYTES_MAX).await;
        let answer = answer.map_err(|error| OperatorError::Unavailable(format!("the source: {error}")))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => {
                return Err(not_found(&ObjectRef::new(bucket, key, VersionRef::Unversioned)));
            }
            status => return Err(OperatorError::Unavailable(format!("the source answered {status}"))),
        }
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let text = body.get("Body").and_then(|text| text.as_str()).unwrap_or_default();
        ObjectMd::parse(text)
            .map_err(|error| OperatorError::Unavailable(format!("the source's metadata: {error}")))
    }

    async fn exceptions_of(&self, object: &ObjectRef) -> Result<Vec<ExceptionRecord>, OperatorError> {
        let partition = exceptions::partition_of(object, self.partitions);
        let loaded =
            crate::driver::processor::load_exceptions(&*self.queue, &self.topics.exceptions, partition, None);
        let mut records = answered(loaded.await, "the exceptions topic")?;
        records.retain(|record| record.object == *object);
        Ok(records)
    }

    async fn doing(
        &self,
        daemon: &SiteDaemon,
        object: &ObjectRef,
        status: &Status,
        record: Option<&ExceptionRecord>,
        unknown: &mut Vec<String>,
    ) -> String {
        if *status == Status::Completed {
            return "done: the target has this version".to_owned();
        }
        let (bucket, key) = (object.bucket.clone(), object.key.clone());
        let asked =
            daemon.handle.ask(move |machine, _| (machine.explain(&bucket, &key), machine.summary())).await;
        let Some((known, summary)) = asked else {
            unknown.push(format!("the processor of {} has ended", daemon.site));
            return "unknown".to_owned();
        };
        let paused = if summary.paused { "; the site is paused" } else { "" };
        if let Some(found) = known.iter().find(|found| found.object == *object) {
            return format!("{}{paused}", in_words(&found.doing));
        }
        if let Some(record) = record {
            return format!("parked: {} after {} attempts{paused}", record.reason, record.attempts);
        }
        let ahead = known.len();
        if ahead > 0 {
            return format!("queued behind {ahead} versions of its key{paused}");
        }
        if *status == Status::Failed {
            return "failed: `failed retry` queues it again".to_owned();
        }
        self.queued(daemon, object, unknown).await + paused
    }

    /// Nobody has it: says how much is ahead of it at most.
    async fn queued(&self, daemon: &SiteDaemon, object: &ObjectRef, unknown: &mut Vec<String>) -> String {
        let partition = exceptions::partition_of(object, self.partitions);
        let slot = Slot::new(&self.topics.replication, partition);
        let positions = match answered(self.queue.positions(&daemon.group, &slot).await, "the queue") {
            Ok(positions) => positions,
            Err(error) => {
                unknown.push(error.to_string());
                return "unknown".to_owned();
            }
        };
        let from = positions.committed.unwrap_or(positions.begin).max(positions.begin);
        let ahead = positions.end.0.saturating_sub(from.0);
        let behind = self
            .daemons
            .populator
            .summary()
            .await
            .map(|summary| summary.end.0.saturating_sub(summary.position.0));
        match (ahead, behind) {
            (0, Some(0)) => "its outcome is being written to the source".to_owned(),
            (0, Some(behind)) => format!("in the journal, {behind} records are still to be read"),
            (0, None) => {
                unknown.push("the populator has ended".to_owned());
                "unknown".to_owned()
            }
            (ahead, _) => format!("queued in partition {}, at most {ahead} messages ahead", partition.0),
        }
    }
}

fn not_found(object: &ObjectRef) -> OperatorError {
    OperatorError::NotFound(format!(
        "the source has no {}/{} ({})",
        object.bucket, object.key, object.version
    ))
}

fn in_words(doing: &Doing) -> String {
    match doing {
        Doing::Copying { stage } => format!("being copied ({stage:?})"),
        Doing::Recording => "copied, its outcome is being written down".to_owned(),
        Doing::Waiting { trouble: None, .. } => "waits for its turn".to_owned(),
        Doing::Waiting { trouble: Some((side, reason)), .. } => {
            format!("waits for the next attempt after trouble at the {side:?}: {reason}").to_lowercase()
        }
        Doing::Parked { reason, .. } => format!("parked: {reason}"),
    }
}
