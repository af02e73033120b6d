//! Exception records as they are written to the compacted exceptions topic (decision D6).
//!
//! The record key is `<site>/<bucket>/<key>/<versionId>`. The value repeats bucket, key and version in members of their
//! own, because keys with slashes cannot be split again. Times are milliseconds since the Unix epoch.

use backbeat_backends::queue::{Record, partitioner};
use backbeat_core::exception::{DepositNote, ExceptionRecord, ExceptionState, NotedPart};
use backbeat_core::id::Partition;
use backbeat_core::model::{Encryption, Location, ObjectRef, VersionId, VersionRef, queue_key};
use backbeat_core::time::WallTime;
use serde::{Deserialize, Serialize};

/// The value of a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    state: StoredState,
    reason: String,
    attempts: u32,
    first: i64,
    last: i64,
    next: Option<i64>,
    site: String,
    bucket: String,
    key: String,
    #[serde(default)]
    version_id: Option<String>,
    /// What was stored for a copy that is not finished: additive (decision D10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deposit: Option<StoredDeposit>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredDeposit {
    content: String,
    #[serde(default)]
    upload: Option<String>,
    #[serde(default)]
    parts: Vec<StoredPart>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption: Option<StoredEncryption>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredEncryption {
    algorithm: String,
    #[serde(default)]
    kms_key_id: String,
    #[serde(default)]
    customer_algorithm: String,
}

impl StoredEncryption {
    fn of(encryption: &Encryption) -> Option<Self> {
        let Encryption { algorithm, kms_key_id, customer_algorithm } = encryption.clone();
        (*encryption != Encryption::default()).then_some(Self { algorithm, kms_key_id, customer_algorithm })
    }
}

/// A part: the location is the JSON text of a data location, as in object metadata.
#[derive(Debug, Serialize, Deserialize)]
struct StoredPart {
    number: u32,
    size: u64,
    digest: String,
    location: String,
}

impl StoredDeposit {
    fn of(note: &DepositNote) -> Self {
        let part = |part: &NotedPart| StoredPart {
            number: part.number,
            size: part.size,
            digest: part.digest.clone(),
            location: part.location.to_json().as_str().to_owned(),
        };
        Self {
            content: note.content.clone(),
            upload: note.upload.as_ref().map(|upload| upload.as_str().to_owned()),
            parts: note.parts.iter().map(part).collect(),
            encryption: StoredEncryption::of(&note.encryption),
        }
    }

    /// Parts whose location cannot be read are as good as not noted.
    fn into_note(self) -> DepositNote {
        let part = |part: StoredPart| {
            let location = Location::parse(&part.location).ok()?;
            Some(NotedPart { number: part.number, size: part.size, digest: part.digest, location })
        };
        DepositNote {
            content: self.content,
            upload: self.upload.map(Into::into),
            parts: self.parts.into_iter().filter_map(part).collect(),
            encryption: self.encryption.map_or_else(Encryption::default, |stored| Encryption {
                algorithm: stored.algorithm,
                kms_key_id: stored.kms_key_id,
                customer_algorithm: stored.customer_algorithm,
            }),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredState {
    Deferred,
    Held,
    Failed,
    Copying,
}

/// The state of a record as it is written; nothing for a tombstone.
pub fn state_name(state: ExceptionState) -> Option<&'static str> {
    match state {
        ExceptionState::Deferred => Some("deferred"),
        ExceptionState::Held => Some("held"),
        ExceptionState::Failed => Some("failed"),
        ExceptionState::Copying => Some("copying"),
        ExceptionState::Resolved => None,
    }
}

/// The partition of everything about `object` in topics of `partitions` partitions.
pub fn partition_of(object: &ObjectRef, partitions: u32) -> Partition {
    partitioner::partition_of(queue_key(&object.bucket, &object.key).as_bytes(), partitions)
}

/// The message that writes `record`, or deletes it if it is resolved.
pub fn to_message(record: &ExceptionRecord, partitions: u32) -> Record {
    let state = match record.state {
        ExceptionState::Deferred => StoredState::Deferred,
        ExceptionState::Held => StoredState::Held,
        ExceptionState::Failed => StoredState::Failed,
        ExceptionState::Copying => StoredState::Copying,
        ExceptionState::Resolved => {
            return Record::tombstone(record.key()).at(partition_of(&record.object, partitions));
        }
    };
    let stored = Stored {
        state,
        reason: record.reason.clone(),
        attempts: record.attempts,
        first: record.first.as_millis(),
        last: record.last.as_millis(),
        next: record.next.map(WallTime::as_millis),
        site: record.site.as_str().to_owned(),
        bucket: record.object.bucket.as_str().to_owned(),
        key: record.object.key.as_str().to_owned(),
        version_id: record.object.version.query(),
        deposit: record.deposit.as_deref().map(StoredDeposit::of),
    };
    let value = serde_json::to_vec(&stored).expect("texts and numbers always have a JSON form");
    Record::keyed(record.key(), value).at(partition_of(&record.object, partitions))
}

/// A value of the exceptions topic that is none.
#[derive(Debug, thiserror::Error)]
pub enum ExceptionError {
    /// It is not JSON, or lacks a member.
    #[error("exception record cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The version id is none.
    #[error("exception record of {bucket}/{key} has the unusable version id {version:?}")]
    Version {
        /// The bucket.
        bucket: String,
        /// The object key.
        key: String,
        /// What stands in the place of the version id.
        version: String,
    },
}

/// Reads the value of a record.
pub fn from_message(value: &[u8]) -> Result<ExceptionRecord, ExceptionError> {
    let stored: Stored = serde_json::from_slice(value)?;
    let version = match stored.version_id.as_deref() {
        None => VersionRef::Unversioned,
        Some("null") => VersionRef::Null,
        Some(encoded) => {
            VersionRef::Version(VersionId::decode(encoded).map_err(|_| ExceptionError::Version {
                bucket: stored.bucket.clone(),
                key: stored.key.clone(),
                version: encoded.to_owned(),
            })?)
        }
    };
    Ok(ExceptionRecord {
        site: stored.site.into(),
        object: ObjectRef::new(stored.bucket, stored.key, version),
        state: match stored.state {
            StoredState::Deferred => ExceptionState::Deferred,
            StoredState::Held => ExceptionState::Held,
            StoredState::Failed => ExceptionState::Failed,
            StoredState::Copying => ExceptionState::Copying,
        },
        reason: stored.reason,
        attempts: stored.attempts,
        first: WallTime::from_millis(stored.first),
        last: WallTime::from_millis(stored.last),
        next: stored.next.map(WallTime::from_millis),
        deposit: stored.deposit.map(|deposit| Box::new(deposit.into_note())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_topic_whatever_their_key() {
        let version = VersionId::new(1_700_000_000_000, 1, "RG001  ", "");
        for version in [VersionRef::Version(version), VersionRef::Null, VersionRef::Unversioned] {
            let states = [
                ExceptionState::Deferred,
                ExceptionState::Held,
                ExceptionState::Failed,
                ExceptionState::Copying,
            ];
            for state in states {
                let stored = Location::stored("data-1", "paris-disk").to_json();
                let note = DepositNote {
                    content: "abc-1".to_owned(),
                    upload: Some("u1".into()),
                    parts: vec![NotedPart {
                        number: 1,
                        size: 5,
                        digest: "abc".to_owned(),
                        location: Location::parse(stored.as_str()).expect("just written"),
                    }],
                    encryption: Encryption { algorithm: "AES256".to_owned(), ..Encryption::default() },
                };
                let record = ExceptionRecord {
                    site: "paris".into(),
                    object: ObjectRef::new("b", "a/b c/\u{e9}:1", version.clone()),
                    state,
                    reason: "BadRole".to_owned(),
                    attempts: 3,
                    first: WallTime::from_millis(1),
                    last: WallTime::from_millis(2),
                    next: (state != ExceptionState::Failed).then_some(WallTime::from_millis(3)),
                    deposit: (state == ExceptionState::Copying).then(|| Box::new(note)),
                };
                let message = to_message(&record, 4);
                assert_eq!(message.partition, Some(partition_of(&record.object, 4)));
                assert_eq!(message.key.as_deref(), Some(record.key().as_bytes()));
                let value = message.payload.expect("a live record has a value");
                assert_eq!(from_message(&value).expect("just written"), record);
                let gone = ExceptionRecord { state: ExceptionState::Resolved, ..record };
                assert_eq!(to_message(&gone, 4).payload, None);
            }
        }
    }

    #[test]
    fn an_unusable_record_is_named() {
        assert!(from_message(b"{}").is_err());
        let text = r#"{"state":"held","reason":"","attempts":1,"first":1,"last":1,"next":null,"site":"s","bucket":"b","key":"k","versionId":"zz"}"#;
        let error = from_message(text.as_bytes()).expect_err("no version id");
        assert!(error.to_string().contains("b/k"), "{error}");
    }
}
