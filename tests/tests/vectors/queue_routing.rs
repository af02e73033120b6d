use backbeat_core::id::Site;
use backbeat_core::model::{
    AccountId, Message, SiteConfig, SiteKind, Task, dedupe_key, ordering_key, parse_message, route,
};
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, member, text};

pub(crate) fn check(case: &str, shared: &Value) -> Outcome {
    let case = parse(case)?;
    let site: Site = text(&case, "site")?.into();
    let message = parse_message(text(&case, "message")?.as_bytes());
    let wanted = member(&case, "parsed")?;
    let found = describe(&message);
    for (name, wanted) in wanted.as_object().into_iter().flatten() {
        expect(name, &found[name], wanted)?;
    }
    let task = match route(&message, &site, &sites(shared)?) {
        Task::None => "none",
        Task::Replicate => "Replicate",
        Task::MultipleBackend => "MultipleBackend",
        Task::Echo => "Echo",
    };
    expect("task", &json!(task), member(&case, "task")?)?;
    let invalid = matches!(message, Message::Invalid { .. } | Message::Bootstrap);
    expect("error", &json!(invalid), &json!(!member(&case, "error")?.is_null()))?;
    if let Message::Object(entry) = &message {
        expect("queueKey", &json!(ordering_key(entry)), member(&case, "queueKey")?)?;
        expect("dedupeKey", &json!(dedupe_key(entry)), member(&case, "dedupeKey")?)?;
    }
    Ok(())
}

fn describe(message: &Message) -> Value {
    match message {
        Message::Object(entry) => json!({
            "type": "ObjectQueueEntry",
            "bucket": entry.bucket().as_str(),
            "objectKey": entry.object_key().as_str(),
            "versionedKey": entry.versioned_key(),
            "site": entry.site.as_ref().map(Site::as_str),
            "replayCount": entry.replay_count,
            "accountId": match &entry.account_id {
                AccountId::Known(id) => Some(&**id),
                AccountId::Absent | AccountId::Null => None,
            },
            "encodedVersionId": entry.md().version_ref().query(),
        }),
        Message::Canary => json!({"skip": true}),
        Message::Bootstrap | Message::Invalid { .. } => json!({"error": true}),
        Message::DeleteOp { bucket, key } => json!({
            "type": "DeleteOpQueueEntry",
            "bucket": bucket.as_str(),
            "objectKey": backbeat_core::model::object_key(key),
            "versionedKey": &**key,
        }),
        Message::Bucket { bucket, .. } => json!({"type": "BucketQueueEntry", "bucket": bucket.as_str()}),
        Message::BucketMd { .. } => json!({"type": "BucketMdQueueEntry"}),
        Message::Action(_) => json!({"type": "ActionQueueEntry"}),
    }
}

fn sites(shared: &Value) -> Result<Vec<SiteConfig>, String> {
    let list = member(shared, "bootstrapList")?.as_array().ok_or("`bootstrapList` is not an array")?;
    list.iter()
        .map(|entry| {
            let servers = entry["servers"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let kind = match entry["type"].as_str() {
                Some(kind) => SiteKind::Typed(kind.to_owned()),
                None => SiteKind::Scality {
                    servers: servers.map(str::to_owned).collect(),
                    echo: entry["echo"].as_bool() == Some(true),
                },
            };
            Ok(SiteConfig {
                site: text(entry, "site")?.into(),
                kind,
                is_default: entry["default"].as_bool() == Some(true),
            })
        })
        .collect()
}
