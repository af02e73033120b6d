//! Lifecycle configurations: checked, kept in CloudServer's form, and shown in S3's.

use crate::site::error::{Outcome, Refusal};
use crate::site::random::uuid;
use crate::timestamp::{iso, parse_iso, timestamp};
use s3s::dto::{
    AbortIncompleteMultipartUpload, ExpirationStatus, LifecycleExpiration, LifecycleRule,
    LifecycleRuleAndOperator, LifecycleRuleFilter, NoncurrentVersionExpiration, NoncurrentVersionTransition,
    Tag, Timestamp, TimestampFormat, Transition,
};
use serde::{Deserialize, Serialize};

const RULES_MAX: usize = 1000;
const ID_MAX: usize = 255;
const DAY_MS: u64 = 86_400_000;

/// The configuration of a bucket (extensions reference A.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::site) struct Lifecycle {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    #[serde(rename = "ruleID")]
    id: String,
    #[serde(rename = "ruleStatus")]
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    actions: Vec<Action>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Filter {
    #[serde(rename = "rulePrefix", skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<FilterTag>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FilterTag {
    key: String,
    val: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    #[serde(rename = "actionName")]
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newer_noncurrent_versions: Option<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    transition: Vec<Step>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    non_current_version_transition: Vec<NoncurrentStep>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    storage_class: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NoncurrentStep {
    noncurrent_days: i32,
    storage_class: String,
}

impl Lifecycle {
    /// What a client asks for; transitions go to one of `classes`.
    pub(in crate::site) fn parse(asked: Vec<LifecycleRule>, classes: &[String]) -> Outcome<Self> {
        if asked.is_empty() || asked.len() > RULES_MAX {
            return Err(Refusal::malformed_xml());
        }
        let rules = asked.into_iter().map(|rule| Rule::parse(rule, classes));
        let rules: Vec<Rule> = rules.collect::<Outcome<_>>()?;
        let is_double = rules
            .iter()
            .enumerate()
            .any(|(at, rule)| rules[..at].iter().any(|earlier| earlier.id == rule.id));
        if is_double {
            return Err(refuse("Rule ID must be unique. Found same ID for more than one rule"));
        }
        Ok(Self { rules })
    }

    /// As S3 shows it.
    pub(in crate::site) fn shown(self) -> Vec<LifecycleRule> {
        self.rules.into_iter().map(Rule::shown).collect()
    }
}

fn refuse(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::invalid_argument().with_message(message)
}

/// A time at midnight, as rules must have it.
fn midnight(date: &Timestamp) -> Outcome<String> {
    let mut text = Vec::new();
    let written = date.format(TimestampFormat::DateTime, &mut text).ok();
    let ms = written.and_then(|()| parse_iso(std::str::from_utf8(&text).ok()?));
    let ms = ms.ok_or(Refusal::malformed_xml())?;
    if ms % DAY_MS != 0 {
        return Err(refuse("'Date' must be at midnight GMT"));
    }
    Ok(iso(ms))
}

fn at_least(days: i32, least: i32, of: &str) -> Outcome<i32> {
    if days >= least {
        return Ok(days);
    }
    let kind = if least == 0 { "nonnegative" } else { "positive" };
    Err(refuse(format!("'Days' for {of} action must be a {kind} integer")))
}

impl Filter {
    fn parse(asked: LifecycleRuleFilter) -> Outcome<Self> {
        let has_size = |greater: Option<i64>, less: Option<i64>| greater.is_some() || less.is_some();
        if has_size(asked.object_size_greater_than, asked.object_size_less_than) {
            // Upstream drops what it does not know, which leaves a rule for the whole bucket.
            return Err(Refusal::not_implemented());
        }
        let tag = |tag: Tag| {
            let (key, val) = (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
            if key.is_empty() || key.chars().count() > 128 || val.chars().count() > 256 {
                return Err(refuse("Tag 'Key' or 'Value' is too long or missing"));
            }
            Ok(FilterTag { key, val })
        };
        match (asked.and, asked.prefix, asked.tag) {
            (None, prefix, None) => Ok(Self { prefix, tags: Vec::new() }),
            (None, None, Some(one)) => Ok(Self { prefix: None, tags: vec![tag(one)?] }),
            (Some(and), None, None) => {
                if has_size(and.object_size_greater_than, and.object_size_less_than) {
                    return Err(Refusal::not_implemented());
                }
                let tags = and.tags.unwrap_or_default().into_iter().map(tag);
                let tags: Vec<FilterTag> = tags.collect::<Outcome<_>>()?;
                if tags.len() + usize::from(and.prefix.is_some()) < 2 {
                    return Err(Refusal::malformed_xml());
                }
                let is_double = tags
                    .iter()
                    .enumerate()
                    .any(|(at, tag)| tags[..at].iter().any(|other| other.key == tag.key));
                if is_double {
                    return Err(Refusal::invalid_request("Tag Keys must be unique"));
                }
                Ok(Self { prefix: and.prefix, tags })
            }
            _ => Err(Refusal::malformed_xml()),
        }
    }

    fn shown(self) -> LifecycleRuleFilter {
        let mut tags: Vec<Tag> =
            self.tags.into_iter().map(|tag| Tag { key: Some(tag.key), value: Some(tag.val) }).collect();
        let mut shown = LifecycleRuleFilter::default();
        match (tags.len(), self.prefix) {
            (0, prefix) => shown.prefix = Some(prefix.unwrap_or_default()),
            (1, None) => shown.tag = tags.pop(),
            (_, prefix) => {
                shown.and = Some(LifecycleRuleAndOperator {
                    prefix,
                    tags: Some(tags),
                    ..LifecycleRuleAndOperator::default()
                });
            }
        }
        shown
    }
}

impl Rule {
    fn parse(asked: LifecycleRule, classes: &[String]) -> Outcome<Self> {
        let status = asked.status.as_str();
        if status != ExpirationStatus::ENABLED && status != ExpirationStatus::DISABLED {
            return Err(Refusal::malformed_xml());
        }
        let id = match asked.id.filter(|id| !id.is_empty()) {
            Some(id) if id.chars().count() > ID_MAX => {
                return Err(refuse("Rule ID is greater than 255 characters long"));
            }
            Some(id) => id,
            None => uuid()?,
        };
        let filter = match (&asked.prefix, asked.filter) {
            (Some(_), None) => None,
            (None, Some(filter)) => Some(Filter::parse(filter)?),
            (Some(_), Some(_)) | (None, None) => return Err(Refusal::malformed_xml()),
        };
        let has_tags = filter.as_ref().is_some_and(|filter| !filter.tags.is_empty());
        let class = |class: Option<s3s::dto::TransitionStorageClass>| {
            let class = class.map(|class| class.as_str().to_owned()).ok_or(Refusal::malformed_xml())?;
            if classes.contains(&class) { Ok(class) } else { Err(Refusal::malformed_xml()) }
        };
        let mut actions = Vec::new();
        if let Some(expiration) = asked.expiration {
            let mut action = Action { name: "Expiration".into(), ..Action::default() };
            match (expiration.days, &expiration.date, expiration.expired_object_delete_marker) {
                (Some(days), None, None) => action.days = Some(at_least(days, 1, "Expiration")?),
                (None, Some(date), None) => action.date = Some(midnight(date)?),
                (None, None, Some(_)) if has_tags => {
                    return Err(Refusal::invalid_request(
                        "Tag-based filter cannot be used with ExpiredObjectDeleteMarker action",
                    ));
                }
                (None, None, Some(marker)) => action.delete_marker = Some(marker.to_string()),
                _ => return Err(Refusal::malformed_xml()),
            }
            actions.push(action);
        }
        if let Some(expiration) = asked.noncurrent_version_expiration {
            let days = expiration.noncurrent_days.ok_or(Refusal::malformed_xml())?;
            if expiration.newer_noncurrent_versions.is_some_and(|kept| kept < 1) {
                return Err(refuse("'NewerNoncurrentVersions' must be a positive integer"));
            }
            actions.push(Action {
                name: "NoncurrentVersionExpiration".into(),
                days: Some(at_least(days, 1, "NoncurrentVersionExpiration")?),
                newer_noncurrent_versions: Some(expiration.newer_noncurrent_versions.unwrap_or(0)),
                ..Action::default()
            });
        }
        if let Some(abort) = asked.abort_incomplete_multipart_upload {
            if has_tags {
                return Err(Refusal::invalid_request(
                    "Tag-based filter cannot be used with AbortIncompleteMultipartUpload action",
                ));
            }
            let days = abort.days_after_initiation.ok_or(Refusal::malformed_xml())?;
            actions.push(Action {
                name: "AbortIncompleteMultipartUpload".into(),
                days: Some(at_least(days, 1, "AbortIncompleteMultipartUpload")?),
                ..Action::default()
            });
        }
        let steps = asked.transitions.unwrap_or_default().into_iter().map(|step| {
            let (days, date) = match (step.days, &step.date) {
                (Some(days), None) => (Some(at_least(days, 0, "Transition")?), None),
                (None, Some(date)) => (None, Some(midnight(date)?)),
                (Some(_), Some(_)) | (None, None) => return Err(Refusal::malformed_xml()),
            };
            Ok(Step { days, date, storage_class: class(step.storage_class)? })
        });
        let transition: Vec<Step> = steps.collect::<Outcome<_>>()?;
        if !transition.is_empty() {
            actions.push(Action { name: "Transition".into(), transition, ..Action::default() });
        }
        let steps = asked.noncurrent_version_transitions.unwrap_or_default().into_iter().map(|step| {
            let days = step.noncurrent_days.ok_or(Refusal::malformed_xml())?;
            let noncurrent_days = at_least(days, 0, "NoncurrentVersionTransition")?;
            Ok(NoncurrentStep { noncurrent_days, storage_class: class(step.storage_class)? })
        });
        let steps: Vec<NoncurrentStep> = steps.collect::<Outcome<_>>()?;
        if !steps.is_empty() {
            actions.push(Action {
                name: "NoncurrentVersionTransition".into(),
                non_current_version_transition: steps,
                ..Action::default()
            });
        }
        if actions.is_empty() {
            return Err(Refusal::invalid_request("At least one action needs to be specified in a rule"));
        }
        Ok(Self { id, status: status.to_owned(), prefix: asked.prefix, filter, actions })
    }

    fn shown(self) -> LifecycleRule {
        let mut rule = LifecycleRule {
            abort_incomplete_multipart_upload: None,
            expiration: None,
            filter: self.filter.map(Filter::shown),
            id: Some(self.id),
            noncurrent_version_expiration: None,
            noncurrent_version_transitions: None,
            prefix: self.prefix,
            status: ExpirationStatus::from(self.status),
            transitions: None,
        };
        let date = |text: Option<String>| text.as_deref().and_then(timestamp);
        for action in self.actions {
            match action.name.as_str() {
                "Expiration" => {
                    rule.expiration = Some(LifecycleExpiration {
                        date: date(action.date),
                        days: action.days,
                        expired_object_delete_marker: action.delete_marker.map(|marker| marker == "true"),
                    });
                }
                "NoncurrentVersionExpiration" => {
                    rule.noncurrent_version_expiration = Some(NoncurrentVersionExpiration {
                        newer_noncurrent_versions: action.newer_noncurrent_versions.filter(|kept| *kept > 0),
                        noncurrent_days: action.days,
                    });
                }
                "AbortIncompleteMultipartUpload" => {
                    rule.abort_incomplete_multipart_upload =
                        Some(AbortIncompleteMultipartUpload { days_after_initiation: action.days });
                }
                "Transition" => {
                    let steps = action.transition.into_iter().map(|step| Transition {
                        date: date(step.date),
                        days: step.days,
                        storage_class: Some(step.storage_class.into()),
                    });
                    rule.transitions = Some(steps.collect());
                }
                _ => {
                    let steps = action.non_current_version_transition.into_iter().map(|step| {
                        NoncurrentVersionTransition {
                            newer_noncurrent_versions: None,
                            noncurrent_days: Some(step.noncurrent_days),
                            storage_class: Some(step.storage_class.into()),
                        }
                    });
                    rule.noncurrent_version_transitions = Some(steps.collect());
                }
            }
        }
        rule
    }
}
