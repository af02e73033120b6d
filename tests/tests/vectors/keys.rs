use backbeat_core::model::{is_master, object_key, strip_format_prefix};
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, member};

pub(crate) fn check(case: &str, _shared: &Value) -> Outcome {
    let case = parse(case)?;
    let key = member(&case, "logKey")?.as_str().map(strip_format_prefix);
    let found = json!({
        "logKey": case["logKey"],
        "transformed": key,
        "objectKey": key.map_or("", object_key),
        "isMaster": key.map(is_master),
    });
    expect("keys", &found, &case)
}
