//! The entry that travels through the queues: one version of one object, with what its metadata said when it was written.

use std::borrow::Cow;
use std::sync::Arc;

use crate::id::{Bucket, ObjectKey, Site};

use super::json_text::{RawJson, write_name, write_string};
use super::key::{object_key, queue_key, version_key};
use super::{ObjectMd, ObjectRef, OverallStatus, ReplicationInfo, SiteStatus};

/// The operations that the engine records on the source when it writes a status.
pub mod origin_op {
    /// A site completed.
    pub const COMPLETED: &str = "s3:Replication:OperationCompletedReplication";
    /// A site failed.
    pub const FAILED: &str = "s3:Replication:OperationFailedReplication";
    /// A site was set back to be done again.
    pub const PENDING: &str = "s3:Replication:OperationPendingReplication";
    /// What all operations of the engine start with.
    pub const PREFIX: &str = "s3:Replication:Operation";
    /// A client's revision that a status write had overwritten was written back (decision D3). The number of the last journal
    /// record that showed a loss follows.
    pub const RESTORED: &str = "s3:Replication:OperationRestoredRevision:";
    /// What somebody wrote who read a version before and has it replicated once more, before a name of its own that each run has. It
    /// begins as a restoration does, and where it was written over a later change, that comes back as from one.
    pub const RESYNCED: &str = "s3:Replication:OperationRestoredRevision:resync-";

    /// `operation` as text that is cheap to copy.
    pub(in crate::model) fn shared(operation: &str) -> smol_str::SmolStr {
        let frequent = [COMPLETED, FAILED, PENDING].into_iter().find(|name| *name == operation);
        frequent.map_or_else(|| operation.into(), smol_str::SmolStr::new_static)
    }
}

/// The account id in an envelope: entries built from metadata carry it as null, messages may leave it out, and both forms
/// come back as they were (replication reference 4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccountId {
    /// Not in the message.
    #[default]
    Absent,
    /// Explicitly unknown.
    Null,
    /// Known.
    Known(Arc<str>),
}

/// An object entry of the replication, status or replay topics (upstream's ObjectQueueEntry). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEntry {
    bucket: Bucket,
    key: ObjectKey,
    versioned_key: VersionedKey,
    md: ObjectMd,
    /// The site that the message is about, if it says one.
    pub site: Option<Site>,
    /// Replays left before the failure is final; `None` until the first failure.
    pub replay_count: Option<i64>,
    /// The account of the bucket's owner.
    pub account_id: AccountId,
    /// A marker of the workflow engine: there is nothing to do.
    pub ignore: bool,
    /// Every other member of the envelope, as it came.
    pub(super) envelope: Envelope,
}

/// The members of an envelope that have no meaning here, if there are any.
pub(super) type Envelope = Option<Arc<[(Arc<str>, RawJson)]>>;

/// The metadata key of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum VersionedKey {
    /// A message without one.
    Absent,
    /// As the metadata has it: the version key of its version id, or the master key.
    Usual,
    /// Another one.
    Spelled(Arc<str>),
}

impl ObjectEntry {
    /// An entry built from metadata: the version whose metadata key is `versioned_key`.
    pub fn new(bucket: impl Into<Bucket>, versioned_key: &str, md: ObjectMd) -> Self {
        let entry = Self::build(bucket.into(), object_key(versioned_key).into(), md);
        if entry.usual_key() == versioned_key {
            entry
        } else {
            Self { versioned_key: VersionedKey::Spelled(versioned_key.into()), ..entry }
        }
    }

    fn build(bucket: Bucket, key: ObjectKey, md: ObjectMd) -> Self {
        Self {
            bucket,
            key,
            versioned_key: VersionedKey::Usual,
            md,
            site: None,
            replay_count: None,
            account_id: AccountId::Null,
            ignore: false,
            envelope: None,
        }
    }

    /// An entry for the object `key`, whose metadata key follows from the metadata: versions with an id have a key of their
    /// own, null versions and unversioned objects live under the master key.
    pub fn of(bucket: impl Into<Bucket>, key: &ObjectKey, md: ObjectMd) -> Self {
        Self::build(bucket.into(), key.clone(), md)
    }

    fn usual_key(&self) -> String {
        match self.md.version_ref().id() {
            Some(id) => version_key(&self.key, id.as_str()),
            None => self.key.as_str().to_owned(),
        }
    }

    pub(super) fn without_key(mut self) -> Self {
        self.versioned_key = VersionedKey::Absent;
        self
    }

    /// The bucket.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The object key, without version.
    pub fn object_key(&self) -> &ObjectKey {
        &self.key
    }

    /// The metadata key; a message may lack it.
    pub fn versioned_key(&self) -> Option<Cow<'_, str>> {
        match &self.versioned_key {
            VersionedKey::Absent => None,
            VersionedKey::Usual => Some(self.usual_key().into()),
            VersionedKey::Spelled(key) => Some((&**key).into()),
        }
    }

    /// The metadata.
    pub fn md(&self) -> &ObjectMd {
        &self.md
    }

    /// The state of replication in the metadata.
    pub fn replication(&self) -> &ReplicationInfo {
        self.md.replication()
    }

    /// Which version of which object.
    pub fn object_ref(&self) -> ObjectRef {
        ObjectRef { bucket: self.bucket.clone(), key: self.key.clone(), version: self.md.version_ref() }
    }

    /// `<bucket>/<object key>`: entries with the same canonical key are processed in order.
    pub fn canonical_key(&self) -> String {
        format!("{}/{}", self.bucket, self.key)
    }

    /// With other metadata.
    pub fn with_md(&self, md: ObjectMd) -> Self {
        let versioned_key = match &self.versioned_key {
            VersionedKey::Usual if md.version_ref() != self.md.version_ref() => {
                VersionedKey::Spelled(self.usual_key().into())
            }
            same @ (VersionedKey::Usual | VersionedKey::Absent | VersionedKey::Spelled(_)) => same.clone(),
        };
        Self { versioned_key, ..self.about(md, self.site.clone()) }
    }

    /// The same entry with other metadata of the same version, about `site`.
    fn about(&self, md: ObjectMd, site: Option<Site>) -> Self {
        Self {
            bucket: self.bucket.clone(),
            key: self.key.clone(),
            versioned_key: self.versioned_key.clone(),
            md,
            site,
            replay_count: self.replay_count,
            account_id: self.account_id.clone(),
            ignore: self.ignore,
            envelope: self.envelope.clone(),
        }
    }

    /// With another number of replays left.
    pub fn with_replay_count(&self, replay_count: Option<i64>) -> Self {
        Self { replay_count, ..self.clone() }
    }

    /// With the version id that `site` gave to its copy.
    pub fn with_site_version_id(&self, site: &Site, version_id: &str) -> Self {
        self.with_replication(self.replication().with_site_version_id(site, version_id))
    }

    fn with_replication(&self, replication: ReplicationInfo) -> Self {
        self.about(self.md.with_replication(replication), None)
    }

    fn with_status(&self, site: &Site, status: SiteStatus, origin_op: &str) -> Self {
        let failed = status == SiteStatus::Failed;
        let info = self.replication().with_site_status(site, status);
        let info = if failed { info.with_status(OverallStatus::Failed) } else { info.with_computed_status() };
        self.about(self.md.with_replication_by(info, origin_op), None)
    }

    /// The form that asks to do `site` again: the site PENDING, the overall status computed.
    pub fn to_pending(&self, site: &Site) -> Self {
        self.with_status(site, SiteStatus::Pending, origin_op::PENDING)
    }

    /// The form that reports `site` done.
    pub fn to_completed(&self, site: &Site) -> Self {
        self.with_status(site, SiteStatus::Completed, origin_op::COMPLETED)
    }

    /// The form that reports `site` given up.
    pub fn to_failed(&self, site: &Site) -> Self {
        self.with_status(site, SiteStatus::Failed, origin_op::FAILED)
    }

    /// The form that is written at `site`: in the destination bucket, a REPLICA for good. Other sites stay as they are.
    pub fn to_replica(&self, site: &Site) -> Self {
        let info = self
            .replication()
            .with_site_status(site, SiteStatus::Replica)
            .with_status(OverallStatus::Replica);
        Self { bucket: info.destination_bucket().clone(), ..self.with_replication(info) }
    }

    /// The form that queues one more attempt for `site` alone; the replays left are kept.
    pub fn to_retry(&self, site: &Site) -> Self {
        self.with_replication(self.replication().retry(site))
    }

    /// The key of messages about this object.
    pub fn queue_key(&self) -> String {
        queue_key(&self.bucket, &self.key)
    }

    /// Key and value of the queue message, about `site` if the message is about one (replication reference 4.2).
    pub fn to_kafka(&self, site: Option<&Site>) -> (String, String) {
        let value = self.md.to_model_json();
        let mut out = String::with_capacity(value.len() + value.len() / 4 + 256);
        out.push('{');
        let text = |out: &mut String, name: &str, text: &str| {
            write_name(out, name);
            write_string(out, text);
        };
        text(&mut out, "bucket", self.bucket.as_str());
        if let Some(key) = self.versioned_key() {
            text(&mut out, "key", &key);
        }
        text(&mut out, "value", &value);
        if let Some(site) = site {
            text(&mut out, "site", site.as_str());
        }
        for (name, value) in self.envelope.iter().flat_map(|envelope| envelope.iter()) {
            write_name(&mut out, name);
            out.push_str(value.as_str());
        }
        write_name(&mut out, "ignore");
        out.push_str(if self.ignore { "true" } else { "false" });
        if let Some(count) = self.replay_count {
            write_name(&mut out, "replayCount");
            out.push_str(&count.to_string());
        }
        match &self.account_id {
            AccountId::Absent => {}
            AccountId::Null => {
                write_name(&mut out, "accountId");
                out.push_str("null");
            }
            AccountId::Known(id) => {
                write_name(&mut out, "accountId");
                write_string(&mut out, id);
            }
        }
        out.push('}');
        (self.queue_key(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Message, parse_message};

    fn entry() -> ObjectEntry {
        let md = r#"{"versionId":"v1","replicationInfo":{"status":"PENDING","backends":[{"site":"a","status":"PENDING","dataStoreVersionId":""},{"site":"b","status":"COMPLETED","dataStoreVersionId":""}],"content":["DATA"],"destination":"arn:aws:s3:::dst","storageClass":"a,b","role":"r1,r2","storageType":"","dataStoreVersionId":"","isNFS":null}}"#;
        ObjectEntry::of("b", &"k é".into(), ObjectMd::parse(md).expect("valid"))
    }

    #[test]
    fn every_form_comes_back_from_its_message() {
        let site = "a".into();
        for form in [
            entry().to_completed(&site),
            entry().to_failed(&site).with_replay_count(Some(2)),
            entry().to_pending(&site),
            entry().to_retry(&site),
            entry().to_replica(&site),
        ] {
            let (key, message) = form.to_kafka(Some(&site));
            assert_eq!(key, form.queue_key());
            let Message::Object(read) = parse_message(message.as_bytes()) else { panic!("{message}") };
            assert_eq!(read.object_ref(), form.object_ref());
            assert_eq!(read.replication(), form.replication());
            assert_eq!(read.md().state_tag(), form.md().state_tag());
            assert_eq!((read.site.as_ref(), read.replay_count), (Some(&site), form.replay_count));
            assert_eq!(read.to_kafka(Some(&site)).1, message);
        }
    }

    #[test]
    fn forms_leave_their_source_alone() {
        let source = entry();
        let replica = source.to_replica(&"a".into());
        assert_eq!(replica.bucket().as_str(), "dst");
        assert_eq!(replica.replication().site_status(&"b".into()), Some(&SiteStatus::Completed));
        assert_eq!(source.replication().site_status(&"a".into()), Some(&SiteStatus::Pending));
        assert_eq!(source.to_completed(&"a".into()).replication().status(), &OverallStatus::Completed);
        assert_eq!(source.md().revision(), source.to_retry(&"a".into()).md().revision());
    }
}
