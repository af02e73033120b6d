//! What the populator queues: the decision list of replication reference 3.1 to 3.4, as pure functions.
//!
//! The metadata is scanned for the few members that decide; no tree is built.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::id::Site;

use super::json_text::{Cursor, JsonError, text_of};
use super::key::{
    MPU_BUCKET_PREFIX, USERS_BUCKET, encode_uri_component, is_master, object_key, queue_key_of,
};
use super::location::lenient_u64;
use super::log::{Field, PopulatorEntry};

/// What the filter needs to know of the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterConfig {
    /// Locations whose objects are never replicated.
    pub cold_locations: BTreeSet<String>,
    /// The bucket that lists the buckets.
    pub users_bucket: String,
    /// What the names of multipart upload buckets start with.
    pub mpu_bucket_prefix: String,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            cold_locations: BTreeSet::new(),
            users_bucket: USERS_BUCKET.to_owned(),
            mpu_bucket_prefix: MPU_BUCKET_PREFIX.to_owned(),
        }
    }
}

/// Why an entry is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IgnoreReason {
    /// No key or no value: bucket attributes, deletes.
    NoKeyOrValue,
    /// An entry of the users bucket that creates no bucket.
    NoBucketCreation,
    /// Not a put.
    NotAPut,
    /// Bucket or key is not text.
    NotAnObject,
    /// The master key of a versioned object: the entry of the version carries the work.
    MasterOfVersion,
    /// The overall status is not PENDING.
    NotPending,
    /// The bytes lie in a cold location.
    ColdLocation,
}

/// Work of one site in a queued entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteCount {
    /// The site.
    pub site: Site,
    /// Operations.
    pub ops: u64,
    /// Bytes; 0 when no data has to be copied.
    pub bytes: u64,
}

/// An entry to queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The key of the message. Its value is [`PopulatorEntry::message`].
    pub key: String,
    /// Objects counted: 0 for bucket creations.
    pub objects: u64,
    /// Bytes counted once, whatever the number of sites.
    pub bytes: u64,
    /// Work per site that is PENDING.
    pub sites: Vec<SiteCount>,
}

/// What to do with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Pass over it.
    Ignore(IgnoreReason),
    /// Queue it.
    Publish(Publish),
    /// It cannot be understood: count it, record it and pass over it.
    Unreadable(String),
}

/// The members of the metadata that decide; texts are raw JSON.
#[derive(Default)]
struct Deciding<'a> {
    has_version_id: bool,
    is_null: bool,
    data_store_name: &'a str,
    content_length: &'a str,
    replication: Replication<'a>,
}

/// The deciding members of `replicationInfo`.
#[derive(Default)]
struct Replication<'a> {
    status: &'a str,
    is_nfs: bool,
    has_data: bool,
    /// Site and status of every destination; both empty where the document has something else.
    backends: SmallVec<[(&'a str, &'a str); 4]>,
}

/// Decides about one entry.
pub fn decide(entry: &PopulatorEntry, config: &FilterConfig) -> Decision {
    if !entry.key.is_present() || !entry.value.is_present() {
        return Decision::Ignore(IgnoreReason::NoKeyOrValue);
    }
    if entry.bucket.as_text() == Some(&config.users_bucket) {
        return decide_bucket_operation(entry, config);
    }
    if entry.kind.as_text() != Some("put") {
        return Decision::Ignore(IgnoreReason::NotAPut);
    }
    let Some(value) = entry.value.as_text() else {
        return Decision::Unreadable("the value is not text, or not text that Unicode can hold".to_owned());
    };
    let deciding = match scan(value) {
        Ok(Some(deciding)) => deciding,
        Ok(None) => return Decision::Unreadable("the value is null".to_owned()),
        Err(error) => return Decision::Unreadable(format!("the value is {error}")),
    };
    let (bucket, key) = match (&entry.bucket, &entry.key) {
        (Field::Text(bucket), Field::Text(key)) => (bucket, key),
        (Field::Other(raw), _) | (_, Field::Other(raw)) if raw.as_str().starts_with('"') => {
            return Decision::Unreadable("bucket or key holds a lone surrogate".to_owned());
        }
        _ => return Decision::Ignore(IgnoreReason::NotAnObject),
    };
    let replication = &deciding.replication;
    let is_version_master = is_master(key) && deciding.has_version_id && !deciding.is_null;
    if is_version_master && !replication.is_nfs {
        return Decision::Ignore(IgnoreReason::MasterOfVersion);
    }
    if replication.status != "\"PENDING\"" {
        return Decision::Ignore(IgnoreReason::NotPending);
    }
    if !config.cold_locations.is_empty()
        && text_of(deciding.data_store_name).is_some_and(|name| config.cold_locations.contains(name.as_ref()))
    {
        return Decision::Ignore(IgnoreReason::ColdLocation);
    }
    let bytes = if replication.has_data { lenient_u64(deciding.content_length).unwrap_or(0) } else { 0 };
    Decision::Publish(Publish {
        key: queue_key_of(bucket, object_key(key)),
        objects: 1,
        bytes,
        sites: replication.site_counts(bytes),
    })
}

fn decide_bucket_operation(entry: &PopulatorEntry, config: &FilterConfig) -> Decision {
    let creation = entry.kind.as_text() == Some("put")
        && entry.key.as_text().is_some_and(|key| !key.starts_with(&config.mpu_bucket_prefix));
    if !creation {
        return Decision::Ignore(IgnoreReason::NoBucketCreation);
    }
    let key = encode_uri_component(&config.users_bucket);
    Decision::Publish(Publish { key, objects: 0, bytes: 0, sites: Vec::new() })
}

/// Whether `value`, stored under a master key, is the copy of a version that has a key of its own.
pub(super) fn is_copy_of_version(value: &str) -> bool {
    matches!(scan(value), Ok(Some(deciding)) if deciding.has_version_id && !deciding.is_null)
}

/// The deciding members of the metadata in `value`, `None` if it is null. Of duplicates the last one counts.
fn scan(value: &str) -> Result<Option<Deciding<'_>>, JsonError> {
    let mut deciding = Deciding::default();
    let mut cursor = Cursor::new(value);
    let is_object = cursor.members(|cursor, name| {
        match name {
            "replicationInfo" => deciding.replication = Replication::scan(cursor)?,
            "versionId" => deciding.has_version_id = cursor.value().map(|_| true)?,
            "isNull" => deciding.is_null = cursor.value()? == "true",
            "dataStoreName" => deciding.data_store_name = cursor.value()?,
            "content-length" => deciding.content_length = cursor.value()?,
            _ => {
                cursor.value()?;
            }
        }
        Ok(())
    })?;
    // Anything but an object has no status, hence is not PENDING; upstream fails on null alone.
    let is_null = !is_object && cursor.value()? == "null";
    cursor.end()?;
    Ok((!is_null).then_some(deciding))
}

impl<'a> Replication<'a> {
    fn scan(cursor: &mut Cursor<'a>) -> Result<Self, JsonError> {
        let mut found = Self::default();
        let is_object = cursor.members(|cursor, name| {
            match name {
                "status" => found.status = cursor.value()?,
                "isNFS" => found.is_nfs = cursor.value()? == "true",
                "backends" => found.backends = scan_backends(cursor)?,
                "content" => {
                    found.has_data = false;
                    let is_array = cursor.elements(|cursor| {
                        found.has_data |= cursor.value()? == "\"DATA\"";
                        Ok(())
                    })?;
                    if !is_array {
                        cursor.value()?;
                    }
                }
                _ => {
                    cursor.value()?;
                }
            }
            Ok(())
        })?;
        if !is_object {
            cursor.value()?;
        }
        Ok(found)
    }

    fn site_counts(&self, bytes: u64) -> Vec<SiteCount> {
        let mut counts: Vec<SiteCount> = Vec::new();
        for &(site, status) in &self.backends {
            let Some(site) = text_of(site).filter(|_| status == "\"PENDING\"") else { continue };
            match counts.iter_mut().find(|count| count.site.as_str() == site) {
                Some(count) => {
                    count.ops += 1;
                    count.bytes = count.bytes.saturating_add(bytes);
                }
                None => counts.push(SiteCount { site: site.as_ref().into(), ops: 1, bytes }),
            }
        }
        counts
    }
}

fn scan_backends<'a>(cursor: &mut Cursor<'a>) -> Result<SmallVec<[(&'a str, &'a str); 4]>, JsonError> {
    let mut backends = SmallVec::new();
    let is_array = cursor.elements(|cursor| {
        let mut backend = ("", "");
        let is_object = cursor.members(|cursor, name| {
            let value = cursor.value()?;
            match name {
                "site" => backend.0 = value,
                "status" => backend.1 = value,
                _ => {}
            }
            Ok(())
        })?;
        if is_object {
            backends.push(backend);
        } else {
            cursor.value()?;
        }
        Ok(())
    })?;
    if !is_array {
        cursor.value()?;
    }
    Ok(backends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(key: &str, value: &str) -> PopulatorEntry {
        let text = serde_json::json!({"type": "put", "bucket": "b", "key": key, "value": value});
        PopulatorEntry::parse(&text.to_string()).expect("valid")
    }

    fn decide_value(value: &str) -> Decision {
        decide(&entry("k\0v", value), &FilterConfig::default())
    }

    #[test]
    fn a_pending_version_is_queued_with_its_work_per_site() {
        let value = r#"{"content-length":"12","replicationInfo":{"status":"PENDING","content":["DATA"],"backends":[{"site":"a","status":"PENDING"},{"site":"b","status":"COMPLETED"}]}}"#;
        let expected = Publish {
            key: "b%2Fk".to_owned(),
            objects: 1,
            bytes: 12,
            sites: vec![SiteCount { site: "a".into(), ops: 1, bytes: 12 }],
        };
        assert_eq!(decide_value(value), Decision::Publish(expected));
    }

    #[test]
    fn what_cannot_be_understood_is_said_to_be() {
        for value in ["", "{", "null", "nope", r#"{"a":1"#] {
            assert!(matches!(decide_value(value), Decision::Unreadable(_)), "{value}");
        }
        let text = r#"{"type":"put","bucket":"b","key":"\ud800","value":"{}"}"#;
        let lone = PopulatorEntry::parse(text).expect("valid JSON");
        assert!(matches!(decide(&lone, &FilterConfig::default()), Decision::Unreadable(_)));
    }

    #[test]
    fn a_replica_is_never_queued() {
        for status in ["REPLICA", "PROCESSING", "COMPLETED", "FAILED", ""] {
            let value = format!(r#"{{"replicationInfo":{{"status":"{status}"}}}}"#);
            assert_eq!(decide_value(&value), Decision::Ignore(IgnoreReason::NotPending));
        }
    }

    proptest! {
        #[test]
        fn deciding_is_total(key in any::<String>(), value in any::<String>()) {
            decide(&entry(&key, &value), &FilterConfig::default());
        }
    }
}
