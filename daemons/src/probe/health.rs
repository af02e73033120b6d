//! Whether the parts of a process are well.

use std::future::Future;

use serde::Serialize;

/// What is wrong with a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TroubleStatus {
    /// It was not made yet.
    Undefined,
    /// It is there, and does not work yet or any more.
    NotReady,
    /// It lost what it talks to.
    NotConnected,
    /// It takes too long.
    TimedOut,
}

/// A part that is not well, as probes tell it (replication reference 1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    component: String,
    status: TroubleStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<String>,
}

impl Trouble {
    /// A part, called as upstream calls it, and what is wrong with it.
    pub fn new(component: impl Into<String>, status: TroubleStatus) -> Self {
        Self { component: component.into(), status, code: None, topic: None, site: None }
    }

    /// ZooKeeper is away; `code` is the state of the client by upstream's numbers, 0 for disconnected.
    pub fn zookeeper(code: i32) -> Self {
        Self { code: Some(code), ..Self::new("Zookeeper", TroubleStatus::NotConnected) }
    }

    /// The reader of a journal does not publish on `topic`.
    pub fn log_reader(topic: impl Into<String>) -> Self {
        Self { topic: Some(topic.into()), ..Self::new("log reader", TroubleStatus::NotReady) }
    }

    /// A consumer.
    pub fn consumer(status: TroubleStatus) -> Self {
        Self::new("Consumer", status)
    }

    /// The producer of a site processor's status messages.
    pub fn status_producer(status: TroubleStatus) -> Self {
        Self::new("Replication Status Producer", status)
    }

    /// The producer of failure records.
    pub fn failed_producer(status: TroubleStatus) -> Self {
        Self::new("Failed CRR Producer", status)
    }

    /// The producer of a replay topic.
    pub fn replay_producer(topic: &str, status: TroubleStatus) -> Self {
        Self::new(format!("Replay CRR Producer to {topic}"), status)
    }

    /// The same, of this site.
    pub fn of_site(self, site: impl Into<String>) -> Self {
        Self { site: Some(site.into()), ..self }
    }
}

/// Says what is not well. A function that gives the list will do.
pub trait Health: Send + Sync + 'static {
    /// The parts that are not well; none if all are.
    fn troubles(&self) -> impl Future<Output = Vec<Trouble>> + Send;
}

impl<F, A> Health for F
where
    F: Fn() -> A + Send + Sync + 'static,
    A: Future<Output = Vec<Trouble>> + Send,
{
    fn troubles(&self) -> impl Future<Output = Vec<Trouble>> + Send {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_told_as_upstream_tells_them() {
        let troubles = [
            Trouble::zookeeper(0),
            Trouble::log_reader("backbeat-replication"),
            Trouble::status_producer(TroubleStatus::Undefined).of_site("paris"),
            Trouble::consumer(TroubleStatus::NotReady).of_site("paris"),
            Trouble::failed_producer(TroubleStatus::NotReady),
            Trouble::replay_producer("replay-0", TroubleStatus::Undefined),
        ];
        let expected = [
            r#"{"component":"Zookeeper","status":"NOT_CONNECTED","code":0}"#,
            r#"{"component":"log reader","status":"NOT_READY","topic":"backbeat-replication"}"#,
            r#"{"component":"Replication Status Producer","status":"UNDEFINED","site":"paris"}"#,
            r#"{"component":"Consumer","status":"NOT_READY","site":"paris"}"#,
            r#"{"component":"Failed CRR Producer","status":"NOT_READY"}"#,
            r#"{"component":"Replay CRR Producer to replay-0","status":"UNDEFINED"}"#,
        ];
        for (trouble, expected) in troubles.iter().zip(expected) {
            assert_eq!(serde_json::to_string(trouble).expect("it has a JSON form"), expected);
        }
    }
}
