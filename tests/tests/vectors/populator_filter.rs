use backbeat_core::model::{Decision, FilterConfig, PopulatorEntry, decide};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, text};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case<'a> {
    #[serde(borrow)]
    entry: &'a RawValue,
    has_value: Option<bool>,
    throws: Option<Value>,
    published: Option<Value>,
    site_metrics: Option<Value>,
    objects_counted: Option<Value>,
    bytes_counted: Option<Value>,
}

pub(crate) fn check(case: &str, shared: &Value) -> Outcome {
    let case: Case<'_> = serde_json::from_str(case).map_err(|error| error.to_string())?;
    let entry = PopulatorEntry::parse(case.entry.get()).map_err(|error| error.to_string())?;
    if let Some(has_value) = case.has_value {
        expect("hasValue", &json!(entry.value.is_present()), &json!(has_value))?;
    }
    let config = FilterConfig {
        cold_locations: serde_json::from_value(shared["coldLocations"].clone())
            .map_err(|error| error.to_string())?,
        users_bucket: text(shared, "usersBucket")?.to_owned(),
        mpu_bucket_prefix: text(shared, "mpuBucketPrefix")?.to_owned(),
    };
    let decision = decide(&entry, &config);
    if case.throws.is_some_and(|throws| !throws.is_null()) {
        return match decision {
            Decision::Unreadable(_) => Ok(()),
            other @ (Decision::Ignore(_) | Decision::Publish(_)) => {
                Err(format!("wanted the entry to be unreadable, found {other:?}"))
            }
        };
    }
    let (published, sites, objects, bytes) = match decision {
        Decision::Publish(publish) => {
            let message = json!({"topic": shared["topic"], "key": publish.key, "message": entry.message()});
            (vec![message], publish.sites, publish.objects, publish.bytes)
        }
        Decision::Ignore(_) => (Vec::new(), Vec::new(), 0, 0),
        Decision::Unreadable(reason) => return Err(format!("unreadable: {reason}")),
    };
    expect("published", &Value::Array(published), &case.published.unwrap_or_else(|| json!([])))?;
    let sites: serde_json::Map<String, Value> = sites
        .into_iter()
        .map(|count| (count.site.to_string(), json!({"ops": count.ops, "bytes": count.bytes})))
        .collect();
    let wanted = case.site_metrics.unwrap_or_else(|| json!({}));
    expect("siteMetrics", &Value::Object(sites), &numeric(wanted))?;
    expect("objectsCounted", &json!(objects), &numeric(case.objects_counted.unwrap_or_else(|| json!(0))))?;
    expect("bytesCounted", &json!(bytes), &numeric(case.bytes_counted.unwrap_or_else(|| json!(0))))
}

/// Upstream adds up texts where a size is stored as text; a count is a number here.
fn numeric(value: Value) -> Value {
    match value {
        Value::String(text) => text.parse::<u64>().map_or(Value::String(text), |number| json!(number)),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, numeric(value))).collect(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => other,
    }
}
