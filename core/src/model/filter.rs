//! What the populator queues: the decision list of replication reference 3.1 to 3.4, as pure functions.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::id::Site;

use super::deciding::scan_text;
use super::json_text::Scalar;
use super::key::{
    MPU_BUCKET_PREFIX, USERS_BUCKET, encode_uri_component, is_master, object_key, queue_key_of,
};
use super::location::lenient_u64_of;
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
    let Field::Text(value) = &entry.value else {
        return Decision::Unreadable("the value is not text, or not text that Unicode can hold".to_owned());
    };
    let deciding = match scan_text(value) {
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
    let is_version_master = is_master(key) && deciding.version_id.is_some() && !deciding.is_null;
    if is_version_master && !replication.is_nfs {
        return Decision::Ignore(IgnoreReason::MasterOfVersion);
    }
    if !replication.is_pending {
        return Decision::Ignore(IgnoreReason::NotPending);
    }
    if !config.cold_locations.is_empty()
        && let Some(Scalar::Text(name)) = &deciding.data_store_name
        && config.cold_locations.contains(name.as_ref())
    {
        return Decision::Ignore(IgnoreReason::ColdLocation);
    }
    let bytes = match &deciding.content_length {
        Some(Scalar::Text(length)) if replication.has_data => lenient_u64_of(length).unwrap_or(0),
        Some(Scalar::Other(length)) if replication.has_data => lenient_u64_of(length).unwrap_or(0),
        Some(_) | None => 0,
    };
    Decision::Publish(Publish {
        key: queue_key_of(bucket, object_key(key)),
        objects: 1,
        bytes,
        sites: site_counts(&replication.pending, bytes),
    })
}

/// Work per site: one operation for each time that it is named.
fn site_counts(pending: &[Cow<'_, str>], bytes: u64) -> Vec<SiteCount> {
    let mut counts: Vec<SiteCount> = Vec::with_capacity(pending.len());
    for site in pending {
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

fn decide_bucket_operation(entry: &PopulatorEntry, config: &FilterConfig) -> Decision {
    let creation = entry.kind.as_text() == Some("put")
        && entry.key.as_text().is_some_and(|key| !key.starts_with(&config.mpu_bucket_prefix));
    if !creation {
        return Decision::Ignore(IgnoreReason::NoBucketCreation);
    }
    let key = encode_uri_component(&config.users_bucket);
    Decision::Publish(Publish { key, objects: 0, bytes: 0, sites: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LogEntry, LogRecord};
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
    fn a_value_counts_however_it_is_spelled() {
        let plain = r#"{"replicationInfo":{"status":"PENDING","content":["DATA"],"backends":[{"site":"a","status":"PENDING"}]},"content-length":7}"#;
        assert!(matches!(decide_value(plain), Decision::Publish(_)));
        let escaped = plain.replace("PENDING", "PEND\\u0049NG").replace("DATA", "D\\u0041TA");
        assert_eq!(decide_value(&escaped), decide_value(plain));
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
    fn an_entry_whose_value_is_null_has_none() {
        let text = r#"{"db":"b","entries":[{"type":"put","key":"k","value":null}]}"#;
        let record = LogRecord::parse(text).expect("a record");
        assert_eq!(record.entries.len(), 1);
        assert_eq!(record.populator_entries().count(), 0);
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

        /// Read where it lies in a record, a value is the same as read on its own.
        #[test]
        fn a_record_and_its_content_agree(
            key in "k|k\u{0}v",
            members in prop::collection::vec((member_name(), member_value()), 0..8),
            (cut, with) in (any::<prop::sample::Index>(), "[ -~]{0,2}"),
            is_broken in any::<bool>(),
            pretty in any::<bool>(),
        ) {
            let members = members.iter().map(|(name, value)| format!("\"{name}\":{value}"));
            let mut value: Vec<char> = format!("{{{}}}", members.collect::<Vec<_>>().join(",")).chars().collect();
            if is_broken {
                let at = cut.index(value.len());
                value.splice(at..=at, with.chars());
            }
            let value = if pretty { value.iter().flat_map(|c| [*c, ' ']).collect() } else { value.iter().collect::<String>() };
            let record = LogRecord { timestamp: None, db: "b".into(), entries: vec![LogEntry::put(key, value)] };
            let read = LogRecord::parse(&record.to_json()).expect("just written");
            prop_assert_eq!(&read, &record);
            prop_assert_eq!(read.to_json(), record.to_json());
            let config = FilterConfig { cold_locations: ["a".to_owned()].into(), ..FilterConfig::default() };
            for (read, built) in read.populator_entries().zip(record.populator_entries()) {
                prop_assert_eq!(decide(&read, &config), decide(&built, &config));
                prop_assert_eq!(read.message(), built.message());
            }
        }
    }

    fn member_name() -> impl Strategy<Value = String> {
        let names =
            ["replicationInfo", "versionId", "isNull", "dataStoreName", "content-length", "x", "\\u0078"];
        prop::sample::select(names.to_vec()).prop_map(str::to_owned)
    }

    fn member_value() -> impl Strategy<Value = String> {
        let values = [
            r#"{"status":"PENDING","content":["DATA"],"backends":[{"site":"a","status":"PENDING"},{"site":"a","status":"PENDING"},{"site":"b","status":"FAILED"},7]}"#,
            r#"{"isNFS":true,"status":"PENDING","content":["METADATA"],"backends":[{"site":"é","status":"PENDING","x":{}}]}"#,
            r#"{"status":"COMPLETED"}"#,
            "null",
            "true",
            "12",
            "\"12\"",
            "1.0",
            "\"\"",
            "\"a\"",
            r#""a\"b""#,
            r#""\u0061""#,
            r#""\ud800""#,
            "[]",
            "[{}, 1]",
        ];
        prop::sample::select(values.to_vec()).prop_map(str::to_owned)
    }
}
