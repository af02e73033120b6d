//! A document of a MongoDB change stream, as Kafka Connect's source connector writes it for upstream, and the record that it
//! stands for (wire reference 4.4, extensions reference E.8).

use backbeat_core::id::Bucket;
use backbeat_core::model::{LogEntry, LogRecord};
use serde::Deserialize;
use serde_json::{Number, Value};

use super::ordered::Json;
use crate::timestamp::iso;

/// Characters that MongoDB does not take in the names of members, and what stands for them in the keys of tags.
const ESCAPED: [(char, &str); 2] = [('\u{ff0e}', "."), ('\u{ff04}', "$")];

/// What is read of an event. The connector writes more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(default)]
    operation_type: String,
    #[serde(default)]
    ns: Namespace,
    document_key: Option<DocumentKey>,
    full_document: Option<Holder>,
    update_description: Option<UpdateDescription>,
    cluster_time: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Namespace {
    /// The collection: the bucket. Events about a whole database have none.
    #[serde(default)]
    coll: String,
}

#[derive(Deserialize)]
struct DocumentKey {
    /// The key, as text. Other collections of the database may have other keys.
    #[serde(rename = "_id")]
    id: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateDescription {
    updated_fields: Option<Holder>,
}

#[derive(Deserialize)]
struct Holder {
    value: Option<Json>,
}

/// The record that a document stands for. `timestamp` is when Kafka took the message, milliseconds since the epoch.
///
/// Of an update the members that were written count, not the whole document, which the connector looks up later and may
/// be newer. A document without metadata is an entry without a value. Events that are about no document are records
/// without entries.
pub(super) fn record(text: &[u8], timestamp: Option<u64>) -> Result<LogRecord, serde_json::Error> {
    let event: Event = serde_json::from_slice(text)?;
    let is_update = event.operation_type == "update";
    let holder = if is_update {
        event.update_description.and_then(|update| update.updated_fields)
    } else {
        event.full_document
    };
    let metadata = holder.and_then(|holder| holder.value).map(plain);
    let is_deleted = metadata.as_ref().and_then(|metadata| metadata.member("deleted"))
        == Some(&Json::Scalar(Value::Bool(true)));
    let kind = match event.operation_type.as_str() {
        "insert" | "replace" | "update" if !is_deleted => Some("put"),
        "insert" | "replace" | "update" | "delete" => Some("delete"),
        _ => None,
    };
    let key = event.document_key.and_then(|key| key.id.as_str().map(Into::into));
    let value = metadata.map(|metadata| serde_json::to_string(&metadata)).transpose()?;
    let entry = kind.zip(key).map(|(kind, key)| LogEntry {
        kind: kind.into(),
        key: Some(key),
        value: value.map(Into::into),
        timestamp: event
            .cluster_time
            .as_ref()
            .and_then(seconds)
            .map(|at| iso(at.saturating_mul(1_000)).into()),
        version_id: None,
    });
    Ok(LogRecord {
        timestamp: timestamp.map(|at| iso(at).into()),
        db: Bucket::from(event.ns.coll),
        entries: entry.into_iter().collect(),
    })
}

/// The seconds of a time of the cluster: `{"$timestamp":{"t":seconds,"i":number}}`.
fn seconds(time: &Value) -> Option<u64> {
    time["$timestamp"]["t"].as_u64()
}

/// Metadata as CloudServer wrote it: numbers as JSON has them, keys of tags as their owners wrote them.
fn plain(metadata: Json) -> Json {
    let mut metadata = number(metadata);
    if let Json::Members(members) = &mut metadata
        && let Some((_, Json::Members(tags))) = members.iter_mut().find(|(name, _)| name == "tags")
    {
        for (key, _) in tags {
            for (escaped, plain) in ESCAPED {
                *key = key.replace(escaped, plain);
            }
        }
    }
    metadata
}

/// Whole numbers without a point, whatever type they had in the database: the connector writes those beyond 32 bits as
/// `5.0E9` or, if they were written as such, as `{"$numberLong":"5000000000"}`.
fn number(value: Json) -> Json {
    match value {
        Json::Scalar(Value::Number(number)) => Json::Scalar(whole(&number).unwrap_or(number).into()),
        Json::Scalar(_) => value,
        Json::List(items) => Json::List(items.into_iter().map(number).collect()),
        Json::Members(members) => match typed(&members) {
            Some(number) => Json::Scalar(number.into()),
            None => Json::Members(members.into_iter().map(|(name, value)| (name, number(value))).collect()),
        },
    }
}

/// A number with a type of the database's. No member of metadata can have such a name: MongoDB would not take it.
fn typed(members: &[(String, Json)]) -> Option<Number> {
    let [(name, Json::Scalar(Value::String(text)))] = members else { return None };
    match name.as_str() {
        "$numberLong" | "$numberInt" => text.parse::<i64>().ok().map(Number::from),
        "$numberDouble" => {
            let number = Number::from_f64(text.parse().ok()?)?;
            Some(whole(&number).unwrap_or(number))
        }
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "within the range in which floats count exactly")]
fn whole(number: &Number) -> Option<Number> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then(|| Number::from(float as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: &Value) -> LogRecord {
        record(document.to_string().as_bytes(), Some(1_763_655_975_045)).expect("it is one")
    }

    /// The kind of the only entry, and its value.
    fn entry(document: &Value) -> (String, Option<Value>) {
        let record = read(document);
        let [entry] = record.entries.as_slice() else { panic!("{record:?}") };
        assert_eq!((record.db.as_str(), entry.key.as_deref()), ("photos", Some("\u{7f}Vcat.jpg\0v1")));
        let value = entry.value.as_ref().map(|value| serde_json::from_str(value.text()).expect("JSON"));
        (entry.kind.to_string(), value)
    }

    fn document(operation: &str, more: &[(&str, Value)]) -> Value {
        let mut document = json!({
            "_id": {"_data": "8265"}, "operationType": operation,
            "clusterTime": {"$timestamp": {"t": 1_763_655_974, "i": 3}},
            "ns": {"db": "metadata", "coll": "photos"}, "documentKey": {"_id": "\u{7f}Vcat.jpg\0v1"},
        });
        for (name, value) in more {
            document[name] = value.clone();
        }
        document
    }

    #[test]
    fn every_operation_is_the_entry_that_upstream_makes_of_it() {
        let md = json!({"versionId": "v1", "content-length": 5});
        let deleted = json!({"deleted": true, "originOp": "s3:ObjectRemoved:Delete"});
        let full = |value: &Value| ("fullDocument", json!({"_id": "k", "value": value}));
        let updated =
            |fields: Value| ("updateDescription", json!({"updatedFields": fields, "removedFields": []}));
        let put = |value: &Value| ("put".to_owned(), Some(value.clone()));
        assert_eq!(entry(&document("insert", &[full(&md)])), put(&md));
        assert_eq!(entry(&document("replace", &[full(&md)])), put(&md));
        let stale = full(&json!({"versionId": "later"}));
        let update = document("update", &[stale.clone(), updated(json!({"value": md}))]);
        assert_eq!(entry(&update), put(&md), "what was written counts, not what is there later");
        let part = document("update", &[stale, updated(json!({"value.deleted": true}))]);
        assert_eq!(entry(&part), ("put".to_owned(), None));
        let mark = document("update", &[updated(json!({"value": deleted}))]);
        assert_eq!(entry(&mark), ("delete".to_owned(), Some(deleted.clone())));
        assert_eq!(entry(&document("replace", &[full(&deleted)])), ("delete".to_owned(), Some(deleted)));
        assert_eq!(entry(&document("delete", &[])), ("delete".to_owned(), None));
    }

    #[test]
    fn times_come_from_the_cluster_and_from_kafka() {
        let record = read(&document("delete", &[]));
        assert_eq!(record.timestamp.as_deref(), Some("2025-11-20T16:26:15.045Z"));
        assert_eq!(record.entries[0].timestamp.as_deref(), Some("2025-11-20T16:26:14.000Z"));
        let timeless = document("delete", &[("clusterTime", Value::Null)]);
        assert_eq!(read(&timeless).entries[0].timestamp, None);
    }

    #[test]
    fn events_about_no_document_have_no_entries() {
        for event in [
            json!({"operationType": "drop", "ns": {"db": "metadata", "coll": "photos"}}),
            json!({"operationType": "invalidate"}),
            json!({"operationType": "dropDatabase", "ns": {"db": "metadata"}}),
            document("insert", &[("documentKey", json!({"_id": {"$oid": "65"}}))]),
        ] {
            assert_eq!(read(&event).entries, [], "{event}");
        }
    }

    #[test]
    fn numbers_and_keys_of_tags_are_those_that_cloudserver_wrote() {
        let text = r#"{"operationType":"insert","ns":{"coll":"photos"},"documentKey":{"_id":"\u007fVcat.jpg\u0000v1"},
            "fullDocument":{"value":{"content-length":5.0E9,"size":{"$numberLong":"7"},"ratio":0.5,
                "location":[{"size":{"$numberDouble":"3.0"}}],"tags":{"a．b":"x","＄c":"1"}}}}"#;
        let (_, value) = entry(&serde_json::from_str(text).expect("JSON"));
        let wanted = json!({"content-length": 5_000_000_000_u64, "size": 7, "ratio": 0.5,
            "location": [{"size": 3}], "tags": {"a.b": "x", "$c": "1"}});
        assert_eq!(value, Some(wanted));
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in ["", "canary", "[]", "7", r#"{"ns":7}"#, r#"{"operationType":null}"#] {
            assert!(record(text.as_bytes(), None).is_err(), "{text}");
        }
    }
}
