//! The data mover's topic: requests to copy an object's data to another location (replication reference 7.1, 7.2).
//!
//! No data is moved yet. So that whoever asks does not wait for ever, every request to copy to the site is answered with an
//! error, in the form of upstream's results.

use backbeat_backends::clock::WallClock;
use backbeat_backends::queue::{Message, Queue, Record};
use backbeat_core::id::{Site, Topic};
use backbeat_core::time::WallTime;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::insistence::{Doubt, insist};
use super::reading::Work;
use crate::driver::Publisher;
use crate::timestamp;

/// Answers the requests to copy to one site. Its group is `<queueProcessor.groupId>-<site>`.
pub struct DataMoverWork<Q: Queue> {
    site: Site,
    publisher: Publisher<Q>,
    clock: WallClock,
}

impl<Q: Queue> DataMoverWork<Q> {
    /// Answers for `site` through `publisher`.
    pub fn new(site: Site, publisher: Publisher<Q>, clock: WallClock) -> Self {
        Self { site, publisher, clock }
    }
}

impl<Q: Queue> Work for DataMoverWork<Q> {
    async fn work(&self, messages: &[Message]) {
        for message in messages {
            let (slot, offset) = (&message.slot, message.offset.0);
            let payload = message.payload.as_deref().unwrap_or_default();
            let (topic, result) = match answer(payload, &self.site, self.clock.now()) {
                Ok(Answer::Nothing) => continue,
                Ok(Answer::Result { topic, result }) => (topic, result),
                Err(reason) => {
                    tracing::warn!(%slot, offset, reason, "request to the data mover passed over");
                    continue;
                }
            };
            tracing::warn!(%slot, offset, site = %self.site, "request to move data refused: it is not supported");
            let Some(topic) = topic else { continue };
            let publish = || self.publisher.publish(&topic, Record::unkeyed(result.clone()));
            if let Err(refusal) = insist("answering the data mover", Doubt::Repeat, publish).await {
                let code = refusal.code;
                tracing::error!(%slot, offset, %topic, %code, "the answer of a request to move data has nowhere to go");
            }
        }
    }
}

/// What becomes of a message.
enum Answer {
    /// It is for somebody else, or asks nothing.
    Nothing,
    /// This is published, if there is a topic for it.
    Result { topic: Option<Topic>, result: Bytes },
}

/// The answer to a message; an error if nobody can know what it asks.
fn answer(payload: &[u8], site: &Site, now: WallTime) -> Result<Answer, String> {
    let mut action: Map<String, Value> =
        serde_json::from_slice(payload).map_err(|error| format!("it is no JSON object: {error}"))?;
    if action.contains_key("canary") || action.contains_key("bootstrapId") {
        return Ok(Answer::Nothing);
    }
    match action.get("action").and_then(Value::as_str) {
        Some("copyLocation") => {}
        Some(other) => return Err(format!("its action {other:?} is unknown")),
        None => return Err("it names no action".to_owned()),
    }
    if action.get("toLocation").and_then(Value::as_str) != Some(site.as_str()) {
        return Ok(Answer::Nothing);
    }
    let time = timestamp::format(now);
    action.entry("startTime").or_insert_with(|| json!(time));
    action.insert("endTime".to_owned(), json!(time));
    action.insert("status".to_owned(), json!("error"));
    let error = json!({
        "code": 501,
        "message": "NotImplemented",
        "description": "moving data between locations is not supported by this version",
    });
    action.insert("error".to_owned(), error);
    let topic = action.get("resultsTopic").and_then(Value::as_str).filter(|topic| !topic.is_empty());
    let topic = topic.map(Topic::from);
    Ok(Answer::Result { topic, result: Bytes::from(Value::Object(action).to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consumers::{Membership, start};
    use crate::metrics::Registry;
    use backbeat_backends::queue::memory::MemoryQueue;
    use backbeat_backends::queue::{Consumer as _, ConsumerEvent, Group, Slot, TopicSpec};
    use backbeat_core::call::Ending;
    use backbeat_core::id::Partition;
    use std::sync::Arc;
    use std::time::Duration;

    const COPY: &str = r#"{"actionId":"a-1","action":"copyLocation","contextInfo":{"origin":"lifecycle","reqId":"r"},"target":{"owner":"o","bucket":"b","key":"k","version":"v","eTag":"\"e\"","attempt":1},"toLocation":"cold","resultsTopic":"results","metrics":{"contentLength":5}}"#;

    #[tokio::test(start_paused = true)]
    async fn a_request_to_copy_to_the_site_is_answered_and_everything_else_passed_over() {
        let clock = WallClock::tokio(WallTime::from_millis(1_727_786_100_000));
        let queue = Arc::new(MemoryQueue::new(clock.clone()));
        for topic in ["mover", "results"] {
            queue.create_topic(&TopicSpec::new(topic).partitioned(1)).await;
        }
        let publisher = Publisher::new(Arc::clone(&queue), Registry::default());
        let messages = [
            "no JSON".to_owned(),
            r#"{"canary":true}"#.to_owned(),
            r#"{"action":"fly","toLocation":"cold"}"#.to_owned(),
            COPY.replace("cold", "warm"),
            COPY.replace("\"resultsTopic\":\"results\",", ""),
            COPY.replace("\"results\"", "\"there is none\""),
            COPY.to_owned(),
        ];
        let count = messages.len() as u64;
        for message in messages {
            let sent = publisher.publish(&"mover".into(), Record::keyed("b/k", message)).await;
            assert_eq!(sent, Ending::Applied(()));
        }
        let group = Group::from("backbeat-replication-group-cold");
        let membership = Membership {
            group: group.clone(),
            topics: vec!["mover".into()],
            drain_max: Duration::from_secs(10),
            paused: None,
        };
        let work = DataMoverWork::new("cold".into(), publisher, clock);
        let (handle, task) =
            start(&*queue, membership, work, Registry::default()).await.expect("the topic is there");
        let results = queue.subscribe(&"test".into(), &["results".into()]).await.expect("it is there");
        let result = loop {
            if let ConsumerEvent::Message(message) = results.next().await.expect("the queue works") {
                break message;
            }
        };
        assert_eq!(result.key, None);
        let payload = result.payload.expect("it has a payload");
        let result: Value = serde_json::from_slice(&payload).expect("it is JSON");
        assert_eq!((&result["status"], &result["error"]["code"]), (&json!("error"), &json!(501)));
        assert_eq!(result["error"]["message"], "NotImplemented");
        assert_eq!((&result["actionId"], &result["target"]["key"]), (&json!("a-1"), &json!("k")));
        handle.shut_down();
        task.await.expect("no panic").expect("a clean end");
        let slot = |topic: &str| Slot::new(&topic.into(), Partition(0));
        let Ending::Applied(at) = queue.positions(&group, &slot("mover")).await else {
            panic!("it is there")
        };
        assert_eq!(at.committed.map(|at| at.0), Some(count));
        let Ending::Applied(at) = queue.positions(&group, &slot("results")).await else {
            panic!("it is there")
        };
        assert_eq!(at.end.0, 1);
    }
}
