use backbeat_core::id::Topic;
use backbeat_core::model::{
    Message, NoChange, ObjectMd, Report, StatusAction, StatusConfig, StatusPlan, decide_status, parse_message,
};
use backbeat_core::time::WallTime;
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, member, text};
use crate::status_transitions::opened;

pub(crate) fn check(case: &str, _shared: &Value) -> Outcome {
    let case = parse(case)?;
    let Message::Object(message) = parse_message(member(&case, "statusEntry")?.to_string().as_bytes()) else {
        return Err("the status message is no object entry".to_owned());
    };
    let object = message.object_ref();
    let query = object.version.metadata_query();
    let get = json!({"bucket": object.bucket.as_str(), "objectKey": object.key.as_str(), "versionId": query});
    let fails = |name: &str| case.get(name).is_some_and(|error| !error.is_null());
    let nothing = || StatusPlan {
        action: StatusAction::NoChange(NoChange::OtherRevision),
        failure: None,
        gc: None,
        metric: None,
    };
    let plan = match Report::of(&message) {
        Err(found) => {
            if case["error"] != "InternalError" {
                return Err(format!("the report was refused: {found}"));
            }
            expect("metadataGet", &Value::Null, member(&case, "metadataGet")?)?;
            nothing()
        }
        Ok(report) => {
            expect("metadataGet", &get, member(&case, "metadataGet")?)?;
            expect("error", &json!(case["error"] == "InternalError"), &json!(false))?;
            if fails("getMetadataError") {
                nothing()
            } else {
                let stored = ObjectMd::parse(&member(&case, "storedMetadata")?.to_string());
                let stored = stored.map_err(|error| error.to_string())?;
                let now = milliseconds(text(&case, "now")?).ok_or("`now` is not a time")?;
                let config = config(member(&case, "config")?)?;
                let plan = decide_status(&report, &message, &stored, &config, WallTime::from_millis(now));
                // What follows a write does not happen when the write fails.
                if fails("putMetadataError") { StatusPlan { action: plan.action, ..nothing() } } else { plan }
            }
        }
    };
    let (mut put, mut replays) = (Value::Null, Vec::new());
    match &plan.action {
        StatusAction::NoChange(_) => {}
        StatusAction::Write(md) => {
            put = get.clone();
            put["metadata"] = parse(&md.to_model_json())?;
        }
        StatusAction::Replay { topic, entry } => {
            let (key, message) = entry.to_kafka(None);
            replays.push(json!({"topic": topic.as_str(), "key": key, "message": opened(parse(&message)?)?}));
        }
        StatusAction::Republish(_) => return Err("the stored revision was taken for another one".to_owned()),
    }
    expect("metadataPut", &put, member(&case, "metadataPut")?)?;
    let wanted = member(&case, "replayPublished")?.as_array().cloned().unwrap_or_default();
    let wanted = wanted.into_iter().map(|mut replay| {
        replay["message"] = opened(replay["message"].clone())?;
        Ok(replay)
    });
    expect("replayPublished", &json!(replays), &wanted.collect::<Result<Value, String>>()?)?;
    let failures = plan.failure.iter().map(|record| parse(&record.to_message()));
    expect(
        "failedPublished",
        &failures.collect::<Result<Value, String>>()?,
        member(&case, "failedPublished")?,
    )?;
    let actions = plan.gc.iter().map(|action| parse(&action.to_message("*", "*")));
    expect("gcActions", &actions.collect::<Result<Value, String>>()?, member(&case, "gcActions")?)?;
    let metrics: Value = plan
        .metric
        .iter()
        .map(|metric| {
            let count = json!({"ops": metric.ops, "bytes": metric.bytes});
            json!({"type": metric.kind.as_str(), "data": {metric.site.as_str(): count}})
        })
        .collect();
    expect("siteMetrics", &metrics, member(&case, "siteMetrics")?)
}

fn config(config: &Value) -> Result<StatusConfig, String> {
    let names = |name: &str| config[name].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(StatusConfig {
        replay_topics: names("replayTopics").map(Topic::from).collect(),
        monitor_failures: member(config, "monitorReplicationFailures")?.as_bool().unwrap_or(false),
        transient_locations: names("transientLocations").map(str::to_owned).collect(),
    })
}

/// Milliseconds since the epoch of a time like `2024-10-01T12:34:56.789Z`.
fn milliseconds(time: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days since 1970-01-01 in the proleptic Gregorian calendar, with years that begin in March.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era_days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400;
    let days = era_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = (days * 24 + number(11..13)?) * 3600 + number(14..16)? * 60 + number(17..19)?;
    Some(seconds * 1000 + number(20..23)?)
}
