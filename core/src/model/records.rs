//! Small messages for people and dashboards: metrics and failure records.

use crate::id::Site;
use crate::time::WallTime;

use super::ObjectRef;
use super::json_text::{write_name, write_string};

/// What a metrics message counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricKind {
    /// Entries queued by the populator.
    Queued,
    /// Sites completed.
    Completed,
    /// Sites given up.
    Failed,
    /// Entries queued again by a retry: only the pending counters move.
    PendingOnly,
}

impl MetricKind {
    /// The type as written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::PendingOnly => "pendingOnly",
        }
    }
}

/// Operations and bytes of one site, of one object if it says which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteMetric {
    /// What is counted.
    pub kind: MetricKind,
    /// The site.
    pub site: Site,
    /// Operations; messages about one object leave them out.
    pub ops: Option<u64>,
    /// Bytes.
    pub bytes: u64,
    /// The object, for messages about one.
    pub object: Option<ObjectRef>,
}

impl SiteMetric {
    /// A count for a site as a whole.
    pub fn of_site(kind: MetricKind, site: Site, ops: u64, bytes: u64) -> Self {
        Self { kind, site, ops: Some(ops), bytes, object: None }
    }

    /// The message (replication reference 4.8).
    pub fn to_message(&self, now: WallTime) -> String {
        let mut out = format!("{{\"timestamp\":{}", now.as_millis());
        let numbers = [("ops", self.ops), ("bytes", Some(self.bytes))];
        for (name, number) in numbers {
            if let Some(number) = number {
                write_name(&mut out, name);
                out.push_str(&number.to_string());
            }
        }
        let mut text = |name: &str, value: &str| {
            write_name(&mut out, name);
            write_string(&mut out, value);
        };
        text("extension", "crr");
        text("type", self.kind.as_str());
        text("site", self.site.as_str());
        if let Some(object) = &self.object {
            text("bucketName", object.bucket.as_str());
            text("objectKey", object.key.as_str());
            text("versionId", object.version.query().as_deref().unwrap_or(""));
        }
        out.push('}');
        out
    }
}

/// The record of a final failure (replication reference 4.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRecord {
    /// The sorted set: one per site and hour.
    pub key: String,
    /// The member: which version of which object.
    pub member: String,
    /// The score: when it failed, in milliseconds since the epoch.
    pub score: i64,
}

impl FailureRecord {
    /// The record of `object` having failed for `site`. Hours are those of UTC.
    pub fn new(object: &ObjectRef, site: &Site, now: WallTime) -> Self {
        const HOUR_MS: i64 = 3_600_000;
        let hour = now.as_millis().div_euclid(HOUR_MS) * HOUR_MS;
        let version = object.version.query().unwrap_or_default();
        Self {
            key: format!("bb:crr:failed:{site}:{hour}"),
            member: format!("{}:{}:{version}", object.bucket, object.key),
            score: now.as_millis(),
        }
    }

    /// The message.
    pub fn to_message(&self) -> String {
        let mut out = String::from("{");
        for (name, value) in [("key", &self.key), ("member", &self.member)] {
            write_name(&mut out, name);
            write_string(&mut out, value);
        }
        write_name(&mut out, "score");
        out.push_str(&self.score.to_string());
        out.push('}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VersionRef;

    #[test]
    fn records_are_written_as_their_readers_expect() {
        let object = ObjectRef::new("b", "k:x", VersionRef::Unversioned);
        let now = WallTime::from_millis(1_727_786_096_789);
        let record = FailureRecord::new(&object, &"paris".into(), now);
        assert_eq!(
            record.to_message(),
            r#"{"key":"bb:crr:failed:paris:1727784000000","member":"b:k:x:","score":1727786096789}"#
        );
        let metric = SiteMetric::of_site(MetricKind::Completed, "paris".into(), 1, 5);
        assert_eq!(
            metric.to_message(now),
            r#"{"timestamp":1727786096789,"ops":1,"bytes":5,"extension":"crr","type":"completed","site":"paris"}"#
        );
        let of_object = SiteMetric { ops: None, object: Some(object), ..metric };
        assert_eq!(
            of_object.to_message(now),
            r#"{"timestamp":1727786096789,"bytes":5,"extension":"crr","type":"completed","site":"paris","bucketName":"b","objectKey":"k:x","versionId":""}"#
        );
    }
}
