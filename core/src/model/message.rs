//! What a message of the replication, status or replay topics is (replication reference 4.1).

use std::sync::Arc;

use smol_str::SmolStr;

use crate::id::{Bucket, Site};

use super::json_text::{Members, RawJson, decode_string, text_of};
use super::key::{USERS_BUCKET, USERS_BUCKET_SEPARATOR, object_key};
use super::log::Field;
use super::{AccountId, ObjectEntry, ObjectMd};

/// A message as parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A version to replicate, or a report about one.
    Object(Box<ObjectEntry>),
    /// Keeps a new group's position alive; nothing to do.
    Canary,
    /// An artefact of upstream's tests; nothing to do, upstream reports an error.
    Bootstrap,
    /// A metadata key was deleted; replication passes over it.
    DeleteOp {
        /// The bucket.
        bucket: Bucket,
        /// The metadata key.
        key: Arc<str>,
    },
    /// A bucket was created.
    Bucket {
        /// The owner's canonical id.
        owner: Arc<str>,
        /// The bucket.
        bucket: Bucket,
        /// What was stored about it.
        value: Arc<str>,
    },
    /// Attributes of a bucket; replication passes over it.
    BucketMd {
        /// The bucket whose attributes they are.
        bucket: Bucket,
    },
    /// An action of the data mover or the garbage collector, as it came.
    Action(RawJson),
    /// Nothing of the above.
    Invalid {
        /// Why; for people.
        reason: String,
    },
}

#[derive(Default)]
struct Envelope<'a> {
    bootstrap: bool,
    canary: bool,
    action: bool,
    kind: &'a str,
    bucket: Option<Field>,
    key: Option<Field>,
    value: Option<&'a str>,
    site: Option<Site>,
    replay_count: Option<i64>,
    account_id: AccountId,
    ignore: bool,
    rest: Vec<(Arc<str>, RawJson)>,
}

impl<'a> Envelope<'a> {
    fn take(&mut self, name: &str, value: &'a str) {
        let field = || match text_of(value) {
            Some(text) => Field::Text(text.as_ref().into()),
            None => Field::Other(RawJson::scanned(value)),
        };
        match name {
            "bootstrapId" => self.bootstrap = true,
            "canary" => self.canary = true,
            "type" => self.kind = value,
            "bucket" => self.bucket = Some(field()),
            "key" => self.key = Some(field()),
            "value" => self.value = Some(value),
            "site" => self.site = text_of(value).map(|site| site.as_ref().into()),
            "replayCount" => self.replay_count = value.parse().ok(),
            "ignore" => self.ignore = value == "true",
            "accountId" => {
                self.account_id =
                    text_of(value).map_or(AccountId::Null, |id| AccountId::Known(id.as_ref().into()));
            }
            // Only the populator's messages carry these; they end with the entry that is made of it.
            "overheadFields" => {}
            _ => {
                self.action |= name == "action";
                let raw = RawJson::scanned(value);
                match self.rest.iter_mut().find(|(known, _)| **known == *name) {
                    Some((_, old)) => *old = raw,
                    None => self.rest.push((name.into(), raw)),
                }
            }
        }
    }
}

/// Understands the value of a queue message. Total: what cannot be understood is [`Message::Invalid`], which must be recorded
/// and must not hold up its partition.
pub fn parse_message(payload: &[u8]) -> Message {
    parse(payload).unwrap_or_else(|reason| Message::Invalid { reason })
}

fn parse(payload: &[u8]) -> Result<Message, String> {
    let text =
        std::str::from_utf8(payload).map_err(|_| "malformed JSON in kafka entry: not UTF-8".to_owned())?;
    let mut envelope = Envelope::default();
    let Some(members) = Members::of(text) else {
        super::json_text::check(text).map_err(|error| format!("malformed JSON in kafka entry: {error}"))?;
        return Err("unknown kafka entry format: not an object".to_owned());
    };
    for member in members {
        let (name, value) = member.map_err(|error| format!("malformed JSON in kafka entry: {error}"))?;
        let name =
            decode_string(name).map_err(|error| format!("unusable member name in kafka entry: {error}"))?;
        envelope.take(&name, value);
    }
    if envelope.bootstrap {
        return Ok(Message::Bootstrap);
    }
    if envelope.canary {
        return Ok(Message::Canary);
    }
    if envelope.kind == "\"del\"" {
        let (bucket, key) = bucket_and_key(&envelope)?;
        return Ok(Message::DeleteOp { bucket, key: key.unwrap_or_default().as_str().into() });
    }
    if envelope.bucket.as_ref().and_then(Field::as_text) == Some(USERS_BUCKET) {
        return bucket_message(&envelope);
    }
    let Some(value) = envelope.value else {
        if envelope.action {
            return Ok(Message::Action(RawJson::scanned(text.trim())));
        }
        return Err("unknown kafka entry format: no value".to_owned());
    };
    let value = text_of(value).ok_or("the value is not text, or not text that Unicode can hold")?;
    if let Some(bucket) = bucket_md(&value, envelope.key.as_ref().and_then(Field::as_text))? {
        return Ok(Message::BucketMd { bucket });
    }
    let md = ObjectMd::parse(&value).map_err(|error| error.to_string())?;
    let (bucket, key) = bucket_and_key(&envelope)?;
    let mut entry = ObjectEntry::new(bucket, key.as_deref().unwrap_or(""), md);
    if key.is_none() {
        entry = entry.without_key();
    }
    entry.site = envelope.site;
    entry.replay_count = envelope.replay_count;
    entry.account_id = envelope.account_id;
    entry.ignore = envelope.ignore;
    entry.envelope = (!envelope.rest.is_empty()).then(|| envelope.rest.into());
    Ok(Message::Object(Box::new(entry)))
}

/// The bucket must be text; the key may be missing (then the object key is empty) but not be anything else.
fn bucket_and_key(envelope: &Envelope<'_>) -> Result<(Bucket, Option<SmolStr>), String> {
    let bucket =
        envelope.bucket.as_ref().and_then(Field::as_text).ok_or("the bucket is missing or not text")?;
    let key = match &envelope.key {
        None => None,
        Some(Field::Text(key)) => Some(key.shared()),
        Some(_) => return Err("the key is not text".to_owned()),
    };
    Ok((bucket.into(), key))
}

fn bucket_message(envelope: &Envelope<'_>) -> Result<Message, String> {
    let key = envelope
        .key
        .as_ref()
        .and_then(Field::as_text)
        .ok_or("the key of a bucket entry is missing or not text")?;
    let (owner, bucket) = key.split_once(USERS_BUCKET_SEPARATOR).unwrap_or((key, ""));
    let value = envelope.value.and_then(text_of).unwrap_or_default();
    Ok(Message::Bucket { owner: owner.into(), bucket: bucket.into(), value: value.as_ref().into() })
}

/// The bucket whose attributes `value` holds, if it holds attributes: directly, then the key names the bucket, or nested as text in
/// `attributes`, then they name it themselves.
fn bucket_md(value: &str, key: Option<&str>) -> Result<Option<Bucket>, String> {
    let (mut model, mut attributes) = (false, None);
    for member in Members::of(value).into_iter().flatten() {
        let (name, value) = member.map_err(|error| format!("malformed JSON in kafka entry: {error}"))?;
        match name {
            "\"mdBucketModelVersion\"" => model = true,
            "\"attributes\"" => attributes = Some(value),
            _ => {}
        }
    }
    if !model && attributes.is_none() {
        return Ok(None);
    }
    let nested = attributes.filter(|_| !model).and_then(text_of).unwrap_or_default();
    let members = Members::of(&nested).into_iter().flatten().filter_map(Result::ok);
    let name = members.filter(|(name, _)| *name == "\"name\"").filter_map(|(_, value)| text_of(value)).last();
    match (name, key) {
        (Some(name), _) => Ok(Some(name.as_ref().into())),
        (None, Some(key)) => Ok(Some(object_key(key).into())),
        (None, None) => Err("the key of bucket attributes is missing or not text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_told_apart_in_upstreams_order() {
        let parse = |text: &str| parse_message(text.as_bytes());
        assert_eq!(parse(r#"{"canary":true}"#), Message::Canary);
        assert_eq!(parse(r#"{"bootstrapId":"x","canary":true}"#), Message::Bootstrap);
        assert!(matches!(
            parse(r#"{"type":"del","bucket":"b","key":"k","value":"{"}"#),
            Message::DeleteOp { .. }
        ));
        assert!(matches!(parse(r#"{"bucket":"users..bucket","key":"o..|..b","value":"{"}"#),
            Message::Bucket { bucket, owner, .. } if bucket.as_str() == "b" && &*owner == "o"));
        assert!(
            matches!(parse(r#"{"bucket":"x","key":"k","value":"{\"attributes\":\"{\\\"name\\\":\\\"n\\\"}\"}"}"#),
            Message::BucketMd { bucket } if bucket.as_str() == "n")
        );
        assert!(matches!(parse(r#"{"action":"deleteData"}"#), Message::Action(_)));
        for text in ["", "{", "7", "{}", r#"{"value":"{}"}"#, r#"{"bucket":"b","key":7,"value":"{}"}"#] {
            assert!(matches!(parse(text), Message::Invalid { .. }), "{text}");
        }
        assert!(matches!(parse_message(b"\xff"), Message::Invalid { .. }));
    }

    #[test]
    fn unknown_members_of_the_envelope_survive() {
        let text = r#"{"bucket":"b","key":"k","value":"{}","workflowId":"w","x":[1.0]}"#;
        let Message::Object(entry) = parse_message(text.as_bytes()) else { panic!("an object entry") };
        let (_, message) = entry.to_kafka(None);
        assert!(message.contains(r#","workflowId":"w","x":[1.0],"ignore":false"#), "{message}");
    }

    proptest! {
        #[test]
        fn parsing_is_total(payload in prop::collection::vec(any::<u8>(), 0..60), value in any::<String>()) {
            parse_message(&payload);
            let text = serde_json::json!({"bucket": "b", "key": "k", "value": value}).to_string();
            parse_message(text.as_bytes());
        }
    }
}
