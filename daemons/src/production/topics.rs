//! Makes sure of the topics before anything is read or written: those of one key's way must have equally many partitions
//! (decision D5).

use backbeat_backends::queue::{PARTITIONS_DEFAULT, Queue, TopicSpec};
use backbeat_core::call::{Ending, RefusalKind};
use backbeat_core::id::Topic;

use super::StartError;
use crate::driver::Topics;

/// Checks the topics and `others`, makes those that are missing, and gives the number of partitions of the replication topic. If that
/// one has to be made, it gets `wanted` partitions.
///
/// # Errors
/// Topics that do not fit together, or a queue that does not answer.
pub(super) async fn provide<Q: Queue>(
    queue: &Q,
    topics: &Topics,
    others: &[Topic],
    wanted: Option<u32>,
) -> Result<u32, StartError> {
    let found = partitions(queue, &topics.replication).await?;
    let count = found.or(wanted).unwrap_or(PARTITIONS_DEFAULT);
    for spec in topics.specs().into_iter().chain(others.iter().cloned().map(TopicSpec::new)) {
        let goes_along = [&topics.replication, &topics.exceptions].contains(&&spec.topic)
            || topics.replays.contains(&spec.topic);
        let of_topic = partitions(queue, &spec.topic).await?;
        if let Some(other) = of_topic
            && goes_along
            && other != count
        {
            return Err(StartError::Configuration(format!(
                "topic {} has {other} partitions, and {} has {count}: they must have equally many; make it anew, or \
                 add partitions while nothing waits in it",
                spec.topic, topics.replication
            )));
        }
        let name = spec.topic.clone();
        let made = queue.create_topic(&spec.partitioned(of_topic.unwrap_or(count))).await;
        match made {
            Ending::Applied(()) => {
                if of_topic.is_none() {
                    tracing::info!(topic = %name, partitions = count, "topic made");
                }
            }
            Ending::Refused(refusal) => {
                return Err(StartError::Unavailable(format!(
                    "topic {name} cannot be used: {}",
                    refusal.code
                )));
            }
            Ending::Unknown => {
                return Err(StartError::Unavailable(format!("kafka does not answer about topic {name}")));
            }
        }
    }
    Ok(count)
}

async fn partitions<Q: Queue>(queue: &Q, topic: &Topic) -> Result<Option<u32>, StartError> {
    match queue.partitions(topic).await {
        Ending::Applied(count) => Ok(Some(count)),
        Ending::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
        Ending::Refused(refusal) => {
            Err(StartError::Unavailable(format!("topic {topic} cannot be looked at: {}", refusal.code)))
        }
        Ending::Unknown => Err(StartError::Unavailable(format!("kafka does not answer about topic {topic}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::settings;
    use backbeat_backends::clock::WallClock;
    use backbeat_backends::queue::memory::MemoryQueue;

    fn topics() -> Topics {
        settings::topics(&Config::load(None, []).expect("the defaults are valid"))
    }

    #[tokio::test]
    async fn what_is_missing_gets_as_many_partitions_as_there_are() {
        let (queue, topics) = (MemoryQueue::new(WallClock::system()), topics());
        let status = TopicSpec::new(topics.status.clone()).partitioned(3);
        assert_eq!(queue.create_topic(&status).await, Ending::Applied(()));
        let replication = TopicSpec::new(topics.replication.clone()).partitioned(7);
        assert_eq!(queue.create_topic(&replication).await, Ending::Applied(()));
        assert_eq!(provide(&queue, &topics, &[Topic::from("other")], Some(5)).await.expect("they fit"), 7);
        assert_eq!(queue.partitions(&topics.exceptions).await, Ending::Applied(7));
        assert_eq!(queue.partitions(&topics.status).await, Ending::Applied(3), "it goes its own way");
        assert_eq!(provide(&queue, &topics, &[], None).await.expect("they still fit"), 7);
    }

    #[tokio::test]
    async fn topics_that_do_not_fit_together_are_named() {
        let (queue, topics) = (MemoryQueue::new(WallClock::system()), topics());
        let replay = TopicSpec::new(topics.replays[0].clone()).partitioned(2);
        assert_eq!(queue.create_topic(&replay).await, Ending::Applied(()));
        let error = provide(&queue, &topics, &[Topic::from("other")], Some(5))
            .await
            .expect_err("2 and 5")
            .to_string();
        assert!(error.contains("backbeat-replication-replay-0 has 2 partitions"), "{error}");
    }
}
