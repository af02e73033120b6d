//! Which events go to which queue: in the form in which upstream's notification extension reads it.

use crate::site::error::{Outcome, Refusal};
use crate::site::random::uuid;
use s3s::dto::{
    FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter,
    QueueConfiguration, S3KeyFilter,
};
use serde::{Deserialize, Serialize};

/// What queues are named with.
const ARN: &str = "arn:scality:bucketnotif";
const ID_MAX: usize = 255;
/// The events there are (extensions reference D.3).
const EVENTS: [&str; 20] = [
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:ObjectTagging:*",
    "s3:ObjectTagging:Put",
    "s3:ObjectTagging:Delete",
    "s3:ObjectAcl:Put",
    "s3:ObjectRestore:*",
    "s3:ObjectRestore:Post",
    "s3:ObjectRestore:Completed",
    "s3:ObjectRestore:Delete",
    "s3:LifecycleTransition",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
    "s3:LifecycleExpiration:Delete",
    "s3:Replication:OperationFailedReplication",
];

/// The configuration of a bucket; without queues it means that there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::site) struct Notification {
    #[serde(rename = "queueConfig", default, skip_serializing_if = "Vec::is_empty")]
    queues: Vec<Queue>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Queue {
    events: Vec<String>,
    #[serde(rename = "queueArn")]
    arn: String,
    #[serde(rename = "filterRules", default, skip_serializing_if = "Vec::is_empty")]
    filters: Vec<Filter>,
    id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Filter {
    name: String,
    value: String,
}

impl Notification {
    /// What a client asks for.
    pub(in crate::site) fn parse(asked: NotificationConfiguration) -> Outcome<Self> {
        let has_others = asked.topic_configurations.is_some_and(|list| !list.is_empty())
            || asked.lambda_function_configurations.is_some_and(|list| !list.is_empty())
            || asked.event_bridge_configuration.is_some();
        if has_others {
            return Err(Refusal::not_implemented());
        }
        let queues = asked.queue_configurations.unwrap_or_default().into_iter().map(Queue::parse);
        let queues: Vec<Queue> = queues.collect::<Outcome<_>>()?;
        let is_double = queues
            .iter()
            .enumerate()
            .any(|(at, queue)| queues[..at].iter().any(|earlier| earlier.id == queue.id));
        if is_double {
            return Err(Refusal::invalid_request("queue configuration ID must be unique"));
        }
        Ok(Self { queues })
    }

    /// As S3 shows it.
    pub(in crate::site) fn shown(self) -> Vec<QueueConfiguration> {
        self.queues.into_iter().map(Queue::shown).collect()
    }
}

impl Queue {
    fn parse(asked: QueueConfiguration) -> Outcome<Self> {
        let events: Vec<String> = asked.events.into_iter().map(String::from).collect();
        if events.is_empty() {
            return Err(Refusal::malformed_xml());
        }
        if events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
            return Err(Refusal::malformed_xml());
        }
        let parts: Vec<&str> = asked.queue_arn.split(':').collect();
        if parts.len() != 6 || !asked.queue_arn.starts_with(ARN) || parts[5].is_empty() {
            return Err(Refusal::malformed_xml());
        }
        let id = match asked.id.filter(|id| !id.is_empty()) {
            Some(id) if id.len() > ID_MAX => {
                let message = "queue configuration ID is greater than 255 characters long";
                return Err(Refusal::invalid_argument().with_message(message));
            }
            Some(id) => id,
            None => uuid()?,
        };
        let rules = asked.filter.and_then(|filter| filter.key).and_then(|key| key.filter_rules);
        let filters = rules.unwrap_or_default().into_iter().map(|rule| {
            let name = rule.name.ok_or(Refusal::malformed_xml())?;
            let name = match name.as_str().to_ascii_lowercase().as_str() {
                "prefix" => "Prefix",
                "suffix" => "Suffix",
                _ => return Err(Refusal::malformed_xml()),
            };
            Ok(Filter { name: name.into(), value: rule.value.unwrap_or_default() })
        });
        Ok(Self { events, arn: asked.queue_arn, filters: filters.collect::<Outcome<_>>()?, id })
    }

    fn shown(self) -> QueueConfiguration {
        let rules: Vec<FilterRule> = self
            .filters
            .into_iter()
            .map(|filter| FilterRule {
                name: Some(FilterRuleName::from(filter.name)),
                value: Some(filter.value),
            })
            .collect();
        let filter = (!rules.is_empty()).then_some(NotificationConfigurationFilter {
            key: Some(S3KeyFilter { filter_rules: Some(rules) }),
        });
        QueueConfiguration {
            events: self.events.into_iter().map(Into::into).collect(),
            filter,
            id: Some(self.id),
            queue_arn: self.arn,
        }
    }
}
