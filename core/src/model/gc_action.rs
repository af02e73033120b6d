//! The action that asks the garbage collector to delete data (replication reference 6.5).

use super::json_text::{write_name, write_string};
use super::{Location, ObjectEntry};

/// Data of a transient source location that every site now has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcAction {
    entry: ObjectEntry,
}

impl GcAction {
    pub(super) fn transient_source(entry: &ObjectEntry) -> Self {
        Self { entry: entry.clone() }
    }

    /// The data to delete, one location per part.
    pub fn locations(&self) -> Vec<Location> {
        self.entry.md().reduced_locations()
    }

    /// The message. `action_id` is a fresh UUID, `request_id` what log lines of this work carry.
    pub fn to_message(&self, action_id: &str, request_id: &str) -> String {
        let entry = &self.entry;
        let md = entry.md();
        let mut out = String::from("{");
        let text = |out: &mut String, name: &str, value: &str| {
            write_name(out, name);
            write_string(out, value);
        };
        text(&mut out, "actionId", action_id);
        text(&mut out, "action", "deleteData");
        out.push_str(",\"contextInfo\":{");
        text(&mut out, "origin", "transientSource");
        text(&mut out, "reqId", request_id);
        text(&mut out, "ruleType", "transient");
        text(&mut out, "bucket", entry.bucket().as_str());
        text(&mut out, "objectKey", entry.object_key().as_str());
        if let Some(version) = md.version_ref().raw() {
            text(&mut out, "versionId", version);
        }
        for (name, flag) in [("isDeleteMarker", md.is_delete_marker()), ("ignore", entry.ignore)] {
            write_name(&mut out, name);
            out.push_str(if flag { "true" } else { "false" });
        }
        out.push_str("},\"source\":{");
        text(&mut out, "bucket", entry.bucket().as_str());
        text(&mut out, "objectKey", entry.object_key().as_str());
        text(&mut out, "storageClass", md.data_store_name());
        text(&mut out, "lastModified", md.last_modified());
        out.push_str("},\"target\":{\"locations\":[");
        for (index, location) in self.locations().into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            // Readers know the members of upstream's typed location only, which lacks the type.
            location.stored_at(&location).write(&mut out);
        }
        out.push_str("],\"accountId\":null");
        text(&mut out, "owner", md.owner_id());
        out.push_str("}}");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::ObjectMd;
    use super::*;
    use crate::id::{Bucket, ObjectKey};

    #[test]
    fn the_message_names_the_data_of_every_part() {
        let md = r#"{"owner-id":"o","dataStoreName":"here","last-modified":"2020-01-01T00:00:00.000Z","versionId":"v1","location":[{"key":"k1","size":3,"start":0,"dataStoreName":"here","dataStoreETag":"1:e1","dataStoreType":"file"},{"key":"k2","size":4,"start":3,"dataStoreName":"here","dataStoreETag":"2:e2","dataStoreType":"file"}]}"#;
        let md = ObjectMd::parse(md).expect("a document");
        let key = ObjectKey::from("key \"1\"");
        let action = GcAction::transient_source(&ObjectEntry::of(Bucket::from("b"), &key, md));
        assert_eq!(action.locations().len(), 2);
        let message = action.to_message("action", "request");
        let message: serde_json::Value = serde_json::from_str(&message).expect("it is JSON");
        assert_eq!(message["action"], "deleteData");
        assert_eq!(
            (&message["actionId"], &message["contextInfo"]["reqId"]),
            (&"action".into(), &"request".into())
        );
        assert_eq!(message["contextInfo"]["ruleType"], "transient");
        assert_eq!(message["contextInfo"]["versionId"], "v1");
        assert_eq!(message["source"]["objectKey"], "key \"1\"");
        assert_eq!(message["source"]["storageClass"], "here");
        assert_eq!(message["target"]["owner"], "o");
        let keys: Vec<&str> = message["target"]["locations"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|location| location["key"].as_str())
            .collect();
        assert_eq!(keys, ["k1", "k2"]);
        assert!(message["target"]["locations"][0].get("dataStoreType").is_none());
    }
}
