use backbeat_core::model::{ByteRange, PartRanges};
use serde_json::{Value, json};

use crate::Outcome;
use crate::compare::{expect, json as parse, member};

pub(crate) fn check(case: &str, _shared: &Value) -> Outcome {
    let case = parse(case)?;
    let length = member(&case, "contentLength")?.as_u64().ok_or("`contentLength` is not a size")?;
    let gcp = member(&case, "gcp")?.as_bool().ok_or("`gcp` is not a flag")?;
    let plan = PartRanges::new(length, gcp);
    let range = |range: Option<ByteRange>| range.map(|range| json!({"start": range.start, "end": range.end}));
    let found = json!({
        "contentLength": length,
        "gcp": gcp,
        "count": plan.count(),
        "first": range(plan.range(0)),
        "second": range(plan.range(1)),
        "last": range(plan.range(plan.count() - 1)),
    });
    for (name, found) in found.as_object().into_iter().flatten() {
        expect(name, found, member(&case, name)?)?;
    }
    match case.get("ranges") {
        Some(wanted) if wanted.is_array() => {
            let all: Vec<Value> = plan.ranges().map(|part| json!(range(part))).collect();
            expect("ranges", &Value::Array(all), wanted)
        }
        _ => Ok(()),
    }
}
